"""What a server process is told from outside, besides its manifest."""

from dataclasses import dataclass
from pathlib import Path

from rerank_api.faces import MAX_BODY_BYTES


@dataclass(frozen=True)
class Settings:
    """How to run, as opposed to what to serve."""

    host: str = "127.0.0.1"
    port: int = 8000
    listen_fd: int | None = None
    """A listening TCP socket that was inherited; `host` and `port` are then not used."""
    threads: int | None = None
    """CPU threads for the model; None takes one for each core that the process may use."""
    engine: str = "auto"
    """The engine that must compute the model, by its name, or auto."""
    cache_dir: Path | None = None
    """Where downloads are kept; None is the hub client's own default."""
    hub_token: str | None = None
    max_body_bytes: int = MAX_BODY_BYTES

"""What a server process is told from outside, besides its manifest."""

from dataclasses import dataclass
from pathlib import Path

from rerank_api.faces import MAX_BODY_BYTES
from rerank_server.admission import LARGE_BATCHES, Limits

QUEUE_REQUESTS = 4096
QUEUE_CHARACTERS = 64_000_000
REQUEST_TIMEOUT_S = 300.0


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
    workers: int | None = None
    """Threads that compute batches side by side; None takes what is fastest at warm-up."""
    request_timeout_s: float = REQUEST_TIMEOUT_S
    """How long a request may take; a caller may ask for less."""
    queue_tokens: int | None = None
    """Tokens that may wait, of small requests and of large ones each; None goes by the speed at warm-up."""
    queue_requests: int = QUEUE_REQUESTS
    """Requests that may be in, waiting or running."""
    queue_characters: int = QUEUE_CHARACTERS
    """Characters of queries and documents that may be in."""

    def limits(self, batch_tokens: int) -> Limits:
        """Return the bounds of the queue before warm-up, for a model with batches of that many tokens."""
        return Limits(
            large_from=LARGE_BATCHES * batch_tokens,
            tokens=self.queue_tokens,
            requests=self.queue_requests,
            characters=self.queue_characters,
        )

"""Envoy as a process: its configuration in a file, and the command that runs it on that."""

import json
from dataclasses import replace

from rerank_gateway import envoy_binary, tls
from rerank_gateway.bootstrap import BootstrapSettings, arguments, bootstrap
from rerank_gateway.release import key

PLAIN_LOG = "%l: %v"
"""A log format for whoever adds the time and the process's name."""


def prepare(settings: BootstrapSettings, *, log_format: str | None = None) -> tuple[str, ...]:
    """Write the bootstrap into the socket directory, and return the command line; the program comes first.

    The file is for its owner alone: Envoy's retry policy takes the release key from nowhere else.

    Raises `OSError` where it cannot be written, `EnvoyNotFoundError` where this machine has no Envoy.
    """
    file = settings.socket_dir / "envoy.json"
    settings = replace(settings, release_key=key(settings.socket_dir))
    file.unlink(missing_ok=True)
    file.touch(mode=0o600)
    file.write_text(json.dumps(bootstrap(settings), indent=1), encoding="utf-8")
    if settings.tls_dir is not None:
        settings.tls_secret.write_text(json.dumps(tls.secret(settings.tls_dir)), encoding="utf-8")
    how = () if log_format is None else ("--log-format", log_format)
    return (str(envoy_binary.find()), *arguments(settings, file), "--log-level", "warning", *how)

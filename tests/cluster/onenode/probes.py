"""Whether a component answers, and waiting until it does."""

import http.client
import socket
import ssl
import time
import urllib.request
from collections.abc import Callable

TIMEOUT_S = 2.0
POLL_S = 0.1


def answers(ready: str) -> bool:
    """Say whether a URL answers 200, or a socket (`unix:` and its path) takes a connection."""
    if ready.startswith("unix:"):
        return _takes_connections(ready.removeprefix("unix:"))
    # Whether it runs is asked here, not who it is: no certificate is looked at.
    handler = urllib.request.HTTPSHandler(context=ssl._create_unverified_context())
    opener = urllib.request.build_opener(urllib.request.ProxyHandler({}), handler)
    try:
        with opener.open(ready, timeout=TIMEOUT_S) as answer:
            return bool(answer.status == 200)
    except (OSError, http.client.HTTPException):
        return False


def wait(holds: Callable[[], bool], within_s: float, unless: Callable[[], bool] = lambda: False) -> bool:
    """Return whether it came to hold in time; stop waiting as soon as `unless` holds."""
    deadline = time.monotonic() + within_s
    while not holds():
        if time.monotonic() > deadline or unless():
            return False
        time.sleep(POLL_S)
    return True


def _takes_connections(path: str) -> bool:
    with socket.socket(socket.AF_UNIX) as client:
        client.settimeout(TIMEOUT_S)
        try:
            client.connect(path)
        except OSError:
            return False
    return True

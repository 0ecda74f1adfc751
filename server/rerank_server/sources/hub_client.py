"""Make huggingface_hub resume a download whose connection was reset.

Within a download it asks for the rest by `Range` after a timeout and after a connection that was closed
early (`RemoteProtocolError`), but not after one that was reset (`ReadError`): then it drops what it has.
Proxies and load balancers reset connections, so here a reset while a body is read looks like an early close.
"""

from collections.abc import Iterator

import httpx2
from huggingface_hub import get_session, set_client_factory


def resume_after_resets() -> None:
    """Install the hook in this process's hub client; the settings of its own client stay as they are."""
    hooks = get_session().event_hooks
    if _report_reset_as_close in hooks["response"]:
        return
    all_hooks = {"request": hooks["request"], "response": [*hooks["response"], _report_reset_as_close]}
    set_client_factory(lambda: httpx2.Client(event_hooks=all_hooks, follow_redirects=True, timeout=None))


def _report_reset_as_close(response: httpx2.Response) -> None:
    if isinstance(response.stream, httpx2.SyncByteStream):
        response.stream = _ResumableStream(response.stream)


class _ResumableStream(httpx2.SyncByteStream):
    """A response's body, whose resets are early closes."""

    def __init__(self, stream: httpx2.SyncByteStream) -> None:
        self._stream = stream

    def __iter__(self) -> Iterator[bytes]:
        try:
            yield from self._stream
        except httpx2.ReadError as error:
            raise httpx2.RemoteProtocolError(str(error) or "connection reset") from error

    def close(self) -> None:
        self._stream.close()

"""Blocking work beside the event loop, which the end of the process does not wait for."""

import asyncio
import concurrent.futures
import threading
from collections.abc import Awaitable, Callable
from typing import TypeVar

Result = TypeVar("Result")


def in_daemon_thread(work: Callable[[], Result]) -> Awaitable[Result]:
    """Run blocking work that must not keep the process from ending (a download, a load)."""
    future: concurrent.futures.Future[Result] = concurrent.futures.Future()
    future.set_running_or_notify_cancel()

    def run() -> None:
        try:
            future.set_result(work())
        except BaseException as error:  # noqa: BLE001  # raised again where it is awaited
            future.set_exception(error)

    threading.Thread(target=run, daemon=True, name="bring-up").start()
    return asyncio.wrap_future(future)

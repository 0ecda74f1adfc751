"""When the agent's process ends: once it is told and Envoy is gone, or when it hangs."""

import asyncio
import contextlib
import faulthandler
import signal
import time
from pathlib import Path

from rerank_gateway.admin import lives

_HANG_S = 30
_BEAT_S = 5.0
_LOOK_S = 0.25


def told_to_end() -> asyncio.Event:
    """Return an event that SIGTERM and SIGINT set from now on, in the running loop.

    Before anything is served: whoever sees a socket may send the signal, which would kill without it.
    """
    told = asyncio.Event()
    for signum in (signal.SIGTERM, signal.SIGINT):
        asyncio.get_running_loop().add_signal_handler(signum, told.set)
    return told


async def set_when_told(stop: asyncio.Event, told: asyncio.Event, envoy: Path, linger_s: float) -> None:
    """Set `stop` once `told` is set: when Envoy is gone, after `linger_s`, or when it is set again.

    In a pod both are told to end at the same time, and an Envoy that drains still has to hear where its
    models answer. `envoy` is the socket of its administration.
    """
    await told.wait()
    told.clear()
    give_up = time.monotonic() + linger_s
    while time.monotonic() < give_up and await lives(envoy):
        with contextlib.suppress(TimeoutError):
            await asyncio.wait_for(told.wait(), _LOOK_S)
            break
    stop.set()


async def end_if_hung() -> None:
    """Have the process end, and say where it stands, once its event loop has not come round for 30 s.

    Whoever started it starts it anew; Envoy goes on with what it knows until then.
    """
    try:
        while True:
            faulthandler.dump_traceback_later(_HANG_S, exit=True)
            await asyncio.sleep(_BEAT_S)
    finally:
        faulthandler.cancel_dump_traceback_later()

"""The local runner's state file: models and consumers, written whole by one process, followed by another.

Format, JSON in UTF-8::

    {"version": 1, "models": [{"name", "model", "state", "message", "created", "progress",
                               "endpoints": [{"address", "port"}], "hosts": [""],
                               "from_zero", "weight",
                               "facts": {"family", "max_length", "score_scale"}}],
                  "consumers": [{"name", "digests": [""], "models": [""],
                                 "requests_per_minute", "tokens_per_minute"}]}

It holds digests of keys, never a key.
"""

import asyncio
import contextlib
import logging
import os
from collections.abc import AsyncGenerator, AsyncIterator
from dataclasses import dataclass
from pathlib import Path
from typing import Literal

import orjson
import watchfiles
from pydantic import TypeAdapter, ValidationError

from rerank_gateway.errors import StateFileError
from rerank_gateway.models import Consumer, ServedModel, View

VERSION: Literal[1] = 1
_STEP_MS = 5  # how often the watcher looks, and how long a burst of changes must pause to be told
_BURST_MS = 20  # a burst that never pauses is told after this long
_RECHECK_S = 1.0  # look without being told: a directory that was replaced tells nothing

log = logging.getLogger(__name__)


@dataclass(frozen=True)
class _Document:
    version: Literal[1]
    models: tuple[ServedModel, ...]
    consumers: tuple[Consumer, ...] = ()


_DOCUMENT = TypeAdapter(_Document)


def write(path: Path, view: View) -> None:
    """Replace the file at once: a reader sees the old view or the new one, never a part.

    Only the user who writes it may read it. Durability is not sought: the runner that writes the file
    writes it anew when it starts.
    """
    part = path.with_name(f".{path.name}.{os.getpid()}.part")
    content = orjson.dumps(_Document(VERSION, view.models, view.consumers))
    try:
        with os.fdopen(os.open(part, os.O_WRONLY | os.O_CREAT | os.O_TRUNC, 0o600), "wb") as file:
            file.write(content)
        part.replace(path)
    except OSError:
        part.unlink(missing_ok=True)
        raise


def parse(content: bytes) -> View:
    """Read a state file's content. Raises StateFileError with the first thing that is wrong and its place."""
    try:
        document = _DOCUMENT.validate_json(content, strict=True)
    except ValidationError as error:
        first = error.errors(include_url=False, include_context=False, include_input=False)[0]
        place = "".join(f"[{part}]" if isinstance(part, int) else f".{part}" for part in first["loc"])
        raise StateFileError(f"{place.lstrip('.') or 'the document'}: {first['msg']}") from None
    return View(document.models, document.consumers)


class StateFileSource:
    """Follows a state file. Waits while there is none; a broken one changes nothing but the log."""

    def __init__(self, path: Path) -> None:
        self._path = path
        self._complaint: str | None = None

    async def views(self) -> AsyncGenerator[View, None]:
        """Yield the file's view now and after each change, as `Source` asks."""
        seen: bytes | None = None
        async with _changes(self._path) as changed:
            while True:
                changed.clear()
                content = self._read()
                if content is not None and content != seen:
                    seen = content
                    view = self._parse(content)
                    if view is not None:
                        yield view
                        continue
                with contextlib.suppress(TimeoutError):
                    await asyncio.wait_for(changed.wait(), _RECHECK_S)

    def _read(self) -> bytes | None:
        try:
            return self._path.read_bytes()
        except FileNotFoundError:
            self._complain("it does not exist yet, or any more")
        except OSError as error:
            self._complain(str(error))
        return None

    def _parse(self, content: bytes) -> View | None:
        try:
            view = parse(content)
        except StateFileError as error:
            self._complain(str(error))
            return None
        self._complaint = None
        return view

    def _complain(self, reason: str) -> None:
        """Log why the file cannot be used, once for as long as the reason stays the same."""
        if reason != self._complaint:
            self._complaint = reason
            log.warning("waiting for a good state file %s, what is served stays: %s", self._path, reason)


@contextlib.asynccontextmanager
async def _changes(path: Path) -> AsyncIterator[asyncio.Event]:
    """Set the event whenever something happens to the file; the watch stands before this returns."""
    changed = asyncio.Event()
    watch = asyncio.create_task(_watch(path.parent, path.name, changed))
    await asyncio.sleep(0)  # runs the task up to its first wait, which is behind the start of the watch
    try:
        yield changed
    finally:
        watch.cancel()
        with contextlib.suppress(asyncio.CancelledError):
            await watch


async def _watch(directory: Path, name: str, changed: asyncio.Event) -> None:
    try:
        while True:
            _make(directory)
            await _watch_until_replaced(directory, name, changed)
    except OSError as error:
        log.warning("%s cannot be watched, so it is looked at each second: %s", directory, error)


async def _watch_until_replaced(directory: Path, name: str, changed: asyncio.Event) -> None:
    watched = _identity(directory)
    events = watchfiles.awatch(
        directory,
        watch_filter=lambda _, path: Path(path).name == name,
        debounce=_BURST_MS,
        step=_STEP_MS,
        rust_timeout=int(_RECHECK_S * 1000),
        yield_on_timeout=True,
        recursive=False,
    )
    async with contextlib.aclosing(events):
        async for _ in events:
            changed.set()
            if _identity(directory) != watched:
                return


def _make(directory: Path) -> None:
    directory.mkdir(mode=0o700, parents=True, exist_ok=True)


def _identity(directory: Path) -> tuple[int, int] | None:
    try:
        status = directory.stat()
    except OSError:
        return None
    return (status.st_dev, status.st_ino)

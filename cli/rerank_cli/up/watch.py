"""Notice changes of the manifests and of the directories that hold them."""

import asyncio
import contextlib
from collections.abc import AsyncIterator, Iterable
from pathlib import Path

import watchfiles

from rerank_cli.up.manifests import SUFFIXES

QUIET_MS = 50
"""How long nothing may happen before a burst of changes counts as over."""
BURST_MS = 500
"""A burst that never pauses is told after this long."""
LOOK_MS = 1000
"""How often the directories themselves are looked at."""


async def changes(paths: tuple[Path, ...]) -> AsyncIterator[None]:
    """Yield whenever a manifest may have changed, appeared or gone; runs until it is cancelled.

    The directories are watched, not the files: editors replace a file by another of the same name, and
    Kubernetes replaces the directory behind a link called ..data. A directory that is itself replaced tells
    nothing any more, so each is looked at every second, and watched anew. What changed before a watch stood
    is not told either: its first word, a second later at most, always counts as a change.
    """
    files = {path.absolute() for path in paths if not path.is_dir()}
    directories = {path.absolute() for path in paths if path.is_dir()}
    # Changes are told by the path that was watched, links not followed, so these compare as they are.
    watched = directories | {file.parent for file in files}

    def concerns(_: watchfiles.Change, changed: str) -> bool:
        path = Path(changed)
        listed = path.parent in directories and path.suffix in SUFFIXES
        return path in files or listed or path.name == "..data"

    while True:
        standing = _identities(watched)
        if not standing:
            await asyncio.sleep(LOOK_MS / 1000)
            continue
        events = watchfiles.awatch(
            *standing,
            watch_filter=concerns,
            debounce=BURST_MS,
            step=QUIET_MS,
            rust_timeout=LOOK_MS,
            yield_on_timeout=True,
            recursive=False,
        )
        first = True
        async with contextlib.aclosing(events):
            async for changed in events:
                if changed or first:
                    yield None
                first = False
                if _identities(watched) != standing:
                    break


def _identities(directories: Iterable[Path]) -> dict[Path, tuple[int, int]]:
    """Return device and inode of those directories that are there."""
    found = {}
    for directory in directories:
        with contextlib.suppress(OSError):
            status = directory.stat()
            found[directory] = (status.st_dev, status.st_ino)
    return found

"""Notice changes of the manifests and of the directories that hold them."""

from collections.abc import AsyncIterator
from pathlib import Path

import watchfiles

from rerank_cli.up.manifests import SUFFIXES

QUIET_MS = 50
"""How long nothing may happen before a burst of changes counts as over."""
BURST_MS = 500
"""A burst that never pauses is told after this long."""


async def changes(paths: tuple[Path, ...]) -> AsyncIterator[None]:
    """Yield whenever a manifest may have changed, appeared or gone; runs until it is cancelled.

    The directories are watched, not the files: editors replace a file by another of the same name, and
    Kubernetes replaces the directory behind a link called ..data.
    """
    files = {path.absolute() for path in paths if not path.is_dir()}
    directories = {path.absolute() for path in paths if path.is_dir()}
    # Changes are told by the path that was watched, links not followed, so these compare as they are.
    watched = directories | {file.parent for file in files}

    def concerns(_: watchfiles.Change, changed: str) -> bool:
        path = Path(changed)
        listed = path.parent in directories and path.suffix in SUFFIXES
        return path in files or listed or path.name == "..data"

    async for _ in watchfiles.awatch(
        *watched, watch_filter=concerns, debounce=BURST_MS, step=QUIET_MS, recursive=False
    ):
        yield None

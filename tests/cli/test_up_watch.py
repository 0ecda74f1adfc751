"""What the local runner notices of its manifests, on a real file system."""

import asyncio
from collections.abc import Awaitable, Callable
from pathlib import Path

import pytest

from rerank_cli.up.watch import changes

LIMIT_S = 60


def noticed(paths: tuple[Path, ...], act: Callable[[], object]) -> None:
    """Follow the paths, let the watch stand, do something, and wait until that is told."""

    async def story() -> None:
        told = changes(paths)
        await within(anext(told))  # the watch stands
        act()
        await within(anext(told))
        await told.aclose()

    asyncio.run(story())


async def within(work: Awaitable[None]) -> None:
    await asyncio.wait_for(work, LIMIT_S)


def replace_directory(directory: Path, content: str) -> None:
    """Put another directory of the same name in its place, as a checkout does."""
    directory.rename(directory.with_name("before"))
    directory.mkdir()
    (directory / "model.yaml").write_text(content)


@pytest.fixture
def folder(tmp_path: Path) -> Path:
    folder = tmp_path / "manifests"
    folder.mkdir()
    (folder / "model.yaml").write_text("one")
    return folder


def test_an_edited_manifest_is_noticed(folder: Path) -> None:
    noticed((folder,), lambda: (folder / "model.yaml").write_text("two"))


def test_a_manifest_in_a_directory_that_was_replaced_is_noticed(folder: Path) -> None:
    noticed((folder,), lambda: replace_directory(folder, "two"))


def test_edits_go_on_being_noticed_after_the_directory_was_replaced(folder: Path) -> None:
    async def story() -> None:
        told = changes((folder / "model.yaml",))
        await within(anext(told))
        replace_directory(folder, "two")
        await within(anext(told))
        await asyncio.sleep(0)
        (folder / "model.yaml").write_text("three")
        await within(anext(told))
        await told.aclose()

    asyncio.run(story())


def test_an_edit_before_the_watch_stood_is_noticed(folder: Path) -> None:
    async def story() -> None:
        told = changes((folder,))
        (folder / "model.yaml").write_text("two")
        await within(anext(told))
        await told.aclose()

    asyncio.run(story())


def test_other_files_are_not_told(folder: Path) -> None:
    async def story() -> None:
        told = changes((folder,))
        await within(anext(told))
        (folder / "notes.txt").write_text("nothing to do with it")
        next_word = asyncio.ensure_future(anext(told))
        await asyncio.sleep(2.5)
        assert not next_word.done()
        next_word.cancel()
        await asyncio.gather(next_word, return_exceptions=True)

    asyncio.run(story())

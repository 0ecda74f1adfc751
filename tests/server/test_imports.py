"""What is imported for good is never looked through for garbage; what is made later is."""

import gc
import importlib
import sys
import weakref
from collections.abc import Iterator
from pathlib import Path

import pytest

from rerank_server.imports import for_good

THINGS = 1000


@pytest.fixture
def costly(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Iterator[str]:
    """Give the name of a module that makes many objects, and that nobody has imported."""
    (tmp_path / "costly.py").write_text(
        f"import gc\nLOOKED_FOR = gc.isenabled()\nTHINGS = [[] for _ in range({THINGS})]\n"
    )
    monkeypatch.syspath_prepend(tmp_path)
    gc.unfreeze()
    yield "costly"
    gc.enable()
    gc.unfreeze()
    sys.modules.pop("costly", None)


class Model:
    """What only the collector frees."""

    def __init__(self) -> None:
        self.itself = self


def test_garbage_is_looked_for_neither_while_a_module_is_imported_nor_later_in_what_it_made(
    costly: str,
) -> None:
    with for_good(costly):
        module = importlib.import_module(costly)
    assert module.LOOKED_FOR is False
    assert gc.isenabled()
    assert gc.get_freeze_count() > THINGS


def test_a_module_that_is_there_makes_nothing_permanent_of_what_was_made_since(costly: str) -> None:
    """A model that is loaded anew imports torch once more: the one before it must still be freed."""
    with for_good(costly):
        importlib.import_module(costly)
    before = Model()
    freed = weakref.ref(before)
    with for_good(costly):
        importlib.import_module(costly)
    assert gc.isenabled()
    del before
    gc.collect()
    assert freed() is None

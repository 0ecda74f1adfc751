"""The random models of `cases.py`, opened once with every engine that takes them."""

from collections.abc import Iterator
from dataclasses import dataclass

import pytest
import torch

from rerank_server.engine.interface import Engine
from tests.server.engines.cases import CASES, Case, open_case, save


@pytest.fixture(scope="module", autouse=True)
def _one_thread() -> Iterator[None]:
    """Models of this size are slower on several threads."""
    before = torch.get_num_threads()
    torch.set_num_threads(1)
    yield
    torch.set_num_threads(before)


@dataclass(frozen=True)
class Opened:
    """A case with its engines, each on a copy of the model of its own."""

    case: Case
    reference: Engine
    """The padded engine, for one row at a time."""
    engines: dict[str, Engine]


@pytest.fixture(scope="module", params=CASES, ids=str)
def opened(request: pytest.FixtureRequest, tmp_path_factory: pytest.TempPathFactory) -> Opened:
    """Open a case; a test that takes it runs for every one."""
    case: Case = request.param
    folder = save(case, tmp_path_factory.mktemp("model"))
    engines = {name: open_case(case, folder, name).engine for name in case.engines}
    return Opened(case, engines["padded"], engines)

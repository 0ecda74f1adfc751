"""Lists that are read again and again, on a clock that jumps: what ends the process, and what does not."""

import asyncio
from collections.abc import Iterator
from typing import Any

import httpx
import pytest

from rerank_operator.errors import ClusterError, RestoredError
from rerank_operator.keys import Kind, Manifest
from rerank_operator.process import LIST_AGAIN_S, RESYNC_S, SETTLE_S, Operator, Where
from tests.operator.given import settings
from tests.operator.in_memory import refusal
from tests.operator.virtual_time import run


class Lists:
    """An API server that has nothing, at one version after another; where one is a refusal it refuses."""

    def __init__(self, *versions: int | ClusterError) -> None:
        self._versions: Iterator[int | ClusterError] = iter(versions)
        self._kind: Kind | None = None
        self._version: int | ClusterError = 0

    async def list(self, kind: Kind, *_: Any) -> tuple[list[Manifest], int]:
        self._kind = self._kind or kind
        if kind == self._kind:  # all kinds are read, and then all again
            self._version = next(self._versions)
        if isinstance(self._version, ClusterError):
            raise self._version
        return [], self._version


UNREACHED = refusal(0, "the API server cannot be reached")


@pytest.mark.parametrize(
    ("versions", "after"),
    [
        pytest.param([20, 10], RESYNC_S, id="by the next list"),
        pytest.param([20, 20, 30, 10], 3 * RESYNC_S, id="by a later one"),
        pytest.param([UNREACHED, 20, 10], LIST_AGAIN_S + RESYNC_S, id="though the first could not be read"),
        pytest.param(
            [20, UNREACHED, 10], RESYNC_S + 2 * SETTLE_S, id="once it can be reached again, and soon"
        ),
    ],
)
def test_an_api_server_that_was_restored_ends_the_process(
    versions: list[int | ClusterError], after: float
) -> None:
    async def story() -> float:
        async with httpx.AsyncClient(trust_env=False) as http:
            lists: Any = Lists(*versions)
            operator = Operator(settings(), lists, http, Where("rerank", "rerank-operator-1", "127.0.0.1:0"))
            with pytest.raises(ExceptionGroup) as caught:
                await operator.work()
            [error] = caught.value.exceptions
            assert isinstance(error, RestoredError)
            return asyncio.get_running_loop().time()

    assert run(story()) == pytest.approx(after)

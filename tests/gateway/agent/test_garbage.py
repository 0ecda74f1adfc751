"""What Python's garbage collector passes over once the first view is there."""

import gc
from collections.abc import Iterator

import pytest

from rerank_gateway import agent
from rerank_gateway.errors import SourceEndedError
from rerank_gateway.models import View

pytestmark = pytest.mark.anyio


@pytest.fixture(autouse=True)
def _thawed() -> Iterator[None]:
    gc.unfreeze()
    yield
    gc.unfreeze()


async def test_what_is_there_after_the_first_view_is_passed_over_from_then_on(served):
    class Source:
        async def views(self):
            yield View((served("a", 9000),))
            frozen.append(gc.get_freeze_count())
            yield View((served("a", 9001),))
            frozen.append(gc.get_freeze_count())

    frozen, published = [], []
    with pytest.raises(SourceEndedError):
        await agent.follow(Source(), published.append)
    assert len(published) == 2
    assert frozen[0] > 0
    assert frozen[1] <= frozen[0], "once, not with each view: what is frozen in a circle is never freed"

"""When the activator lets requests go, step by step: what a real Envoy passes through too quickly to see."""

import asyncio

import pytest

from rerank_api.status import ModelState
from rerank_gateway import snapshot
from rerank_gateway.activator import Activator
from rerank_gateway.hold import Bounds
from rerank_gateway.models import View
from rerank_gateway.publication import Publication

pytestmark = pytest.mark.anyio

KEY = "0123abcd"


class Held:
    """One request to an activator as Envoy sends it, and what it is answered."""

    def __init__(self, activator, *, attempt=1, headers=()):
        self.answer = {}
        self._messages = asyncio.Queue()
        self._messages.put_nowait({"type": "http.request", "body": b"{}", "more_body": False})
        named = [(b"x-rerank-model", b"m"), (b"x-envoy-attempt-count", str(attempt).encode()), *headers]
        scope = {"type": "http", "path": "/v1/rerank", "headers": named}
        self.done = asyncio.create_task(activator(scope, self._messages.get, self._send))

    async def _send(self, message):
        self.answer |= message

    def hang_up(self):
        self._messages.put_nowait({"type": "http.disconnect"})

    @property
    def status(self):
        return self.answer.get("status")

    @property
    def key(self):
        return dict(self.answer["headers"]).get(b"x-rerank-release")


@pytest.fixture
def taken() -> set[str]:
    """The clusters whose endpoints every Envoy has acknowledged."""
    return set()


@pytest.fixture
def publication() -> Publication:
    return Publication()


@pytest.fixture
async def activator(publication, taken):
    """An activator for which an hour passes in no time: whoever waits has waited long."""
    clock = iter(range(0, 10**9, 60))
    made = Activator(
        publication, taken.__contains__, KEY, Bounds(seconds=10**8), clock=lambda: float(next(clock))
    )
    following = asyncio.create_task(made.follow())
    yield made
    following.cancel()


async def settle():
    """Let everything run that can."""
    for _ in range(20):
        await asyncio.sleep(0)


def view(served, *ports, **fields):
    return snapshot.build(View((served("m", *ports, state=ModelState.IDLE, **{"from_zero": True} | fields),)))


async def test_a_request_goes_on_when_envoy_has_acknowledged_the_replica_and_not_when_it_is_told(
    activator, publication, taken, served
):
    publication.publish(view(served))
    held = Held(activator)
    await settle()
    publication.publish(view(served, 9000))
    await settle()
    assert held.status is None
    assert activator.demand()["models"]["m"]["held"] == 1

    taken.add("m/m")
    publication.wake()  # as the ADS server does on each acknowledgement
    await held.done

    assert (held.status, held.key) == (425, KEY.encode())
    assert activator.demand() == {"models": {}}


@pytest.mark.parametrize("attempt", [1, 2, 3, 4])
async def test_the_last_attempt_is_answered_because_nobody_would_send_it_again(
    activator, publication, taken, served, attempt
):
    publication.publish(view(served, 9000))
    taken.add("m/m")
    held = Held(activator, attempt=attempt)
    await held.done
    assert (held.status, held.key) == ((425, KEY.encode()) if attempt < 4 else (503, None))


async def test_before_the_models_are_known_none_is_said_to_be_missing(activator, publication, served):
    early = Held(activator)
    await early.done
    assert (early.status, early.key) == (503, None)
    publication.publish(snapshot.build(View((served("other"),))))
    unknown = Held(activator)
    await unknown.done
    assert (unknown.status, unknown.key) == (404, None)


async def test_who_hangs_up_or_is_refused_is_not_counted_and_gets_no_key(activator, publication, served):
    publication.publish(view(served))
    gone, late = Held(activator), Held(activator)
    await settle()
    gone.hang_up()
    await gone.done
    assert gone.answer == {}
    assert activator.demand()["models"]["m"]["held"] == 1

    activator.end()
    await late.done
    after = Held(activator)
    await after.done
    assert [(each.status, each.key) for each in (late, after)] == [(503, None)] * 2
    assert activator.demand() == {"models": {}}

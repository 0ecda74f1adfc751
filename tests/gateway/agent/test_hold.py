"""Who waits for a model at zero, who goes on and who is refused: decisions, with the clock in hand."""

import pytest
from hypothesis import settings
from hypothesis import strategies as st
from hypothesis.stateful import RuleBasedStateMachine, invariant, precondition, rule

from rerank_gateway.hold import (
    Bounds,
    Demand,
    Held,
    Hold,
    Refusal,
    Release,
    Standing,
    Wait,
    decide,
    standing,
)

BOUNDS = Bounds(requests=2, bytes=100, seconds=60)
CAME = 1000.0


@pytest.mark.parametrize(
    ("stands", "attempt", "after", "verdict"),
    [
        pytest.param(Standing.ASLEEP, 1, 0, Wait(CAME + 60), id="no replica yet"),
        pytest.param(Standing.ASLEEP, 1, 59.9, Wait(CAME + 60), id="no replica yet, and some time is left"),
        pytest.param(Standing.ASLEEP, 1, 60, Refusal.LATE, id="no replica in time"),
        pytest.param(Standing.ASLEEP, 4, 0, Wait(CAME + 60), id="back for the last time, no replica"),
        pytest.param(Standing.AWAKE, 1, 10, Release(), id="a replica is there"),
        pytest.param(Standing.AWAKE, 1, 60, Release(), id="a replica came at the last moment"),
        pytest.param(Standing.AWAKE, 1, 0, Wait(CAME + 0.05), id="came just before the replica"),
        pytest.param(Standing.AWAKE, 2, 0.1, Wait(CAME + 0.5), id="back: Envoy did not reach the replica"),
        pytest.param(Standing.AWAKE, 3, 2, Release(), id="back again, and has waited"),
        pytest.param(Standing.AWAKE, 4, 50, Refusal.NO_REPLICA, id="nobody would send it again"),
        pytest.param(Standing.NOT_WAKEABLE, 1, 0, Refusal.NO_REPLICA, id="no request wakes it any more"),
        pytest.param(Standing.GONE, 1, 0, Refusal.GONE, id="the model is deleted"),
    ],
)
def test_what_becomes_of_a_request_depends_on_its_model_and_on_how_long_it_waits(
    stands, attempt, after, verdict
):
    held = Held("rag/m", CAME, attempt, 10)
    assert decide(held, stands, CAME + after, BOUNDS) == verdict
    assert decide(held, stands, CAME + after, BOUNDS, ending=True) is Refusal.RESTARTING


@pytest.mark.parametrize(
    ("ports", "from_zero", "taken", "stands"),
    [
        pytest.param((), True, True, Standing.ASLEEP, id="at zero"),
        pytest.param((9000,), True, False, Standing.ASLEEP, id="Envoy does not know of the replica"),
        pytest.param((9000,), True, True, Standing.AWAKE, id="Envoy knows of the replica"),
        pytest.param((9000,), False, True, Standing.AWAKE, id="it will sleep no more"),
        pytest.param((), False, True, Standing.NOT_WAKEABLE, id="no replica, and no request brings one"),
    ],
)
def test_a_model_is_awake_once_every_envoy_knows_of_a_replica(served, ports, from_zero, taken, stands):
    assert standing(served("m", *ports, from_zero=from_zero), taken=taken) is stands
    assert standing(None, taken=taken) is Standing.GONE


def test_each_model_has_its_own_bounds_and_who_leaves_makes_room():
    hold = Hold(BOUNDS)
    first, second = hold.enter("m", 10, 1.0), hold.enter("m", 10, 2.0)
    assert hold.enter("m", 0, 3.0) is None
    assert hold.enter("other", 0, 3.5) is not None
    assert hold.demand(4.0) == {"m": Demand(2, 3.0), "other": Demand(1, 0.5)}
    hold.leave(first)
    assert hold.demand(4.0)["m"] == Demand(1, 2.0)
    assert hold.enter("m", 90, 5.0) is not None
    hold.leave(second)


@pytest.mark.parametrize(
    ("announced", "grown", "fits"),
    [
        pytest.param(40, 40, True, id="as long as announced"),
        pytest.param(0, 40, True, id="not announced"),
        pytest.param(40, 41, False, id="longer than announced, and than what is left"),
        pytest.param(0, 41, False, id="not announced, and longer than what is left"),
    ],
)
def test_a_body_is_counted_as_it_comes_where_its_length_is_not_announced(announced, grown, fits):
    hold = Hold(BOUNDS)
    hold.enter("m", 60, 0.0)
    held = hold.enter("m", announced, 0.0)
    assert hold.grow(held, grown) is fits
    hold.leave(held)
    assert hold.enter("m", 40, 0.0) is not None, "what left is counted still"


@pytest.mark.parametrize("name", ["requests", "bytes", "seconds"])
def test_a_bound_of_zero_is_refused(name):
    with pytest.raises(ValueError, match="more than 0"):
        Bounds(**{name: 0})


class AnyTraffic(RuleBasedStateMachine):
    """However requests come, grow and leave: the bounds hold, and nothing stays behind."""

    def __init__(self):
        super().__init__()
        self.hold = Hold(BOUNDS)
        self.waiting: list[Held] = []
        self.now = 0.0

    @rule(model=st.sampled_from("ab"), size=st.integers(0, 120))
    def come(self, model, size):
        self.now += 1
        before = [held for held in self.waiting if held.model == model]
        held = self.hold.enter(model, size, self.now)
        fits = len(before) < BOUNDS.requests and sum(h.bytes for h in before) + size <= BOUNDS.bytes
        assert (held is not None) is fits
        if held is not None:
            self.waiting.append(held)

    @precondition(lambda self: self.waiting)
    @rule(data=st.data(), size=st.integers(0, 120))
    def grow(self, data, size):
        self.hold.grow(data.draw(st.sampled_from(self.waiting)), size)

    @precondition(lambda self: self.waiting)
    @rule(data=st.data())
    def leave(self, data):
        held = data.draw(st.sampled_from(self.waiting))
        self.waiting.remove(held)
        self.hold.leave(held)

    @invariant()
    def keeps_its_bounds(self):
        for model in "ab":
            mine = [held for held in self.waiting if held.model == model]
            assert len(mine) <= BOUNDS.requests
            assert sum(held.bytes for held in mine) <= BOUNDS.bytes
            oldest = Demand(len(mine), self.now - mine[0].since) if mine else None
            assert self.hold.demand(self.now).get(model) == oldest


TestAnyTraffic = AnyTraffic.TestCase
TestAnyTraffic.settings = settings(max_examples=50, deadline=None)

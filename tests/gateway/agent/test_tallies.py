"""Several replicas, one limit: what they tell each other, and what consumers get of it, in virtual time."""

import random
from collections import deque
from dataclasses import dataclass, field

import pytest
from hypothesis import given
from hypothesis import strategies as st

from rerank_gateway import snapshot
from rerank_gateway.budgets import Bucket, Budgets, Kind
from rerank_gateway.exchange import EVERY_S, read, written
from rerank_gateway.meter import Meter
from rerank_gateway.metering import Use
from rerank_gateway.models import Consumer, View
from rerank_gateway.publication import Publication
from rerank_gateway.tallies import FORGOTTEN_S, Learned, Peer, Peers, Place, Report, Tally, Used
from rerank_gateway.usage import STILL_S

A = Peer("10.0.0.1:9000")
LEFT = {Kind.REQUESTS: {"app": 3.0}}


def report(agent="x", age=100.0, revision=1, whole=True, left=None, **used):
    return Report(agent, age, revision, whole, used, left or {})


@pytest.mark.parametrize(
    ("before", "asked_at", "then", "learned"),
    [
        pytest.param(None, 0, report(left=LEFT, app=Used(5)), Learned(left=LEFT), id="one that is older"),
        pytest.param(
            None, 0, report(age=2.0, left=LEFT, app=Used(5, 7)), Learned({"app": Used(5, 7)}), id="a new one"
        ),
        pytest.param(
            report(app=Used(5, 7), other=Used(1)),
            1,
            report(revision=2, whole=False, app=Used(8, 7)),
            Learned({"app": Used(3, 0)}),
            id="what came since",
        ),
        pytest.param(
            report(app=Used(5)),
            1,
            report(revision=2, whole=False, new=Used(2)),
            Learned({"new": Used(2)}),
            id="who was not there before",
        ),
        pytest.param(report(app=Used(5)), 1, report(whole=False), Learned(), id="nothing new"),
        pytest.param(
            report(app=Used(5)),
            1,
            report("y", age=0.2, app=Used(2)),
            Learned({"app": Used(2)}),
            id="started again",
        ),
        pytest.param(
            report(app=Used(5)),
            1,
            report("y", whole=False, app=Used(2)),
            Learned(),
            id="a part from one who is a stranger",
        ),
        pytest.param(
            report(app=Used(5)),
            FORGOTTEN_S + 1,
            report(left=LEFT, app=Used(5000)),
            Learned(left=LEFT),
            id="back after too long",
        ),
    ],
)
def test_what_is_charged_follows_from_what_was_heard_before(before, asked_at, then, learned):
    peers = Peers()
    if before is not None:
        peers.take(A, before, 0)
    assert peers.take(A, then, asked_at) == learned


def test_a_replica_is_asked_for_everything_at_first_after_a_silence_and_once_it_was_gone():
    peers = Peers()
    assert peers.heard(A, 0) is None
    peers.take(A, report(revision=7), 0)
    assert peers.heard(A, FORGOTTEN_S) == Place("x", 7)
    assert peers.heard(A, FORGOTTEN_S + 0.1) is None
    peers.keep([Peer("10.0.0.2:9000")])
    assert peers.heard(A, 1) is None


STEPS = st.lists(
    st.tuples(st.sampled_from(["a", "b", "c"]), st.integers(0, 3), st.integers(0, 9))
    | st.sampled_from(["asked", "lost", "twice"]),
    max_size=40,
)


@given(steps=STEPS)
def test_whatever_is_lost_or_told_twice_is_charged_once(steps):
    tally, peers, charged = Tally("x", 0), Peers(), {}

    def ask(times):
        told = read(written(tally.report(peers.heard(A, 1), 1)))
        for _ in range(times):
            for consumer, used in peers.take(A, told, 1).charges.items():
                before = charged.get(consumer, Used())
                charged[consumer] = Used(before.requests + used.requests, before.tokens + used.tokens)

    ask(1)
    for step in steps:
        if isinstance(step, tuple):
            tally.add(*step)
        else:
            ask({"asked": 1, "lost": 0, "twice": 2}[step])
    ask(1)
    real = tally.report(None, 1).used
    assert {name: used for name, used in charged.items() if used != Used()} == real


@given(levels=st.lists(st.integers(-500, 600), min_size=1, max_size=4), charges=st.lists(st.integers(0, 300)))
def test_no_bucket_holds_more_than_the_oldest_replica_says(levels, charges):
    limits, budgets = {"app": 600}, Budgets(Kind.REQUESTS)
    for charge in charges:
        budgets.charge("app", charge, limits, 0)
    for level in levels:
        budgets.lower({"app": float(level), "free": -1.0}, limits, 0)
    assert budgets.levels(limits, 0) == {"app": float(min(*levels, 600 - sum(charges)))}


LIMIT = 600
TICK_S = 0.01
TOKENS = 50
"""Each request costs as many on the average."""


@dataclass
class Replica:
    """The real meter, beside an Envoy of which only what counts is there."""

    clock: list[float]
    meter: Meter = field(init=False)
    peers: Peers = field(default_factory=Peers)
    bucket: Bucket = field(default_factory=lambda: Bucket(LIMIT, 0))
    words: deque = field(default_factory=deque)
    """What Envoy will tell, by time."""
    passed: list[tuple[float, int]] = field(default_factory=list)
    """When a request was let through, and what it cost."""

    def __post_init__(self):
        self.meter = Meter(Publication(), lambda: self.clock[0])

    def limit(self, requests, tokens):
        self.meter.publish(snapshot.build(View(consumers=(Consumer("app", (), ("*",), requests, tokens),))))
        self.counts_requests = requests is not None

    def ask(self, now, duration, tokens):
        if self.counts_requests:
            self.bucket = self.bucket.filled(LIMIT, LIMIT, now)
            if self.bucket.level < 1:
                return
            self.bucket = Bucket(self.bucket.level - 1, now)
        if "app" in self.meter.debts:
            return
        self.passed.append((now, tokens))
        if duration >= STILL_S:
            self.words.append((now + STILL_S, Use("app", "m", 200, ended=False)))
        self.words.append((now + duration, Use("app", "m", 200, 1, tokens, counts=duration < STILL_S)))

    def flush(self, now):
        told = [use for at, use in self.words if at <= now]
        self.words = deque((at, use) for at, use in self.words if at > now)
        if told:
            self.meter.take(told)

    def hear(self, other, name, now):
        told = read(written(other.meter.report(self.peers.heard(name, now))))
        self.meter.learn(self.peers.take(name, told, now))


def simulated(
    replicas, load, share, *, minutes=5, duration_s=0.1, exchange=True, requests=LIMIT, tokens=None, seed=1
):
    """Send `load` times the limit, each request to the replica that `share(now, rng)` says."""
    rng, clock = random.Random(seed), [0.0]
    gateways = [Replica(clock) for _ in range(replicas)]
    for gateway in gateways:
        gateway.limit(requests, tokens)
    due = {(i, j): rng.uniform(0, EVERY_S) for i in range(replicas) for j in range(replicas) if i != j}
    flushes = [rng.uniform(0, 0.1) for _ in gateways]
    arrives = 0.0
    for step in range(round(minutes * 60 / TICK_S)):
        now = clock[0] = step * TICK_S
        while arrives <= now:
            gateways[share(now, rng)].ask(now, rng.uniform(0, 2 * duration_s), rng.randint(0, 2 * TOKENS))
            arrives += rng.expovariate(load * LIMIT / 60)
        for i, gateway in enumerate(gateways):
            if now >= flushes[i]:
                flushes[i] += 0.1
                gateway.flush(now)
            gateway.meter.settle()
        for (i, j), at in due.items():
            if now >= at and exchange:
                due[i, j] += EVERY_S
                if rng.random() > 0.05:  # some answers are lost
                    gateways[i].hear(gateways[j], Peer(f"{j}"), now)
    return gateways


def worst_minutes(passed, begin, end):
    """Return the least and the most that was let through in any minute."""
    sums = [
        sum(cost for at, cost in passed if start <= at < start + 60) for start in range(begin, end - 59, 2)
    ]
    return min(sums), max(sums)


def evenly(replicas):
    return lambda now, rng: rng.randrange(replicas)


SHARES = [
    pytest.param(2, 2, evenly(2), 0.1, id="two, evenly"),
    pytest.param(2, 20, evenly(2), 0.1, id="two, far too much"),
    pytest.param(5, 3, evenly(5), 0.05, id="five, evenly"),
    pytest.param(3, 3, lambda now, rng: 0, 0.1, id="all to one of three"),
    pytest.param(3, 3, lambda now, rng: int(now / 20) % 3, 0.1, id="to one after the other"),
    pytest.param(3, 4, lambda now, rng: rng.choice([0, 0, 0, 0, 1, 1, 2]), 0.1, id="unbalanced"),
    pytest.param(3, 3, evenly(3), 3.0, id="three, requests that take seconds"),
    pytest.param(6, 4, evenly(6), 3.0, id="six, requests that take seconds"),
]


@pytest.mark.parametrize(("replicas", "load", "share", "duration_s"), SHARES)
def test_requests_through_all_replicas_stay_within_a_tenth_of_the_limit(replicas, load, share, duration_s):
    gateways = simulated(replicas, load, share, duration_s=duration_s)
    passed = [(at, 1) for gateway in gateways for at, _ in gateway.passed]
    least, most = worst_minutes(passed, 120, 300)
    first = sum(1 for at, _ in passed if at < 60)
    print(f"{replicas} replicas: {least} to {most} a minute, {first} in the first")
    assert 0.9 * LIMIT <= least <= most <= 1.1 * LIMIT


def test_without_a_word_from_each_other_each_lets_the_limit_through():
    gateways = simulated(3, 4, evenly(3), exchange=False)
    _, most = worst_minutes([(at, 1) for gateway in gateways for at, _ in gateway.passed], 120, 300)
    assert most > 2.5 * LIMIT


@pytest.mark.parametrize(("replicas", "load", "share", "duration_s"), SHARES[2:6])
def test_tokens_through_all_replicas_stay_within_a_tenth_of_the_limit(replicas, load, share, duration_s):
    limit = LIMIT * TOKENS
    gateways = simulated(replicas, load, share, duration_s=duration_s, requests=None, tokens=limit)
    least, most = worst_minutes([one for gateway in gateways for one in gateway.passed], 120, 300)
    print(f"{replicas} replicas: {least} to {most} of {limit} a minute")
    assert 0.9 * limit <= least <= most <= 1.1 * limit


def test_one_replica_alone_owes_nothing_while_envoy_keeps_its_limit():
    (gateway,) = simulated(1, 5, lambda now, rng: 0, duration_s=0.4)
    assert not gateway.meter.debts
    least, most = worst_minutes([(at, 1) for at, _ in gateway.passed], 120, 300)
    assert LIMIT - 1 <= least <= most <= LIMIT + 1


def test_a_replica_that_starts_takes_the_debts_of_the_others_over():
    clock = [1000.0]
    old, new = Replica(clock), Replica(clock)
    for each in (old, new):
        each.limit(None, 600)
    old.meter.take([Use("app", "m", 200, 1, 1200)])
    clock[0] += FORGOTTEN_S
    late = Replica(clock)
    late.limit(None, 600)
    late.hear(old, Peer("old"), clock[0])
    assert late.meter.debts == old.meter.debts
    assert late.meter.debts["app"].until == 1060

"""What the local runner does next, as tables: no process, no clock."""

from dataclasses import replace

import pytest

from rerank_api.status import ServerState, ServerStatus
from rerank_cli.up.backoff import Crash, after_end
from rerank_cli.up.plan import DRAIN_S, LEAVE_S, SILENCE_S, Kill, Leave, Start, Stop, plan
from rerank_cli.up.world import Phase, Replica, Slot, Version, World

NOW = 1000.0
OLD = Version("bge", "old", ("bge",), 1, "{}")
NEW = Version("bge", "new", ("bge",), 1, "{}")
OTHER = Version("other", "one", ("other",), 1, "{}")


def of(version: Version, count: int) -> Version:
    return replace(version, replicas=count)


def replica(
    pid: int, version: Version, phase: Phase = Phase.READY, *, index: int = 0, age: float = 1.0
) -> Replica:
    state = ServerState.READY if phase is Phase.READY else ServerState.LOADING
    status = ServerStatus(state=state, message="as told")
    return Replica(pid, Slot(version.model, version.fingerprint, index), 8000 + pid, phase, NOW - age, status)


def start(version: Version, index: int = 0) -> Start:
    return Start(Slot(version.model, version.fingerprint, index), version)


@pytest.mark.parametrize(
    ("world", "actions"),
    [
        pytest.param(World((OLD, OTHER)), {start(OLD), start(OTHER)}, id="nothing runs yet"),
        pytest.param(
            World((of(OLD, 2),)),
            {start(of(OLD, 2), 0), start(of(OLD, 2), 1)},
            id="a process for each replica",
        ),
        pytest.param(World((OLD,), {"bge": OLD}, (replica(1, OLD),)), set(), id="all as wanted"),
        pytest.param(
            World((OLD,), {"bge": OLD}, (replica(1, OLD, Phase.STARTING),)), set(), id="still loading"
        ),
        pytest.param(
            World((of(OLD, 2),), {"bge": OLD}, (replica(1, OLD),)),
            {start(of(OLD, 2), 1)},
            id="one replica more",
        ),
        pytest.param(
            World((OLD,), {"bge": of(OLD, 2)}, (replica(1, OLD), replica(2, OLD, index=1))),
            {Leave(2)},
            id="one replica less leaves before it is stopped",
        ),
        pytest.param(World((of(OLD, 0),), {"bge": OLD}, (replica(1, OLD),)), {Leave(1)}, id="none wanted"),
        pytest.param(World((), {"bge": OLD}, (replica(1, OLD),)), {Leave(1)}, id="the manifest is gone"),
        pytest.param(
            World((), {"bge": OLD}, (replica(1, OLD, Phase.STARTING),)),
            {Stop(1)},
            id="a server without traffic is stopped at once",
        ),
        pytest.param(
            World((NEW,), {"bge": OLD}, (replica(1, OLD),)),
            {start(NEW)},
            id="a replacement is started beside what serves",
        ),
        pytest.param(
            World((NEW,), {"bge": OLD}, (replica(1, OLD), replica(2, NEW, Phase.STARTING))),
            set(),
            id="what serves stays while its replacement loads",
        ),
        pytest.param(
            World((NEW,), {"bge": OLD}, (replica(1, OLD), replica(2, NEW))),
            {Leave(1)},
            id="a ready replacement takes over",
        ),
        pytest.param(
            World((of(NEW, 2),), {"bge": OLD}, (replica(1, OLD), replica(2, NEW))),
            {start(of(NEW, 2), 1)},
            id="half of a replacement does not take over from what serves",
        ),
        pytest.param(
            World((of(NEW, 2),), {"bge": OLD}, (replica(2, NEW), replica(3, NEW, Phase.STARTING, index=1))),
            set(),
            id="half of a replacement takes over from what crashed",
        ),
        pytest.param(
            World((NEW,), {"bge": OLD}, ()),
            {start(NEW), start(OLD)},
            id="what serves is started again while its replacement is not ready",
        ),
        pytest.param(
            World((OLD,), {"bge": OLD}, (replica(1, OLD), replica(2, NEW, Phase.STARTING))),
            {Stop(2)},
            id="a change that is taken back stops the replacement alone",
        ),
        pytest.param(
            World((OTHER,), {"other": OTHER, "bge": OLD}, (replica(1, OLD), replica(2, OTHER))),
            {Leave(1)},
            id="one model's end leaves the other alone",
        ),
        pytest.param(
            World((), {}, (replica(1, OLD, Phase.LEAVING, age=LEAVE_S / 2),)), set(), id="left a moment ago"
        ),
        pytest.param(
            World((), {}, (replica(1, OLD, Phase.LEAVING, age=LEAVE_S),)),
            {Stop(1)},
            id="left long enough ago",
        ),
        pytest.param(
            World((OLD,), {"bge": OLD}, (replica(1, OLD, Phase.DRAINING),)),
            {start(OLD)},
            id="the place of a draining server is free",
        ),
    ],
)
def test_the_plan_leads_from_what_runs_to_what_is_wanted(world: World, actions: set[object]) -> None:
    decided = plan(world, NOW)
    assert set(decided.actions) == actions
    assert len(decided.actions) == len(actions)


A_OLD, A_NEW = Version("a", "old", ("x",), 1, "{}"), Version("a", "new", ("y",), 1, "{}")
B_OLD, B_NEW = Version("b", "old", ("y",), 1, "{}"), Version("b", "new", ("x",), 1, "{}")
SERVING_OLD = {"a": A_OLD, "b": B_OLD}
BOTH_OLD = (replica(1, A_OLD), replica(2, B_OLD))


@pytest.mark.parametrize(
    ("wanted", "ready", "serving"),
    [
        pytest.param((A_NEW, B_NEW), (A_NEW,), SERVING_OLD, id="a swap waits for the second"),
        pytest.param((A_NEW, B_NEW), (B_NEW,), SERVING_OLD, id="a swap waits for the first"),
        pytest.param(
            (A_NEW, B_NEW), (A_NEW, B_NEW), {"a": A_NEW, "b": B_NEW}, id="a swap is made at one moment"
        ),
        pytest.param((A_NEW, B_OLD), (A_NEW,), {"a": A_NEW, "b": B_OLD}, id="a name that nobody wants goes"),
        pytest.param(
            (A_NEW, of(B_NEW, 0)),
            (A_NEW,),
            {"a": A_NEW, "b": of(B_NEW, 0)},
            id="a name that shall be idle goes",
        ),
    ],
)
def test_a_name_changes_its_model_only_once_it_is_answered_there(
    wanted: tuple[Version, ...], ready: tuple[Version, ...], serving: dict[str, Version]
) -> None:
    new = tuple(replica(3 + number, version) for number, version in enumerate(ready))
    assert dict(plan(World(wanted, SERVING_OLD, (*BOTH_OLD, *new)), NOW).serving) == serving


C_NEW = Version("c", "new", ("x",), 1, "{}", weight=5)


@pytest.mark.parametrize(
    ("ready", "weight", "goes"),
    [
        pytest.param((), 5, False, id="none is ready"),
        pytest.param((C_NEW,), 5, True, id="one is ready"),
        pytest.param((C_NEW,), 0, False, id="the one that is ready has no part of it"),
    ],
)
def test_a_name_goes_to_those_who_share_it_once_one_of_them_answers(
    ready: tuple[Version, ...], weight: int, goes: bool
) -> None:
    heirs = (replace(B_NEW, weight=95), replace(C_NEW, weight=weight))
    replicas = (*BOTH_OLD, replica(3, A_NEW), *(replica(4, version) for version in ready))
    world = World((A_NEW, *heirs), SERVING_OLD, replicas)
    assert plan(world, NOW).serving["a"] == (A_NEW if goes else A_OLD)


def test_a_name_that_nobody_answers_any_more_does_not_hold_its_model_back() -> None:
    world = World((A_NEW, B_NEW), SERVING_OLD, (replica(2, B_OLD), replica(3, A_NEW)))
    assert plan(world, NOW).serving["a"] == A_NEW


def test_a_server_that_drains_too_long_is_killed() -> None:
    (action,) = plan(World((), {}, (replica(1, OLD, Phase.DRAINING, age=DRAIN_S),)), NOW).actions
    assert isinstance(action, Kill)
    assert "draining" in action.why


def test_a_server_that_stopped_answering_is_killed() -> None:
    silent = replace(replica(1, OLD), silence=SILENCE_S)
    (action,) = plan(World((OLD,), {"bge": OLD}, (silent,)), NOW).actions
    assert isinstance(action, Kill)
    assert "not answered" in action.why


def test_a_runner_that_was_stopped_itself_does_not_take_its_servers_for_dead() -> None:
    long_ago = replace(replica(1, OLD, age=10 * SILENCE_S), silence=SILENCE_S - 0.1)
    assert plan(World((OLD,), {"bge": OLD}, (long_ago,)), NOW).actions == ()


def test_a_server_that_never_answered_yet_is_given_time() -> None:
    starting = replace(
        replica(1, OLD, Phase.STARTING, age=10 * SILENCE_S), silence=10 * SILENCE_S, status=None
    )
    assert plan(World((OLD,), {"bge": OLD}, (starting,)), NOW).actions == ()


def test_a_crashed_server_is_started_again_only_after_its_pause() -> None:
    slot = Slot("bge", "old", 0)
    early = World((OLD,), {"bge": OLD}, (), {slot: Crash(3, NOW + 0.8, "was killed")})
    waiting = plan(early, NOW)
    assert waiting.actions == ()
    assert waiting.wake_at == NOW + 0.8
    assert plan(early, NOW + 0.8).actions == (start(OLD),)


def test_the_plan_wakes_up_for_the_earliest_thing_that_is_due() -> None:
    leaving = replica(1, OLD, Phase.LEAVING, age=0.0)
    draining = replica(2, OLD, Phase.DRAINING, age=0.0)
    assert plan(World((), {}, (leaving, draining)), NOW).wake_at == NOW + LEAVE_S
    assert plan(World((), {}, ()), NOW).wake_at is None


def test_the_plan_does_not_change_what_it_was_given() -> None:
    serving = {"bge": OLD}
    world = World((NEW,), serving, (replica(1, OLD), replica(2, NEW)))
    assert plan(world, NOW).serving == {"bge": NEW}
    assert serving == {"bge": OLD}


def test_pauses_double_up_to_half_a_minute() -> None:
    crash, pauses = None, []
    for _ in range(10):
        crash = after_end(crash, "ended", ready_since=None, now=NOW)
        pauses.append(crash.retry_at - NOW)
    assert pauses == pytest.approx([0.2, 0.4, 0.8, 1.6, 3.2, 6.4, 12.8, 25.6, 30.0, 30.0])


def test_a_minute_of_health_forgets_earlier_ends() -> None:
    often = Crash(7, NOW, "ended")
    assert after_end(often, "ended", ready_since=NOW - 59, now=NOW).failures == 8
    assert after_end(often, "ended", ready_since=NOW - 60, now=NOW).failures == 1

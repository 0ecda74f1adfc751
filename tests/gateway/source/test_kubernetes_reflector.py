"""A reflector before an API server that answers by a script: what it asks, tells and outlives."""

import asyncio
import contextlib
import logging
from collections.abc import AsyncIterator, Mapping
from dataclasses import dataclass, field

import orjson
import pytest

from rerank_gateway.errors import KubernetesError, RefusedError, SilentError
from rerank_gateway.kubernetes import objects, source
from rerank_gateway.kubernetes.reflector import Pace, Reflector
from rerank_gateway.kubernetes.source import KubernetesSource

pytestmark = pytest.mark.anyio

PATH = "/apis/rerank.dev/v1alpha1/rerankmodels"
PACE = Pace(first_pause_s=0.001, longest_pause_s=0.002, calm_s=0.01, page=2)
FOREVER = "the answer does not end"


@pytest.fixture
def anyio_backend() -> str:
    return "asyncio"


@dataclass
class Api:
    """Gives the next answer of its script: an error, or parts of a body, the last of which may be an error.

    When the script is at its end, answers do not end.
    """

    script: list[object]
    asked: list[tuple[str, dict[str, str]]] = field(default_factory=list)
    at_the_end: asyncio.Event = field(default_factory=asyncio.Event)

    @contextlib.asynccontextmanager
    async def get(
        self, path: str, query: Mapping[str, str], limit_s: float
    ) -> AsyncIterator[AsyncIterator[bytes]]:
        self.asked.append((path, dict(query)))
        answer = self.script.pop(0) if self.script else [FOREVER]
        if isinstance(answer, Exception):
            raise answer
        yield self._parts(answer)

    async def _parts(self, answer: list[object]) -> AsyncIterator[bytes]:
        for part in answer:
            if isinstance(part, Exception):
                raise part
            if part == FOREVER:
                self.at_the_end.set()
                await asyncio.Event().wait()
            yield part


class Told:
    """What a sink has, and how often it was given everything."""

    def __init__(self) -> None:
        self.objects: dict[objects.Key, objects.Model] = {}
        self.lists = 0

    def put(self, key, new):
        self.objects.pop(key, None)
        if new is not None:
            self.objects[key] = new

    def replace(self, listed):
        self.objects = dict(listed)
        self.lists += 1

    @property
    def names(self) -> set[str]:
        return {name for _, name in self.objects}


@pytest.fixture
def played():
    """Play a script to a reflector, to its end; return what was told and what was asked."""

    async def play(*script, pace=PACE):
        api, told = Api(list(script)), Told()
        reflector = Reflector(api, PATH, objects.model, told, pace=pace)
        running = asyncio.create_task(reflector.run())
        await asyncio.wait_for(api.at_the_end.wait(), 120)
        running.cancel()
        with contextlib.suppress(asyncio.CancelledError):
            await running
        return told, [query for _, query in api.asked]

    return play


def page(*items, version="10", following=None):
    metadata = {"resourceVersion": version} | ({"continue": following} if following else {})
    return [orjson.dumps({"kind": "RerankModelList", "metadata": metadata, "items": items})]


def event(kind, raw, version="11"):
    raw = raw | {"metadata": raw["metadata"] | {"resourceVersion": version}}
    return orjson.dumps({"type": kind, "object": raw}) + b"\n"


def error(code, message="gone"):
    status = {"kind": "Status", "status": "Failure", "code": code, "message": message}
    return orjson.dumps({"type": "ERROR", "object": status}) + b"\n"


async def test_pages_are_told_together_and_the_watch_goes_on_from_their_version(played, rerank_model):
    told, asked = await played(
        page(rerank_model("a"), rerank_model("b"), following="more"), page(rerank_model("c"), version="10")
    )
    assert (told.names, told.lists) == ({"a", "b", "c"}, 1)
    assert asked[0] == {"limit": "2"}
    assert asked[1] == {"limit": "2", "continue": "more"}
    assert (asked[2]["watch"], asked[2]["resourceVersion"]) == ("1", "10")


async def test_a_list_that_breaks_off_is_begun_anew_and_nothing_of_it_is_told(played, rerank_model):
    told, asked = await played(
        page(rerank_model("a"), rerank_model("b"), following="more"),
        KubernetesError("the connection broke"),
        page(rerank_model("c")),
    )
    assert (told.names, told.lists) == ({"c"}, 1)
    assert [query.get("continue") for query in asked] == [None, "more", None, None]


async def test_events_are_told_however_they_are_cut_into_parts(played, rerank_model):
    events = (
        event("ADDED", rerank_model("b"), "11")
        + event("MODIFIED", rerank_model("a", names=["new"]), "12")
        + event("DELETED", rerank_model("b"), "13")
        + event("BOOKMARK", {"metadata": {}}, "20")
    )
    for size in (1, 7, 100, len(events)):
        parts = [events[i : i + size] for i in range(0, len(events), size)]
        told, asked = await played(page(rerank_model("a")), parts)
        assert told.names == {"a"}
        assert told.objects["rag", "a"].names == ("new",)
        assert asked[-1]["resourceVersion"] == "20"


async def test_a_line_that_is_cut_off_by_the_end_is_not_told(played, rerank_model):
    whole = event("ADDED", rerank_model("b"), "11")
    cut = event("ADDED", rerank_model("c"), "12")[:-10]
    told, asked = await played(page(rerank_model("a")), [whole, cut])
    assert told.names == {"a", "b"}
    assert asked[-1]["resourceVersion"] == "11"


@pytest.mark.parametrize(
    "refusal",
    [
        pytest.param(RefusedError(410, "too old"), id="by the status"),
        pytest.param([error(410)], id="in the stream"),
    ],
)
async def test_a_forgotten_version_is_listed_anew_without_a_word(played, rerank_model, refusal, caplog):
    told, asked = await played(page(rerank_model("a")), refusal, page(rerank_model("b"), version="30"))
    assert (told.names, told.lists) == ({"b"}, 2)
    assert asked[-1]["resourceVersion"] == "30"
    assert not caplog.records


@pytest.mark.parametrize(
    "failure",
    [
        pytest.param(KubernetesError("no connection"), id="no connection"),
        pytest.param([KubernetesError("the connection broke")], id="the watch breaks"),
        pytest.param(RefusedError(403, "forbidden"), id="forbidden"),
        pytest.param([error(500, "etcd is ill")], id="an error in the stream"),
        pytest.param([b"<html>\n"], id="no JSON"),
        pytest.param([b"[]\n"], id="no object"),
        pytest.param([b'{"type":"ADDED","object":null}\n'], id="null in place of an object"),
        pytest.param([b'{"type":"ADDED","object":{"metadata":{"name":"x"}}}\n'], id="no namespace"),
        pytest.param([b'{"type":"BOOKMARK","object":{"metadata":{}}}\n'], id="no version"),
    ],
)
async def test_after_any_failure_all_is_listed_anew_and_until_then_nothing_is_taken_away(
    played, rerank_model, failure, caplog
):
    told, asked = await played(page(rerank_model("a")), failure, KubernetesError("still away"))
    assert (told.names, told.lists) == (set(), 0) or told.names == {"a"}
    told, asked = await played(page(rerank_model("a")), failure, page(rerank_model("b"), version="30"))
    assert (told.names, told.lists) == ({"b"}, 2)
    assert "watch" not in asked[2]


@pytest.mark.parametrize(
    "garbage",
    [
        pytest.param([b""], id="empty"),
        pytest.param([b"<html>"], id="no JSON"),
        pytest.param([b"{}"], id="no list"),
        pytest.param([b'{"items":[],"metadata":{}}'], id="no version"),
        pytest.param([b'{"items":[5],"metadata":{"resourceVersion":"1"}}'], id="a number among the items"),
    ],
)
async def test_a_list_that_makes_no_sense_is_asked_for_again(played, rerank_model, garbage):
    told, _ = await played(page(rerank_model("a")), KubernetesError("away"), garbage, page(rerank_model("b")))
    assert (told.names, told.lists) == ({"b"}, 2)


@pytest.mark.parametrize(
    "end", [pytest.param([], id="it ends"), pytest.param([SilentError("silent")], id="it falls silent")]
)
async def test_a_quiet_watch_that_is_over_is_opened_again_from_where_it_was(played, rerank_model, end):
    told, asked = await played(page(rerank_model("a")), end, page(version="10"))
    assert (told.names, told.lists) == ({"a"}, 1)
    assert (asked[2], asked[3]["resourceVersion"]) == ({"limit": "1"}, "10")


async def test_a_cluster_that_is_behind_a_quiet_watch_was_restored_and_is_listed_anew(played, rerank_model):
    told, asked = await played(
        page(rerank_model("a")), [], page(version="7"), page(rerank_model("old"), version="7")
    )
    assert (told.names, told.lists) == ({"old"}, 2)
    assert asked[-1]["resourceVersion"] == "7"


async def test_what_cannot_be_read_is_left_out_told_once_and_stops_nothing(played, rerank_model, caplog):
    bad = rerank_model("bad", names=["a b"])
    told, _ = await played(
        page(bad, rerank_model("a")),
        [
            event("MODIFIED", bad, "11"),
            event("MODIFIED", rerank_model("a", names=[5]), "12"),
            event("ADDED", rerank_model("b"), "13"),
            KubernetesError("the connection broke"),
        ],
        page(bad, rerank_model("b"), version="20"),
    )
    assert told.names == {"b"}
    assert [record.message for record in caplog.records if "left out" in record.message] == [
        "RerankModel rag/bad is left out: spec.names holds 'a b', which is no model name",
        "RerankModel rag/a is left out: spec.names holds 5, which is no model name",
    ]


async def test_a_reason_that_stays_the_same_is_logged_once_and_so_is_its_end(played, rerank_model, caplog):
    caplog.set_level(logging.INFO)
    away = KubernetesError("no connection to 10.0.0.1:443: Connection refused")
    await played(away, away, away, page(rerank_model("a")))
    assert [record.message for record in caplog.records] == [
        f"cannot follow {PATH}, what is served stays: {away}",
        f"following {PATH} again",
    ]


async def test_pauses_grow_to_the_longest_and_end_after_a_calm_watch(monkeypatch, rerank_model):
    pauses, real_sleep = [], asyncio.sleep
    monkeypatch.setattr("random.uniform", lambda low, high: high)

    async def sleep(seconds):
        pauses.append(seconds)
        await real_sleep(0)

    monkeypatch.setattr(asyncio, "sleep", sleep)
    away = KubernetesError("away")
    api = Api([*[away] * 6, page(rerank_model("a")), [b"", SilentError("silent")]])
    reflector = Reflector(
        api, PATH, objects.model, Told(), pace=Pace(first_pause_s=1, longest_pause_s=10, calm_s=0)
    )
    running = asyncio.create_task(reflector.run())
    await asyncio.wait_for(api.at_the_end.wait(), 120)
    running.cancel()
    assert pauses == [1, 2, 4, 8, 10, 10]


async def test_a_source_tells_a_burst_as_one_view_and_nothing_that_changes_no_view(
    rerank_model, endpoint_slice
):
    class Cluster(Api):
        """Answers by path: models first, then their changes when they are due."""

        async def _parts(self, answer):
            path, query = self.asked[-1]
            if "watch" not in query:
                yield page(rerank_model("a"), version="10")[0] if path.endswith("models") else page()[0]
            elif path.endswith("models"):
                await changes.wait()
                for i in range(100):
                    yield event("ADDED", rerank_model(f"m{i}"), str(11 + i))
                yield event("MODIFIED", rerank_model("a", spec={"replicas": 2}), "200")
                await asyncio.sleep(0.1)
                yield event("MODIFIED", rerank_model("a", spec={"replicas": 3}), "201")
                taken.set()
                await asyncio.Event().wait()
            else:
                await asyncio.Event().wait()

    taken = asyncio.Event()
    changes, views, told_one = asyncio.Event(), [], asyncio.Queue()
    source = KubernetesSource(Cluster([]))

    async def follow():
        async with contextlib.aclosing(source.views()) as told:
            async for view in told:
                views.append(view)
                told_one.put_nowait(view)

    following = asyncio.create_task(follow())
    await asyncio.wait_for(told_one.get(), 120)
    assert [len(view.models) for view in views] == [1]
    changes.set()
    await asyncio.wait_for(told_one.get(), 120)
    await asyncio.wait_for(taken.wait(), 120)
    await asyncio.sleep(0.4)  # what changes no view would be told within that
    assert [len(view.models) for view in views] == [1, 101]
    following.cancel()
    with contextlib.suppress(asyncio.CancelledError):
        await following


async def test_a_source_tells_nothing_before_every_list_is_complete(rerank_model, endpoint_slice):
    class Cluster(Api):
        """Lists the models at once, and their replicas when it is due."""

        async def _parts(self, answer):
            path, query = self.asked[-1]
            if "watch" in query:
                await asyncio.Event().wait()
            if path.endswith("models"):
                yield page(rerank_model("bge"))[0]
            else:
                await due.wait()
                yield page(endpoint_slice("bge-1", "10.0.0.1"))[0]

    due = asyncio.Event()
    async with contextlib.aclosing(KubernetesSource(Cluster([])).views()) as views:

        async def first():
            return await anext(views)

        told = asyncio.create_task(first())
        await asyncio.sleep(0.2)
        assert not told.done(), "a view without replicas would take them away"
        due.set()
        (model,) = (await asyncio.wait_for(told, 120)).models
    assert [replica.address for replica in model.endpoints] == ["10.0.0.1"]


@pytest.mark.parametrize(
    ("pause", "last", "most_views"),
    [
        pytest.param(3600.0, {"rag/a": 0.05, "rag/new": None}, 2, id="words come with what presses"),
        pytest.param(0.3, {"rag/a": 0.05}, 6, id="and else by themselves"),
    ],
)
async def test_words_about_models_are_told_together(monkeypatch, rerank_model, pause, last, most_views):
    def loading(percent):
        return rerank_model("a", status={"state": "Loading", "message": "x", "progressPercent": percent})

    class Cluster(Api):
        """Lists one model that loads, and tells each percent of it, further apart than a burst lasts."""

        async def _parts(self, answer):
            path, query = self.asked[-1]
            if "watch" not in query:
                yield page(loading(0), version="10")[0] if path.endswith("models") else page()[0]
            elif path.endswith("models"):
                await seen.wait()
                for percent in range(1, 6):
                    yield event("MODIFIED", loading(percent), str(10 + percent))
                    await asyncio.sleep(3 * source._BURST_S)
                if "rag/new" in last:
                    yield event("ADDED", rerank_model("new"), "20")
                await asyncio.Event().wait()
            else:
                await asyncio.Event().wait()

    monkeypatch.setattr(source, "_WORDS_S", pause)
    seen, told = asyncio.Event(), []

    async def follow():
        async with contextlib.aclosing(KubernetesSource(Cluster([])).views()) as coming:
            async for view in coming:
                told.append({model.model: model.progress for model in view.models})
                seen.set()
                if told[-1] == last:
                    return

    await asyncio.wait_for(follow(), 120)
    assert told[0] == {"rag/a": 0.0}
    assert len(told) <= most_views


async def test_a_defect_in_following_ends_the_source_with_its_reason():
    class Broken(Api):
        def get(self, *_):
            raise RuntimeError("a defect")

    with pytest.raises(RuntimeError, match="a defect"):
        async for _ in KubernetesSource(Broken([])).views():
            pass

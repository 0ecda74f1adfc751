"""The state file: written whole, followed, and never able to take a served world away by being broken."""

import asyncio
import contextlib
import json
import logging
import shutil
import stat

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from rerank_api.score_scale import ScoreScale
from rerank_api.status import ModelState
from rerank_gateway import state_file
from rerank_gateway.errors import StateFileError
from rerank_gateway.models import Consumer, Endpoint, Facts, ServedModel, View
from rerank_gateway.state_file import StateFileSource

NAMES = st.text(st.characters(exclude_categories=["Cs"]), min_size=1, max_size=20)
MODELS = st.builds(
    ServedModel,
    name=NAMES,
    model=NAMES,
    state=st.sampled_from(ModelState),
    message=st.text(st.characters(exclude_categories=["Cs"])),
    endpoints=st.lists(
        st.builds(Endpoint, st.ip_addresses().map(str), st.integers(1, 65535)), max_size=3
    ).map(tuple),
    created=st.integers(0, 2**40),
    progress=st.none() | st.floats(0, 1),
    facts=st.builds(
        Facts, st.none() | NAMES, st.none() | st.integers(1, 2**20), st.none() | st.sampled_from(ScoreScale)
    ),
)


CONSUMERS = st.builds(
    Consumer,
    name=st.sampled_from(["search", "rag/search"]),
    digests=st.lists(st.sampled_from(["a" * 64, "0" * 64]), max_size=2).map(tuple),
    models=st.lists(NAMES, max_size=3).map(tuple),
    requests_per_minute=st.none() | st.integers(1, 1000),
)


@settings(max_examples=50, deadline=None)
@given(models=st.lists(MODELS, max_size=5).map(tuple), consumers=st.lists(CONSUMERS, max_size=3).map(tuple))
def test_what_is_written_is_what_is_read(models, consumers, tmp_path_factory):
    path = tmp_path_factory.getbasetemp() / "round-trip.json"
    state_file.write(path, View(models, consumers))
    assert state_file.parse(path.read_bytes()) == View(models, consumers)


def test_a_file_without_consumers_lets_nobody_in():
    assert state_file.parse(b'{"version": 1, "models": []}') == View()


def test_the_file_is_private_and_leaves_no_part_behind(tmp_path, served):
    path = tmp_path / "state.json"
    state_file.write(path, View((served("a", 1),)))
    state_file.write(path, View((served("b", 1),)))
    assert stat.S_IMODE(path.stat().st_mode) == 0o600
    assert list(tmp_path.iterdir()) == [path]


def test_a_write_that_fails_leaves_the_old_file_and_no_part(tmp_path):
    path = tmp_path / "state.json"
    path.mkdir()
    (path / "inside").touch()
    with pytest.raises(OSError, match=r"state\.json"):
        state_file.write(path, View())
    assert list(tmp_path.iterdir()) == [path]


MODEL = {"name": "a", "model": "a", "state": "Ready", "message": ""}


@pytest.mark.parametrize(
    ("content", "words"),
    [
        pytest.param(b"", "the document: Invalid JSON", id="empty"),
        pytest.param(b'{"version": 1, "mod', "the document: Invalid JSON", id="truncated"),
        pytest.param({"version": 2, "models": []}, "version: Input should be 1", id="another version"),
        pytest.param({"version": 1}, "models: Field required", id="no models"),
        pytest.param(
            {"version": 1, "models": [MODEL, {**MODEL, "state": "Fine"}]},
            r"models\[1\]\.state: Input should be 'Pending'",
            id="an unknown state",
        ),
        pytest.param(
            {"version": 1, "models": [{**MODEL, "endpoints": [{"address": "here", "port": 1}]}]},
            r"models\[0\]\.endpoints\[0\]: .*'here' is not an IP address",
            id="a host name",
        ),
        pytest.param(
            {"version": 1, "models": [], "consumers": [{"name": "a", "digests": ["a-key"]}]},
            r"consumers\[0\]: .*a digest of consumer 'a' is not 64 hexadecimal digits",
            id="a key for a digest",
        ),
        pytest.param(
            {"version": 1, "models": [{**MODEL, "created": "1"}]},
            r"models\[0\]\.created: Input should be a valid integer",
            id="a number in quotes",
        ),
    ],
)
def test_a_broken_document_is_refused_with_the_place(content, words):
    raw = content if isinstance(content, bytes) else json.dumps(content).encode()
    with pytest.raises(StateFileError, match=words):
        state_file.parse(raw)


@contextlib.asynccontextmanager
async def following(path):
    async with contextlib.aclosing(StateFileSource(path).views()) as views:

        async def following_view():
            return await asyncio.wait_for(anext(views), 120)

        yield following_view


pytestmark = pytest.mark.anyio


async def test_an_absent_file_and_directory_are_waited_for(tmp_path, served):
    path = tmp_path / "later" / "state.json"
    async with following(path) as view:
        waiting = asyncio.create_task(view())
        await asyncio.sleep(0.05)
        assert not waiting.done()
        state_file.write(path, View((served("a", 1),)))
        assert await waiting == View((served("a", 1),))


async def test_each_change_is_told_and_a_rewrite_of_the_same_is_not(tmp_path, served):
    path = tmp_path / "state.json"
    state_file.write(path, View())
    async with following(path) as view:
        assert await view() == View()
        state_file.write(path, View((served("a", 1),)))
        assert await view() == View((served("a", 1),))
        waiting = asyncio.create_task(view())
        state_file.write(path, View((served("a", 1),)))
        await asyncio.sleep(0.1)
        assert not waiting.done()
        state_file.write(path, View((served("a", 2),)))
        assert await waiting == View((served("a", 2),))


async def test_a_broken_file_is_logged_and_the_next_good_one_is_told(tmp_path, served, caplog, until):
    path = tmp_path / "state.json"
    state_file.write(path, View((served("a", 1),)))
    async with following(path) as view:
        await view()
        waiting = asyncio.create_task(view())
        path.write_text('{"version": 1, "models": [')

        async def logged():
            return "Invalid JSON" in caplog.text

        await until(logged, "the broken file to be logged")
        path.unlink()

        async def missed():
            return "does not exist" in caplog.text

        await until(missed, "the missing file to be logged")
        assert not waiting.done()
        state_file.write(path, View((served("b", 1),)))
        assert await waiting == View((served("b", 1),))
    warnings = [record.getMessage() for record in caplog.records if record.levelno == logging.WARNING]
    assert [str(path) in warning for warning in warnings] == [True, True]
    assert "Invalid JSON" in warnings[0]
    assert "does not exist" in warnings[1]


async def test_a_directory_that_is_replaced_is_followed_on(tmp_path, served):
    path = tmp_path / "run" / "state.json"
    path.parent.mkdir()
    state_file.write(path, View((served("a", 1),)))
    async with following(path) as view:
        await view()
        shutil.rmtree(path.parent)
        path.parent.mkdir()
        for port in (2, 3):
            state_file.write(path, View((served("a", port),)))
            assert await view() == View((served("a", port),))

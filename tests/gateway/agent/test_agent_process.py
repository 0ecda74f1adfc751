"""The agent's process: how it starts, ends, and says why it cannot."""

import asyncio
import json
import signal
import stat
import subprocess
import sys
from collections.abc import AsyncGenerator

import httpx
import pytest

from rerank_gateway import release
from rerank_gateway.__main__ import main
from rerank_gateway.agent import Sockets, run
from rerank_gateway.bootstrap import BootstrapSettings, bootstrap
from rerank_gateway.envoy_process import prepare
from rerank_gateway.errors import SourceEndedError
from rerank_gateway.models import View
from tests.gateway.agent.conftest import PATIENCE

pytestmark = pytest.mark.anyio


async def listed(agent_process):
    """The public names that the agent lists, or None while it does not answer or knows none yet."""
    transport = httpx.AsyncHTTPTransport(verify=False, uds=str(agent_process.state.with_name("http.sock")))
    async with httpx.AsyncClient(verify=False, transport=transport, timeout=PATIENCE) as client:
        try:
            response = await client.get("http://agent/v1/models")
        except httpx.TransportError:
            return None
    if response.status_code == 503:
        return None
    return [model["id"] for model in response.json()["data"]]


@pytest.mark.parametrize("how", [signal.SIGTERM, signal.SIGINT], ids=lambda how: how.name)
async def test_a_told_agent_ends_with_0_and_leaves_no_socket(agent_process, served, until, how):
    agent_process.publish(served("a", 9000))
    await agent_process.start()
    await until(lambda: listed(agent_process), "the listing")
    for name in ("ads.sock", "http.sock", "hold.sock"):
        assert stat.S_IMODE(agent_process.state.with_name(name).stat().st_mode) == 0o600

    assert await agent_process.end(how) == 0

    assert not list(agent_process.state.parent.glob("*.sock"))
    assert "Traceback" not in agent_process.said()


async def test_a_killed_agent_is_followed_by_another_on_the_same_sockets(agent_process, served, until):
    agent_process.publish(served("a", 9000))
    await agent_process.start()
    await until(lambda: listed(agent_process), "the listing")
    await agent_process.end(signal.SIGKILL)
    assert len(list(agent_process.state.parent.glob("*.sock"))) == 3
    agent_process.publish(served("b", 9000))
    await agent_process.start()
    assert await until(lambda: listed(agent_process), "the listing") == ["b"]


async def test_a_second_agent_is_refused_and_the_first_goes_on(agent_process, served, until):
    agent_process.publish(served("a", 9000))
    await agent_process.start()
    await until(lambda: listed(agent_process), "the listing")
    second = await asyncio.create_subprocess_exec(*agent_process.arguments, stderr=subprocess.PIPE)
    _, said = await second.communicate()
    assert second.returncode == 1
    assert "another process listens on" in said.decode()
    assert "Traceback" not in said.decode()
    assert await listed(agent_process) == ["a"]


async def test_a_name_that_two_models_claim_is_logged_once(agent_process, served, until):
    claims = (served("n", model="older", created=1), served("n", model="younger", created=2))
    agent_process.publish(*claims)
    await agent_process.start()
    await until(lambda: listed(agent_process), "the listing")
    agent_process.publish(*claims, served("other"))

    async def followed():
        return await listed(agent_process) == ["n", "other"]

    await until(followed, "the second view")
    assert (
        agent_process.said().count("the name 'n' is claimed by younger as well: older, the oldest, keeps it")
        == 1
    )


class EndingSource:
    """A source that breaks its promise never to end."""

    async def views(self) -> AsyncGenerator[View, None]:
        yield View()


class FailingSource:
    """A source with a defect."""

    async def views(self) -> AsyncGenerator[View, None]:
        yield View()
        raise RuntimeError("a defect")


@pytest.mark.parametrize(
    ("source", "reason"),
    [
        pytest.param(EndingSource(), SourceEndedError, id="the source ends"),
        pytest.param(FailingSource(), RuntimeError, id="the source fails"),
    ],
)
async def test_a_part_that_fails_ends_the_agent_with_the_reason(socket_dir, source, reason):
    with pytest.raises(ExceptionGroup) as ended:
        await asyncio.wait_for(run(source, Sockets.inside(socket_dir), asyncio.Event()), 120)
    assert [type(error) for error in ended.value.exceptions] == [reason]
    assert not list(socket_dir.glob("*.sock"))


@pytest.mark.parametrize(
    ("arguments", "words"),
    [
        pytest.param(
            ["agent", "--state-file", "state.json", "--socket-dir", "/tmp/" + "x" * 100],
            "but the system takes 107: choose a shorter directory",
            id="a long socket path",
        ),
        pytest.param(
            ["agent", "--state-file", "s", "--socket-dir", "/proc/none"], "/proc/none", id="a bad directory"
        ),
        pytest.param(["bootstrap", "--listen", "8080", "--socket-dir", "."], "HOST:PORT", id="no host"),
        pytest.param(
            ["agent", "--socket-dir", "."],
            "one of the arguments --state-file --kubernetes is required",
            id="no source",
        ),
        pytest.param(
            ["agent", "--state-file", "s", "--socket-dir", ".", "--namespace", "rag"],
            "--namespace, --consumers-in and --kubeconfig go with --kubernetes",
            id="a namespace without Kubernetes",
        ),
        pytest.param(
            ["envoy", "--listen", "127.0.0.1:1", "--socket-dir", "/proc/none"],
            "Envoy cannot be started",
            id="a bad directory for Envoy",
        ),
        pytest.param(
            ["bootstrap", "--listen", "127.0.0.1:1", "--socket-dir", "/tmp/" + "x" * 100],
            "choose a directory with a shorter path",
            id="a long path for the bootstrap",
        ),
    ],
)
def test_what_cannot_work_is_said_in_a_sentence(arguments, words, tmp_path):
    ended = subprocess.run(
        [sys.executable, "-m", "rerank_gateway", *arguments],
        check=False,
        capture_output=True,
        text=True,
        timeout=60,
        cwd=tmp_path,
    )
    assert ended.returncode != 0
    assert words in ended.stderr
    assert "Traceback" not in ended.stderr


@pytest.mark.parametrize(
    ("listen", "host", "port"), [("127.0.0.1:8080", "127.0.0.1", 8080), ("[::1]:80", "::1", 80)]
)
def test_the_bootstrap_is_printed_for_the_address_and_sockets(listen, host, port):
    command = [sys.executable, "-m", "rerank_gateway", "bootstrap"]
    options = ["--listen", listen, "--socket-dir", "/run/gateway"]
    printed = subprocess.run([*command, *options], capture_output=True, text=True, check=True, timeout=60)
    bootstrap = json.loads(printed.stdout)
    address = bootstrap["static_resources"]["listeners"][0]["address"]["socket_address"]
    assert address == {"address": host, "port_value": port}
    assert "/run/gateway/ads.sock" in printed.stdout


def test_the_key_that_has_requests_sent_again_is_in_a_private_file_and_not_printed(socket_dir, capsys):
    file = socket_dir / "envoy.json"
    file.write_text("of an earlier version, for everybody to read")
    file.chmod(0o644)
    prepare(BootstrapSettings("127.0.0.1", 8080, socket_dir))
    secret = release.key(socket_dir)
    assert secret in file.read_text()
    assert file.stat().st_mode & 0o777 == 0o600
    assert main(["bootstrap", "--listen", "127.0.0.1:8080", "--socket-dir", str(socket_dir)]) == 0
    told = capsys.readouterr()
    assert json.loads(told.out) == bootstrap(BootstrapSettings("127.0.0.1", 8080, socket_dir))
    assert secret not in told.out + told.err

"""The agent and Envoy with the product's own bootstrap: a request finds its model by its body."""

import json
import subprocess
import sys

import httpx
import pytest

from rerank_gateway import envoy_binary
from tests.gateway.agent.conftest import PATIENCE

pytestmark = pytest.mark.anyio


@pytest.fixture
def gateway(envoy, socket_dir):
    """Envoy with the printed bootstrap, on a port that the system picks."""
    command = [sys.executable, "-m", "rerank_gateway", "bootstrap"]
    options = ["--listen", "127.0.0.1:1", "--socket-dir", str(socket_dir)]
    printed = subprocess.run([*command, *options], capture_output=True, text=True, check=True)
    bootstrap = json.loads(printed.stdout)
    bootstrap["static_resources"]["listeners"][0]["address"]["socket_address"]["port_value"] = 0
    config = socket_dir / "gateway.json"
    config.write_text(json.dumps(bootstrap))
    program = [str(envoy_binary.find()), "--config-path", str(config), "--disable-hot-restart"]
    envoy.arguments = [*program, "--concurrency", "1", "--log-level", "warning"]
    return envoy


async def test_a_model_is_listed_and_asked_by_its_name_and_unknown_or_empty_ones_are_told_apart(
    agent, gateway, replica, served, until
):
    only = await replica("only")
    agent.publish(served("BAAI/bge-m3", only.port), served("empty"))
    await agent.start()
    await gateway.start()
    async with httpx.AsyncClient(verify=False, base_url=gateway.url, timeout=PATIENCE) as client:

        async def rerank(model):
            body = {"model": model, "query": "q", "documents": ["d"]}
            return await client.post("/v1/rerank", json=body)

        async def answered():
            return (await rerank("BAAI/bge-m3")).text == "only"

        await until(answered, "the replica to answer")
        assert (await rerank("empty")).json()["error"]["code"] == "model_not_ready"
        assert (await rerank("other")).json()["error"]["code"] == "model_not_found"

        listed = (await client.get("/v1/models")).json()["data"]
        assert [model["id"] for model in listed] == ["BAAI/bge-m3", "empty"]
        for path in ("BAAI/bge-m3", "BAAI%2Fbge-m3"):
            assert (await client.get(f"/v1/models/{path}")).json()["state"] == "Ready"
        assert (await client.get("/v1/models/other")).json()["error"]["code"] == "model_not_found"

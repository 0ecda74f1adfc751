"""Names that nobody serves: Envoy refuses them by itself, and one that is added later is served at once."""

import httpx
import pytest

from rerank_gateway.delta import DeltaStream, Request
from tests.gateway.agent.conftest import PATIENCE

pytestmark = pytest.mark.anyio


@pytest.fixture
def gateway(product_envoy):
    return product_envoy(concurrency=1)


@pytest.fixture
def asked(monkeypatch) -> list[Request]:
    """Everything that Envoy asks and tells the agent by ADS."""
    seen: list[Request] = []
    request = DeltaStream.request

    def noted(stream, message):
        seen.append(message)
        return request(stream, message)

    monkeypatch.setattr(DeltaStream, "request", noted)
    return seen


async def test_unknown_names_leave_nothing_behind_and_one_that_is_added_is_served(
    agent, gateway, asked, replica, served, until
):
    only = await replica("only")
    known = served("known", only.port)
    agent.publish(known)
    await agent.start()
    await gateway.start()

    async with httpx.AsyncClient(verify=False, base_url=gateway.url, timeout=PATIENCE) as client:

        async def status(name):
            return (await client.post("/v1/rerank", json={"model": name})).status_code

        async def kept():
            """What an unknown name could leave: questions to the agent, clusters, statistics."""
            clusters = (await gateway.ask("/clusters")).text.splitlines()
            statistics = (await gateway.ask("/stats")).text.splitlines()
            names = {line.partition("::")[0] for line in clusters}
            return len(asked), names, {line.partition(":")[0] for line in statistics}

        assert (await status("known"), await status("unknown")) == (200, 404)
        before = await kept()
        assert "m/known" in before[1]
        for i in range(300):
            assert await status(f"unknown-{i % 150}") == 404
        assert await kept() == before

        agent.publish(known, served("unknown-7", only.port))

        async def answered():
            return await status("unknown-7") == 200

        await until(answered, "the name that was unknown to be served")
        assert await status("unknown-8") == 404

"""The agent beside a real Envoy: what becomes effective, and what no failure may touch."""

import asyncio
import signal

import pytest

pytestmark = pytest.mark.anyio


async def test_models_are_added_moved_and_removed_in_a_running_envoy(agent, envoy, replica, served):
    first, second = await replica("first"), await replica("second")
    agent.publish(served("org/a.b", first.port))
    await agent.start()
    await envoy.start()
    await envoy.answers("org/a.b", "first")
    await envoy.lacks("new")

    agent.publish(served("org/a.b", first.port), served("new", second.port))
    await envoy.answers("new", "second")

    agent.publish(served("org/a.b", second.port), served("new", second.port))
    await envoy.answers("org/a.b", "second")

    agent.publish(served("new", second.port))
    await envoy.lacks("org/a.b")
    await envoy.answers("new", "second")


async def test_envoy_starts_with_an_empty_world_and_a_model_without_replicas_is_known(
    agent, envoy, replica, served, until
):
    agent.publish()
    await agent.start()
    await envoy.start()
    await envoy.lacks("a")

    agent.publish(served("a"))

    async def known():
        return (await envoy.get("a")).status_code == 503

    await until(known, "a to be known without replicas")
    only = await replica("only")
    agent.publish(served("a", only.port))
    await envoy.answers("a", "only")


async def test_a_request_in_flight_is_finished_when_its_model_is_removed(
    agent, envoy, replica, served, until
):
    slow = await replica("slow")
    agent.publish(served("a", slow.port), served("b", slow.port))
    await agent.start()
    await envoy.start()
    await envoy.answers("a", "slow")
    before = slow.requests

    request = asyncio.create_task(envoy.get("a", "/slow"))

    async def arrived():
        return slow.requests > before

    await until(arrived, "the request to reach the replica")
    agent.publish(served("b", slow.port))
    await envoy.lacks("a")

    assert not request.done(), "the request must still be running for this test to mean anything"
    slow.released.set()
    assert (await request).text == "slow"


async def test_no_request_fails_while_100_models_come_and_go(agent_process, envoy, replica, served, load):
    steady, other = await replica("steady"), await replica("other")
    established = served("steady", steady.port)
    agent_process.publish(established)
    await agent_process.start()
    await envoy.start()
    await envoy.answers("steady", "steady")

    async with load(envoy, "steady") as seen:
        for _ in range(10):
            agent_process.publish(established, *(served(f"m{i}", other.port) for i in range(100)))
            await envoy.answers("m0", "other")
            await envoy.answers("m99", "other")
            await seen.goes_on()
            agent_process.publish(established)
            await envoy.lacks("m99")
            await envoy.lacks("m0")
            await seen.goes_on()

    assert seen.failures == []


async def test_a_killed_agent_that_comes_back_removes_nothing_and_fails_no_request(
    agent_process, envoy, replica, served, load
):
    first, second = await replica("first"), await replica("second")
    world = [served("a", first.port), served("b", first.port), served("c", first.port)]
    agent_process.publish(*world)
    await agent_process.start()
    await envoy.start()
    await envoy.answers("c", "first")
    removed = "cluster_manager.cluster_removed"

    async with load(envoy, "a") as seen:
        await agent_process.end(signal.SIGKILL)
        await agent_process.start()
        agent_process.publish(*world, served("d", first.port))
        await envoy.answers("d", "first")
        await seen.goes_on()
        assert await envoy.stat(removed) == 0
        modified = await envoy.stat("cluster_manager.cluster_modified")

        await agent_process.end(signal.SIGKILL)
        agent_process.publish(served("a", first.port), served("b", second.port), served("e", second.port))
        await envoy.answers("c", "first")  # while the agent is away, what was known is served
        await seen.goes_on()
        await agent_process.start()
        await envoy.answers("e", "second")
        await envoy.answers("b", "second")
        await envoy.lacks("c")
        await envoy.lacks("d")
        await seen.goes_on()

    assert seen.failures == []
    assert await envoy.stat(removed) == 2
    assert await envoy.stat("cluster_manager.cluster_modified") == modified, (
        "unchanged clusters were sent again"
    )


async def test_an_agent_that_comes_back_and_knows_nothing_yet_removes_nothing(
    agent_process, envoy, replica, served, load, until
):
    only = await replica("only")
    agent_process.publish(served("a", only.port))
    await agent_process.start()
    await envoy.start()
    await envoy.answers("a", "only")

    async def connected():
        """Whether Envoy's stream has reached the agent."""
        clusters = (await envoy.ask("/clusters")).text.splitlines()
        return any(line.startswith("ads::") and line.endswith("::rq_active::1") for line in clusters)

    async def disconnected():
        return not await connected()

    async with load(envoy, "a") as seen:
        await agent_process.end(signal.SIGKILL)
        await until(disconnected, "Envoy to lose the agent")
        agent_process.state.unlink()
        await agent_process.start()
        await until(connected, "Envoy to find the agent")
        await asyncio.sleep(1)
        assert await envoy.stat("cluster_manager.cluster_removed") == 0
        agent_process.publish(served("a", only.port), served("b", only.port))
        await envoy.answers("b", "only")
    assert seen.failures == []
    assert await envoy.stat("cluster_manager.cluster_removed") == 0


async def test_a_restarted_envoy_gets_everything_again(agent, envoy, replica, served):
    only = await replica("only")
    agent.publish(*(served(f"m{i}", only.port) for i in range(20)))
    await agent.start()
    await envoy.start()
    await envoy.answers("m19", "only")

    await envoy.end(signal.SIGKILL)
    agent.publish(*(served(f"m{i}", only.port) for i in range(1, 21)))
    await envoy.start()

    await envoy.answers("m20", "only")
    await envoy.answers("m1", "only")
    await envoy.lacks("m0")


async def test_no_request_fails_while_one_of_two_replicas_refuses(agent, envoy, replica, served, load, until):
    alive, dying = await replica("alive"), await replica("dying")
    agent.publish(served("a", alive.port, dying.port))
    await agent.start()
    await envoy.start()
    await envoy.answers("a", "dying")
    await dying.stop()

    async with load(envoy, "a") as seen:

        async def enough():
            return seen.answers >= 200

        await until(enough, "200 answers")

    await dying.start()
    assert seen.failures == []
    assert (
        await envoy.stat("cluster.*outlier_detection.ejections_enforced_consecutive_local_origin_failure") > 0
    )


async def test_no_request_fails_while_a_second_replica_comes_and_goes(
    agent, envoy, replica, served, load, until
):
    first, second = await replica("first"), await replica("second")
    agent.publish(served("a", first.port))
    await agent.start()
    await envoy.start()
    await envoy.answers("a", "first")

    async with load(envoy, "a") as seen:
        for changes in range(1, 21):
            ports = (first.port, second.port) if changes % 2 else (first.port,)
            agent.publish(served("a", *ports))
            before = seen.answers

            async def served_on(changes=changes, before=before):
                modified = await envoy.stat("cluster_manager.cluster_modified")
                return modified == changes and seen.answers >= before + 20

            await until(served_on, "the cluster, with outlier detection or without, and 20 answers")

    assert seen.failures == []
    assert second.requests


async def test_2000_models_arrive_and_one_more_joins_them(agent_process, envoy, replica, served):
    only = await replica("only")
    many = [served(f"org/model-{i}", only.port) for i in range(2000)]
    agent_process.publish(*many)
    await agent_process.start()
    await envoy.start()
    await envoy.answers("org/model-0", "only")
    await envoy.answers("org/model-1999", "only")

    agent_process.publish(*many, served("late", only.port))

    await envoy.answers("late", "only")
    assert await envoy.stat("cluster_manager.cluster_added") == 2000 + 2
    assert await envoy.stat("cluster_manager.cluster_modified") == 0


async def test_envoy_waits_for_the_first_view(agent, envoy, replica, served):
    only = await replica("only")
    await agent.start()
    starting = asyncio.create_task(envoy.start())
    await asyncio.sleep(1)
    assert not starting.done(), "Envoy takes traffic although nothing is known yet"
    agent.publish(served("a", only.port))
    await starting
    await envoy.answers("a", "only")

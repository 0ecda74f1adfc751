"""What the runner makes of what a server says of itself."""

from typing import Any, cast

import pytest

from rerank_api.status import ServerState, ServerStatus
from rerank_cli.up.servers import Server
from rerank_cli.up.world import Phase, Slot

DOWNLOADING, LOADING, VERIFYING, WARMING, READY, DRAINING, FAILED = ServerState


@pytest.mark.parametrize(
    ("said", "phase"),
    [
        pytest.param([LOADING], Phase.STARTING, id="on its way"),
        pytest.param([FAILED], Phase.STARTING, id="failed, and tries again"),
        pytest.param([LOADING, READY], Phase.READY, id="ready"),
        pytest.param([READY, FAILED], Phase.STARTING, id="its scores turned out wrong"),
        pytest.param([READY, LOADING], Phase.STARTING, id="it loads the model anew"),
        pytest.param([READY, FAILED, READY], Phase.READY, id="and is ready again"),
        pytest.param([READY, DRAINING], Phase.DRAINING, id="it was asked to end"),
        pytest.param([READY, DRAINING, READY], Phase.DRAINING, id="what ends is never ready again"),
    ],
)
def test_a_server_takes_traffic_exactly_while_it_says_that_it_is_ready(
    said: list[ServerState], phase: Phase
) -> None:
    changes: list[Phase] = []
    server = Server(Slot("m", "1", 0), cast("Any", None), 8000, lambda: changes.append(server._phase))
    for state in said:
        server._take(ServerStatus(state=state, message=""))
    assert server._phase is phase
    assert changes[-1] is phase

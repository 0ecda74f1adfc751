"""How fast a model is, measured before it takes traffic: by itself on a CPU, through its queue on a GPU."""

import logging
from collections.abc import Sequence

from rerank_server.batching import Batcher
from rerank_server.daemons import in_daemon_thread
from rerank_server.engine.interface import Row
from rerank_server.families.interface import Cut
from rerank_server.load import LoadedModel
from rerank_server.workers import Staffing, fastest, measure

log = logging.getLogger(__name__)

QUERY = "warm up"
DOCUMENT = "A text of the usual length to warm up with. " * 8
BATCHES = 2
"""That each worker of a GPU is measured with."""


def measure_cores(loaded: LoadedModel, ways: Sequence[Staffing], batch_tokens: int) -> tuple[Staffing, float]:
    """Return which of the `ways` computes the most tokens a second, and how many. Blocks meanwhile."""
    row = _row(loaded)
    batch = [row] * max(1, batch_tokens // len(row.ids))
    measured = [(staffing, measure(loaded.engine, staffing, batch)) for staffing in ways]
    for staffing, speed in measured:
        log.info("measured %s: %.0f tokens a second", staffing, speed)
    best = fastest(measured)
    return best, dict(measured)[best]


async def measure_queue(loaded: LoadedModel, batcher: Batcher, staffing: Staffing) -> float:
    """Return how many tokens a second `staffing` computes of full batches that come through the queue.

    There a batch that does not fit into memory is run in halves. The first time is not measured: a GPU loads
    its kernels then, and chooses among them.
    """
    batcher.staff(staffing)
    row = await in_daemon_thread(lambda: _row(loaded))
    tokens = BATCHES * staffing.workers * loaded.batch_tokens
    rows = [row] * -(-tokens // len(row.ids))
    await batcher.run(rows)
    computed = await batcher.run(rows)
    speed = len(rows) * len(row.ids) / max(computed.compute_seconds, 1e-9)
    log.info("measured %s: %.0f tokens a second", staffing, speed)
    return speed


def _row(loaded: LoadedModel) -> Row:
    query = loaded.ranker.encode_query(QUERY)
    [row] = loaded.ranker.encode_documents(query, [DOCUMENT], Cut("document"))
    return row

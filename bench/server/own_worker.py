"""Our library as a worker of `bench.peers.rounds`: the whole path of a request without HTTP, one thread."""

import argparse
import asyncio
from collections.abc import Sequence
from pathlib import Path
from typing import get_args

from bench.peers.rounds import serve, use_one_core
from rerank_server.families.interface import Cut, Dtype
from rerank_server.load import ScoringOptions, load
from rerank_server.reranker import Reranker


def main() -> None:
    """Load the checkpoint and serve rounds."""
    parser = argparse.ArgumentParser()
    parser.add_argument("checkpoint", type=Path)
    parser.add_argument("--dtype", choices=get_args(Dtype), default="float32")
    parser.add_argument("--engine", default="auto")
    parser.add_argument("--family", default="auto")
    asked = parser.parse_args()
    use_one_core()
    options = ScoringOptions(dtype=asked.dtype, family=asked.family)
    loaded = load(asked.checkpoint, options, threads=1, engine=asked.engine)
    reranker = Reranker(loaded)
    with asyncio.Runner() as runner:

        def score(query: str, documents: Sequence[str]) -> Sequence[float]:
            raw = runner.run(reranker.raw_scores(query, documents, Cut("document")))
            return [float(value) for value in raw.values]

        serve(score, engine=loaded.engine.name, dtype=loaded.engine.dtype, family=loaded.family)
    reranker.close()


if __name__ == "__main__":
    main()

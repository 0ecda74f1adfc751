"""A worker that scores on command and says what it cost: one JSON line in, one JSON line out.

Both sides of a comparison run as such workers, each in an environment and a process of its own.
"""

import json
import os
import sys
import time
from collections.abc import Callable, Sequence
from importlib.metadata import version

Score = Callable[[str, Sequence[str]], Sequence[float]]
"""A query and its documents -> their raw scores, tokenization included."""


def use_one_core() -> None:
    """Keep this process, and every thread that it starts, to one core: one thread computes on either side."""
    os.sched_setaffinity(0, {min(os.sched_getaffinity(0))})


def serve(score: Score, **about: str) -> None:
    """Answer until standard input ends. `about` is told first, with the version of torch.

    In: `{"requests": [{"query", "documents"}, …]}`. Out: `{"cpu", "wall", "scores"}`: seconds of all threads,
    seconds on the clock, a list of scores a request.
    """
    answers = os.fdopen(os.dup(sys.stdout.fileno()), "w", buffering=1)
    sys.stdout = sys.stderr  # what libraries print is no answer
    print(json.dumps({"torch": version("torch"), **about}), file=answers)
    for line in sys.stdin:
        requests = json.loads(line)["requests"]
        cpu, wall = time.process_time(), time.perf_counter()
        scores = [list(map(float, score(each["query"], each["documents"]))) for each in requests]
        cpu, wall = time.process_time() - cpu, time.perf_counter() - wall
        print(json.dumps({"cpu": cpu, "wall": wall, "scores": scores}), file=answers)

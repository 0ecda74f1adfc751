"""Ten times more requests than a server can answer: who is refused, who is answered, what it takes."""

import asyncio
import itertools
from collections import Counter
from collections.abc import Sequence
from dataclasses import dataclass, field
from pathlib import Path

from bench.figures import Figure, versions
from bench.load import HEADERS, TIMEOUT_S, Target, requests_per_second
from bench.proc import MB, forget_peak, peak
from bench.server import models
from bench.server.own_server import NAME, serving
from bench.server.scale import Scale
from bench.workload import make_requests

TIMES = 10
DOCUMENTS = 20
BODIES = 32
CLIENTS = 8
PEAK_MB = 300.0


@dataclass
class Answers:
    """What came of the requests."""

    statuses: Counter[int] = field(default_factory=Counter)
    without_retry_after: int = 0
    """Of those that were refused."""
    broken: int = 0
    """Connections that ended without an answer."""


def ten_times_too_much(build: Path, scale: Scale) -> list[Figure]:
    """Send requests at ten times the rate that the server answers, whatever it says, then wait for all."""
    requests = make_requests(models.vocabulary(), count=BODIES, documents=DOCUMENTS)
    bodies = [request.body(NAME) for request in requests]
    with serving(models.minilm(build), build) as server:
        rate = requests_per_second(server.target, bodies, CLIENTS, scale.overload_seconds / 10)
        forget_peak(server.pid)
        before = peak(server.pid)
        answers = asyncio.run(_send(server.target, bodies, TIMES * rate, scale.overload_seconds))
        grown = peak(server.pid) - before
        afterwards = requests_per_second(server.target, bodies, CLIENTS, scale.overload_seconds / 10)
    sent = sum(answers.statuses.values()) + answers.broken
    wrong = sent - answers.statuses[200] - answers.statuses[429] + answers.without_retry_after
    load = f"{TIMES} times more requests than can be answered, for {scale.overload_seconds:g} s"
    used = versions("torch", "fastapi", "uvicorn")
    outcome = f"{sent} sent, {answers.statuses[200]} answered, {answers.statuses[429]} told when to come back"
    alone = f"{rate:.0f} requests/s before, {afterwards:.0f} after"
    return [
        Figure(f"{load}: neither answered nor told so", wrong, "requests", 0.0, "lower", "", used, outcome),
        Figure(f"{load}: memory's peak", grown / MB, "MB more", PEAK_MB, "lower", alone, used),
    ]


async def _send(target: Target, bodies: Sequence[bytes], rate: float, seconds: float) -> Answers:
    answers, loop = Answers(), asyncio.get_running_loop()
    began = loop.time()
    async with asyncio.TaskGroup() as tasks:
        for number, body in zip(range(int(rate * seconds)), itertools.cycle(bodies), strict=False):
            await asyncio.sleep(began + number / rate - loop.time())
            tasks.create_task(_one(target, body, answers))
    return answers


async def _one(target: Target, body: bytes, answers: Answers) -> None:
    lines = [
        f"POST {target.path} HTTP/1.1",
        "Host: 127.0.0.1",
        f"Content-Length: {len(body)}",
        "Connection: close",
        *(f"{name}: {value}" for name, value in HEADERS.items()),
    ]
    try:
        async with asyncio.timeout(TIMEOUT_S):
            reader, writer = await asyncio.open_connection("127.0.0.1", target.port)
            writer.write("\r\n".join(lines).encode() + b"\r\n\r\n" + body)
            answer = await reader.read()
            writer.close()
    except OSError:
        answer = b""
    head, _, content = answer.partition(b"\r\n\r\n")
    if not content:
        answers.broken += 1
        return
    status = int(head.split(b" ", 2)[1])
    answers.statuses[status] += 1
    if status == 429 and b"\r\nretry-after:" not in head.lower():
        answers.without_retry_after += 1

"""Requests through the cluster's ingress, alone or from many clients all the while something else happens."""

import json
import threading
import time
from collections import Counter
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import httpx

from tests.cluster.harness.kube import eventually

PANDA = json.loads((Path(__file__).parents[3] / "examples/panda.json").read_text(encoding="utf-8"))
ANSWER_S = 120.0
ROUND = 6
"""Requests in a row on one connection, among which each gateway is asked.

There are two, each hears of a change by itself, and an ingress goes round among them.
"""


@dataclass(frozen=True)
class Door:
    """The gateway as a client outside sees it: an address, and the host name that the Ingress knows."""

    address: str
    host: str

    def client(self) -> httpx.Client:
        """Return a client that keeps its connection, as SDKs do."""
        return httpx.Client(base_url=f"http://{self.address}", headers={"Host": self.host}, timeout=ANSWER_S)

    def rank(self, model: str | None, **more: Any) -> httpx.Response:
        """Rank the README's example, at whichever gateway."""
        with self.client() as client:
            return _rank(client, model, **more)

    def answered(self, model: str | None, wanted: int = 200) -> httpx.Response:
        """Wait until every gateway answers the README's example with a status; return one of the answers."""

        def everywhere() -> httpx.Response | None:
            with self.client() as client:
                answers = [_rank(client, model) for _ in range(ROUND)]
            return answers[0] if {answer.status_code for answer in answers} == {wanted} else None

        return eventually(
            everywhere, f"every gateway to answer {model} with {wanted}", lambda: self.rank(model).text
        )

    def models(self) -> dict[str, dict[str, Any]]:
        """Return what one of the gateways lists, by public name."""
        with self.client() as client:
            return _models(client)

    def lists(self) -> list[dict[str, dict[str, Any]]]:
        """Return what each gateway lists, by public name; of each at least once."""
        with self.client() as client:
            return [_models(client) for _ in range(ROUND)]


def best_score(answer: httpx.Response) -> float:
    """Return the score of the first of the ranking, to two digits."""
    return round(float(answer.json()["results"][0]["relevance_score"]), 2)


def _rank(client: httpx.Client, model: str | None, **more: Any) -> httpx.Response:
    body = {**PANDA, "model": model, **more}
    return client.post("/v1/rerank", json={name: value for name, value in body.items() if value is not None})


def _models(client: httpx.Client) -> dict[str, dict[str, Any]]:
    return {model["id"]: model for model in client.get("/v1/models").raise_for_status().json()["data"]}


@dataclass
class Traffic:
    """What became of the requests of many clients."""

    outcomes: Counter[str] = field(default_factory=Counter)
    failures: list[str] = field(default_factory=list)
    _best: Counter[float] = field(default_factory=Counter)
    _lock: threading.Lock = field(default_factory=threading.Lock)
    _stop: threading.Event = field(default_factory=threading.Event)

    @property
    def answered(self) -> int:
        """Return how many requests were answered with a ranking so far."""
        return self.outcomes["200"]

    @property
    def best(self) -> Counter[float]:
        """Return how many answers had which best score so far: it tells models apart that share a name."""
        with self._lock:
            return Counter(self._best)

    def note(self, outcome: str, detail: str) -> None:
        """Count one request that failed."""
        with self._lock:
            self.outcomes[outcome] += 1
            self.failures.append(f"{time.strftime('%H:%M:%S')} {detail}")

    def note_ranking(self, score: float) -> None:
        """Count one request that was answered with a ranking."""
        with self._lock:
            self.outcomes["200"] += 1
            self._best[score] += 1

    def run(self, door: Door, model: str) -> None:
        """Be one client until told to stop."""
        body = {**PANDA, "model": model}
        with door.client() as client:
            while not self._stop.is_set():
                try:
                    answer = client.post("/v1/rerank", json=body)
                except httpx.HTTPError as error:
                    self.note(type(error).__name__, repr(error))
                else:
                    if answer.status_code == 200:
                        self.note_ranking(best_score(answer))
                    else:
                        self.note(str(answer.status_code), f"{answer.status_code} {answer.text[:300]}")
                time.sleep(0.02)  # there are two cores for all of the cluster

    def stop(self) -> None:
        """Have every client end with the request that it has."""
        self._stop.set()


@contextmanager
def traffic(door: Door, model: str, clients: int = 8) -> Iterator[Traffic]:
    """Send requests from so many clients while the context lasts."""
    seen = Traffic()
    threads = [threading.Thread(target=seen.run, args=(door, model)) for _ in range(clients)]
    for thread in threads:
        thread.start()
    try:
        yield seen
    finally:
        seen.stop()
        for thread in threads:
            thread.join()


def assert_none_failed(seen: Traffic, at_least: int = 20) -> None:
    """Every request was answered, and there were some."""
    print(dict(seen.outcomes))
    assert seen.failures == []
    assert seen.answered >= at_least

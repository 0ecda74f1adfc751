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

PANDA = json.loads((Path(__file__).parents[3] / "examples/panda.json").read_text(encoding="utf-8"))
ANSWER_S = 60.0


@dataclass(frozen=True)
class Door:
    """The gateway as a client outside sees it: an address, and the host name that the Ingress knows."""

    address: str
    host: str

    def client(self) -> httpx.Client:
        """Return a client that keeps its connection, as SDKs do."""
        return httpx.Client(base_url=f"http://{self.address}", headers={"Host": self.host}, timeout=ANSWER_S)

    def rank(self, model: str | None, **more: Any) -> httpx.Response:
        """Rank the README's example."""
        body = {**PANDA, "model": model, **more}
        with self.client() as client:
            return client.post(
                "/v1/rerank", json={name: value for name, value in body.items() if value is not None}
            )

    def models(self) -> dict[str, dict[str, Any]]:
        """Return what the gateway lists, by public name."""
        with self.client() as client:
            return {model["id"]: model for model in client.get("/v1/models").json()["data"]}


@dataclass
class Traffic:
    """What became of the requests of many clients."""

    outcomes: Counter[str] = field(default_factory=Counter)
    failures: list[str] = field(default_factory=list)
    _lock: threading.Lock = field(default_factory=threading.Lock)
    _stop: threading.Event = field(default_factory=threading.Event)

    @property
    def answered(self) -> int:
        """Return how many requests were answered with a ranking so far."""
        return self.outcomes["200"]

    def note(self, outcome: str, detail: str) -> None:
        """Count one request."""
        with self._lock:
            self.outcomes[outcome] += 1
            if outcome != "200":
                self.failures.append(f"{time.strftime('%H:%M:%S')} {detail}")

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

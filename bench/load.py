"""A closed loop of clients over persistent loopback connections, cheap enough to measure a proxy with."""

import http.client
import threading
import time
from collections.abc import Sequence
from dataclasses import dataclass

HEADERS = {"Content-Type": "application/json"}


@dataclass(frozen=True)
class Target:
    """Where to send what."""

    port: int
    path: str = "/v1/rerank"


class Client:
    """One keep-alive connection."""

    def __init__(self, target: Target) -> None:
        self._target = target
        self._connection = http.client.HTTPConnection("127.0.0.1", target.port, timeout=60)

    def send(self, body: bytes) -> float:
        """Send one request, read the whole answer, return the seconds it took; raise unless it is 200."""
        started = time.perf_counter()
        self._connection.request("POST", self._target.path, body, HEADERS)
        response = self._connection.getresponse()
        answer = response.read()
        took = time.perf_counter() - started
        if response.status != 200:
            raise RuntimeError(f"{self._target}: {response.status} {answer[:300]!r}")
        return took

    def close(self) -> None:
        """Close the connection."""
        self._connection.close()


def requests_per_second(target: Target, bodies: Sequence[bytes], clients: int, seconds: float) -> float:
    """Run `clients` closed loops for `seconds`; each takes the bodies in turn, from a place of its own."""
    end = time.perf_counter() + seconds
    counts = [0] * clients
    failures: list[BaseException] = []

    def loop(number: int) -> None:
        client = Client(target)
        try:
            while time.perf_counter() < end:
                client.send(bodies[(number * 7 + counts[number]) % len(bodies)])
                counts[number] += 1
        except BaseException as error:  # noqa: BLE001  # raised again by whoever joins the threads
            failures.append(error)
        finally:
            client.close()

    threads = [threading.Thread(target=loop, args=(number,)) for number in range(clients)]
    started = time.perf_counter()
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    if failures:
        raise failures[0]
    return sum(counts) / (time.perf_counter() - started)

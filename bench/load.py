"""A closed loop of clients over persistent loopback connections, cheap enough to measure a proxy with."""

import http.client
import threading
import time
from collections.abc import Callable, Iterable, Sequence
from dataclasses import dataclass

TIMEOUT_S = 300
HEADERS = {"Content-Type": "application/json"}


@dataclass(frozen=True)
class Target:
    """Where to send what."""

    port: int
    path: str = "/v1/rerank"
    key: str = ""

    @property
    def headers(self) -> dict[str, str]:
        """What every request says."""
        return {**HEADERS, "Authorization": f"Bearer {self.key}"} if self.key else HEADERS


class Client:
    """One keep-alive connection."""

    def __init__(self, target: Target) -> None:
        self._target = target
        self._connection = http.client.HTTPConnection("127.0.0.1", target.port, timeout=TIMEOUT_S)

    def send(self, body: bytes) -> float:
        """Send one request, read the whole answer, return the seconds it took; raise unless it is 200."""
        started = time.perf_counter()
        self.ask(body)
        return time.perf_counter() - started

    def ask(self, body: bytes) -> bytes:
        """Send one request and return the whole answer; raise `RuntimeError` unless it is 200."""
        self._connection.request("POST", self._target.path, body, self._target.headers)
        response = self._connection.getresponse()
        answer = response.read()
        if response.status != 200:
            place = f"port {self._target.port}, {self._target.path}"
            raise RuntimeError(f"{place}: {response.status} {answer[:300]!r}")
        return answer

    def close(self) -> None:
        """Close the connection."""
        self._connection.close()


def requests_per_second(target: Target, bodies: Sequence[bytes], clients: int, seconds: float) -> float:
    """Run `clients` closed loops for `seconds`; each takes the bodies in turn, from a place of its own."""
    end = time.perf_counter() + seconds
    counts = [0] * clients

    def loop(client: Client, number: int) -> None:
        while time.perf_counter() < end:
            client.send(bodies[(number * 7 + counts[number]) % len(bodies)])
            counts[number] += 1

    took = _together(target, loop, clients)
    return sum(counts) / took


def seconds_for(target: Target, bodies: Iterable[bytes], clients: int) -> float:
    """Send every body once, by `clients` closed loops that take the next one; return the seconds it took."""
    todo = iter(bodies)
    turn = threading.Lock()

    def loop(client: Client, _: int) -> None:
        while True:
            with turn:
                body = next(todo, None)
            if body is None:
                return
            client.send(body)

    return _together(target, loop, clients)


def _together(target: Target, loop: Callable[[Client, int], None], clients: int) -> float:
    failures: list[BaseException] = []

    def run(number: int) -> None:
        client = Client(target)
        try:
            loop(client, number)
        except BaseException as error:  # noqa: BLE001  # raised again by whoever joins the threads
            failures.append(error)
        finally:
            client.close()

    threads = [threading.Thread(target=run, args=(number,)) for number in range(clients)]
    started = time.perf_counter()
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    took = time.perf_counter() - started
    if failures:
        raise failures[0]
    return took

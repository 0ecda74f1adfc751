"""Keep one list of objects up to date: list it, then watch it; list it again when the watch cannot go on.

How that works: https://kubernetes.io/docs/reference/using-api/api-concepts/#efficient-detection-of-changes
"""

import asyncio
import logging
import random
import time
from collections.abc import AsyncIterator, Callable, Mapping
from contextlib import AbstractAsyncContextManager
from dataclasses import dataclass
from http import HTTPStatus
from typing import Generic, Protocol, TypeVar

import orjson

from rerank_gateway.errors import KubernetesError, RefusedError, SilentError
from rerank_gateway.kubernetes.objects import Json, Key, UnreadableError, key_of

T = TypeVar("T")
T_contra = TypeVar("T_contra", contravariant=True)

log = logging.getLogger(__name__)


class Api(Protocol):
    """Gets a path of the Kubernetes API, as `kubernetes.api.KubernetesApi` says it."""

    def get(
        self, path: str, query: Mapping[str, str], limit_s: float
    ) -> AbstractAsyncContextManager[AsyncIterator[bytes]]:
        """Give the body in parts."""
        ...


class Sink(Protocol[T_contra]):
    """Takes what a reflector learns."""

    def put(self, key: Key, new: T_contra | None) -> None:
        """Take over what one object is now; None where it is gone."""
        ...

    def replace(self, objects: Mapping[Key, T_contra]) -> None:
        """Take over all objects that there are."""
        ...


@dataclass(frozen=True)
class Pace:
    """How a reflector spends its time, in seconds."""

    watch_s: float = 55.0
    """How long the API server is asked to keep a watch open, at most; some less at random."""
    late_s: float = 10.0
    """How much later a watch counts as dead that neither tells anything nor ends."""
    list_s: float = 60.0
    """How long one page of a list may take."""
    first_pause_s: float = 0.2
    longest_pause_s: float = 10.0
    """Between attempts; they double from the first to the longest."""
    calm_s: float = 5.0
    """A watch that lasted for so long was worth something: what follows it is not a failure in a row."""
    page: int = 500
    """Objects of a list that are asked for at once."""


DEFAULT_PACE = Pace()


class Reflector(Generic[T]):
    """Follows the objects at one path, those with a label or a field if one is given.

    `read` takes an object's few fields; what it cannot read is told once and is as good as absent.
    """

    def __init__(
        self,
        api: Api,
        path: str,
        read: Callable[[Json], T | None],
        sink: Sink[T],
        *,
        label: str | None = None,
        field: str | None = None,
        pace: Pace = DEFAULT_PACE,
    ) -> None:
        self.listed = False
        """Whether the sink has had a complete list once."""
        self._api = api
        self._path = path
        self._read = read
        self._sink = sink
        self._query = {} if label is None else {"labelSelector": label}
        if field is not None:
            self._query["fieldSelector"] = field
        self._pace = pace
        self._version: str | None = None
        """To go on from; None where only a new list helps."""
        self._failures = 0
        self._complaint: str | None = None
        self._unreadable: dict[Key, str] = {}

    async def run(self) -> None:
        """Follow until cancelled. What fails is logged once and tried again; the sink keeps what it has."""
        while True:
            try:
                if self._version is None:
                    await self._list()
                await self._watch()
            except KubernetesError as error:
                # While nobody answers anything may happen, even that the cluster is restored to a state
                # before the version that was last seen: only a list tells.
                self._version = None
                self._failures += 1
                if not (isinstance(error, RefusedError) and error.status == HTTPStatus.GONE):
                    self._complain(str(error))
            await asyncio.sleep(self._pause())

    async def _list(self) -> None:
        """Tell the sink of all objects, once all pages are there."""
        objects: dict[Key, T] = {}
        unreadable: dict[Key, str] = {}
        query = self._query | {"limit": str(self._pace.page)}
        while True:
            page = await self._page(query)
            for raw in page.get("items") or ():
                key, value = self._key_and_value(_mapping(raw))
                if value is not None:
                    objects[key] = value
                elif key in self._unreadable:
                    unreadable[key] = self._unreadable[key]
            following = _mapping(page.get("metadata")).get("continue")
            if not following:
                break
            query["continue"] = following
        version = _version(page)
        self._unreadable = unreadable
        self._sink.replace(objects)
        self._version = version
        self.listed = True
        if self._complaint is not None:
            self._complaint = None
            log.info("following %s again", self._path)

    async def _page(self, query: Mapping[str, str]) -> Json:
        async with self._api.get(self._path, query, self._pace.list_s) as parts:
            return _json(b"".join([part async for part in parts]))

    async def _watch(self) -> None:
        """Tell the sink of each change until the API server ends the watch, as it does from time to time."""
        seconds = max(1, round(self._pace.watch_s * random.uniform(0.8, 1.0)))  # noqa: S311  # spreads load
        query = self._query | {
            "watch": "1",
            "resourceVersion": str(self._version),
            "allowWatchBookmarks": "true",
            "timeoutSeconds": str(seconds),
        }
        began, before = time.monotonic(), self._version
        try:
            async with self._api.get(self._path, query, seconds + self._pace.late_s) as parts:
                rest = b""
                async for part in parts:
                    *lines, rest = (rest + part).split(b"\n")
                    for line in lines:
                        self._tell(_json(line))
        except SilentError:
            log.info("the watch of %s fell silent; it is opened again", self._path)
        finally:
            calm = time.monotonic() - began >= self._pace.calm_s
            if calm:
                self._failures = 0
        if not calm:
            self._failures += 1
        if self._version == before and await self._is_behind(before):
            raise KubernetesError("the cluster was restored to an earlier state")

    async def _is_behind(self, version: str | None) -> bool:
        """Say whether the cluster has not come to a version yet: a watch from there would stay silent."""
        now = _version(await self._page(self._query | {"limit": "1"}))
        try:
            return int(now) < int(version or 0)
        except ValueError:  # only where it is not etcd that keeps them
            return False

    def _tell(self, event: Json) -> None:
        """Take one line of a watch. Raises `RefusedError` for one that ends it."""
        raw = _mapping(event.get("object"))
        match event.get("type"):
            case "ADDED" | "MODIFIED":
                self._sink.put(*self._key_and_value(raw))
            case "DELETED":
                key = _key(raw)
                self._unreadable.pop(key, None)
                self._sink.put(key, None)
            case "ERROR":
                raise RefusedError(raw.get("code", 0), raw.get("message", "no reason given"))
        self._version = _version(raw)

    def _key_and_value(self, raw: Json) -> tuple[Key, T | None]:
        key = _key(raw)
        try:
            value = self._read(raw)
        except UnreadableError as error:
            if self._unreadable.get(key) != str(error):
                self._unreadable[key] = str(error)
                log.warning("%s %s is left out: %s", raw.get("kind", self._path), "/".join(key), error)
            return key, None
        self._unreadable.pop(key, None)
        return key, value

    def _complain(self, reason: str) -> None:
        """Log why nothing is heard, once for as long as the reason stays the same."""
        if reason != self._complaint:
            self._complaint = reason
            log.warning("cannot follow %s, what is served stays: %s", self._path, reason)

    def _pause(self) -> float:
        """Return for how long to wait before the next attempt; some less at random, to spread the load."""
        if self._failures == 0:
            return 0.0
        grown = self._pace.first_pause_s * 2.0 ** min(self._failures - 1, 16)
        return min(grown, self._pace.longest_pause_s) * random.uniform(0.5, 1.0)  # noqa: S311


def _json(text: bytes) -> Json:
    try:
        value = orjson.loads(text)
    except orjson.JSONDecodeError as error:
        raise KubernetesError(f"the API server's answer is no JSON: {error}") from None
    return _mapping(value)


def _mapping(value: object) -> Json:
    if not isinstance(value, dict):
        raise KubernetesError(f"the API server's answer has {value!r:.80} in the place of an object")
    return value


def _version(raw: Json) -> str:
    version = _mapping(raw.get("metadata")).get("resourceVersion")
    if not isinstance(version, str) or not version:
        raise KubernetesError("the API server's answer has no resourceVersion")
    return version


def _key(raw: Json) -> Key:
    try:
        return key_of(raw)
    except UnreadableError as error:
        raise KubernetesError(f"the API server tells of an object without a name: {error}") from None

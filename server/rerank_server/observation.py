"""What is known of one request while it is answered: for its trace and its line in the log.

Never a text of a query or a document: names, numbers and times only. The core notes facts wherever it learns
them; where nobody observes the request, noting costs one look at a context variable.
"""

import re
import time
from collections.abc import Awaitable, Callable, Iterable, MutableMapping
from contextvars import ContextVar
from dataclasses import dataclass, field
from typing import Any, Protocol, TypeAlias

Scope: TypeAlias = MutableMapping[str, Any]
Message: TypeAlias = MutableMapping[str, Any]
Receive: TypeAlias = Callable[[], Awaitable[Message]]
Send: TypeAlias = Callable[[Message], Awaitable[None]]
AsgiApp: TypeAlias = Callable[[Scope, Receive, Send], Awaitable[None]]

REQUEST_ID = re.compile(rb"[A-Za-z0-9._:-]{1,128}")
"""What an id looks like; anything else that a caller sends as one is not repeated."""


@dataclass(frozen=True)
class Step:
    """A part of the work on a request. Times are monotonic seconds."""

    name: str
    began: float
    ended: float


@dataclass
class Facts:
    """What has become known of one request."""

    method: str
    path: str
    headers: dict[str, str]
    """With names in lower case. For the trace's context; never logged."""
    request_id: str | None
    began: float
    """Monotonic seconds."""
    face: str | None = None
    model: str | None = None
    """A public name that this server has."""
    documents: int = 0
    tokens: int = 0
    steps: list[Step] = field(default_factory=list)
    status: int = 500
    """Of the answer, once its headers are sent."""
    ended: float = 0.0
    trace_id: str | None = None

    @property
    def seconds(self) -> float:
        """Return how long it took, from its headers to the end of its answer."""
        return self.ended - self.began


_CURRENT: ContextVar[Facts | None] = ContextVar("facts", default=None)


def note_request(model: str, documents: int) -> None:
    """Note a query to one of this server's names, and how many documents it has."""
    if (facts := _CURRENT.get()) is not None:
        facts.model = model
        facts.documents += documents


def note_tokens(tokens: int) -> None:
    """Note how many token ids the model ran for a query."""
    if (facts := _CURRENT.get()) is not None:
        facts.tokens += tokens


def note_step(name: str, began: float, ended: float) -> None:
    """Note a part of the work, in monotonic seconds."""
    if (facts := _CURRENT.get()) is not None:
        facts.steps.append(Step(name, began, ended))


class Observer(Protocol):
    """Somebody who wants to know of requests."""

    def begun(self, facts: Facts) -> None: ...
    def ended(self, facts: Facts) -> None: ...


def observed(app: AsgiApp, paths: Iterable[str], observers: Iterable[Observer]) -> AsgiApp:
    """Return `app` with every request to `paths` observed; without observers it is `app` itself."""
    watching, followed = tuple(observers), frozenset(paths)
    if not watching:
        return app

    async def watched(scope: Scope, receive: Receive, send: Send) -> None:
        if scope["type"] != "http" or scope["path"] not in followed:
            await app(scope, receive, send)
            return
        facts = _facts(scope)

        async def sending(message: Message) -> None:
            if message["type"] == "http.response.start":
                facts.status = message["status"]
            await send(message)

        for observer in watching:
            observer.begun(facts)
        token = _CURRENT.set(facts)
        try:
            await app(scope, receive, sending)
        finally:
            _CURRENT.reset(token)
            facts.ended = time.monotonic()
            facts.face = _face(scope)
            for observer in watching:
                observer.ended(facts)

    return watched


def _facts(scope: Scope) -> Facts:
    headers: dict[bytes, bytes] = dict(scope["headers"])
    given = headers.get(b"x-request-id", b"")
    return Facts(
        method=scope["method"],
        path=scope["path"],
        headers={name.decode("latin-1"): value.decode("latin-1") for name, value in headers.items()},
        request_id=given.decode() if REQUEST_ID.fullmatch(given) else None,
        began=time.monotonic(),
    )


def _face(scope: Scope) -> str | None:
    """Return the dialect that answered, which the routes keep in the request's state."""
    name = getattr(scope.get("state", {}).get("face"), "name", None)
    return name if isinstance(name, str) else None

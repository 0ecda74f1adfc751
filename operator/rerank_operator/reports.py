"""What servers say of themselves: their `/status`, asked while it can tell something new."""

import asyncio
import logging
from collections.abc import Callable, Iterable, Mapping
from typing import NamedTuple

import httpx
from pydantic import ValidationError

from rerank_api.status import ServerState, ServerStatus
from rerank_operator.desired.pod import PORT
from rerank_operator.keys import Key
from rerank_operator.observed import Pod, uid_of

ANSWER_S = 2.0
LONGEST_ANSWER = 64 * 1024
"""Bytes of a `/status` that are read at most: whatever has the label of a model is asked."""
AT_ONCE = 32
"""Pods that are asked at the same time."""
PAUSE_S = 1.0
PAUSE_OF_A_FAILURE_S = 5.0
LONGEST_PAUSE_S = 60.0
FORGOTTEN_AFTER = 5
"""Questions without an answer after which what was said last counts no more."""
_AS_IT_IS = {"accept-encoding": "identity"}
"""What is packed may unpack to more than memory holds, so it is not unpacked."""

log = logging.getLogger(__name__)


def pause_after(report: ServerStatus | None, silent: int) -> float:
    """Return the seconds until a server is asked again; `silent` counts questions without an answer."""
    if silent:
        return min(PAUSE_S * 2.0 ** min(silent - 1, 16), LONGEST_PAUSE_S)
    return PAUSE_OF_A_FAILURE_S if report is not None and report.failure is not None else PAUSE_S


class _Asked(NamedTuple):
    """A run of a server that is asked, as the kubelet saw it when that began."""

    life: str
    """`Pod.life`."""
    ready: bool


class Reports:
    """The last thing that each run of a server said.

    Servers are asked beside the work on models, so that one that does not answer holds no model up; `news` is
    called with the model when there is something new. A pod that is ready, and said so, is not asked again.
    One that becomes ready is asked at once, however long it was silent before: what it proved is news then.
    """

    def __init__(self, http: httpx.AsyncClient, news: Callable[[Key], None]) -> None:
        self._http = http
        self._news = news
        self._said: dict[str, ServerStatus] = {}
        self._followers: dict[Key, dict[_Asked, asyncio.Task[None]]] = {}
        self._places = asyncio.Semaphore(AT_ONCE)

    def known(self, pods: Iterable[Pod]) -> Mapping[str, ServerStatus]:
        """Return what these pods' servers have said in this run, by `Pod.life`."""
        return {pod.life: self._said[pod.life] for pod in pods if pod.life in self._said}

    def follow(self, key: Key, pods: Iterable[Pod]) -> None:
        """Ask every pod of a model that may have something new to tell, from now on, and no other of them."""
        may_tell = {_Asked(pod.life, pod.ready): pod for pod in pods if self._may_tell(pod)}
        asked = self._followers.pop(key, {})
        _leave(asked, asked.keys() - may_tell.keys())
        for one, pod in may_tell.items():
            if one not in asked:
                asked[one] = asyncio.create_task(self._follow(key, pod))
        if asked:
            self._followers[key] = asked

    def forget_others(self, uids: Iterable[str]) -> None:
        """Drop what pods have said that exist no more. `uids` are those of every pod that exists."""
        alive = set(uids)
        for asked in self._followers.values():
            _leave(asked, {one for one in asked if uid_of(one.life) not in alive})
        self._said = {life: report for life, report in self._said.items() if uid_of(life) in alive}

    def stop(self) -> None:
        """Ask nobody any more."""
        for asked in self._followers.values():
            _leave(asked, set(asked))

    def _may_tell(self, pod: Pod) -> bool:
        said = self._said.get(pod.life)
        return pod.runs and not (pod.ready and said is not None and said.state is ServerState.READY)

    async def _follow(self, key: Key, pod: Pod) -> None:
        silent = 0
        while True:
            async with self._places:
                report = await self._ask(pod)
            silent = silent + 1 if report is None else 0
            before = self._said.get(pod.life)
            if report is not None:
                self._said[pod.life] = report
            elif silent == FORGOTTEN_AFTER:
                self._said.pop(pod.life, None)
            if self._said.get(pod.life) != before:
                self._news(key)
            await asyncio.sleep(pause_after(report, silent))

    async def _ask(self, pod: Pod) -> ServerStatus | None:
        host = f"[{pod.address}]" if ":" in (pod.address or "") else pod.address
        try:
            # The client's own limit is one of the pauses within an answer.
            async with (
                asyncio.timeout(ANSWER_S),
                self._http.stream(
                    "GET", f"http://{host}:{PORT}/status", headers=_AS_IT_IS, timeout=ANSWER_S
                ) as answer,
            ):
                content = b""
                async for piece in answer.raise_for_status().aiter_raw():
                    content += piece
                    if len(content) > LONGEST_ANSWER:
                        log.debug("pod %s says more than a status holds", pod.name)
                        return None
            return ServerStatus.model_validate_json(content)
        except (TimeoutError, httpx.HTTPError, ValidationError) as error:
            # A process that still starts does not answer; the kubelet's probes notice one that never does.
            log.debug("pod %s does not say how far it is: %r", pod.name, error)
            return None


def _leave(asked: dict[_Asked, asyncio.Task[None]], left: Iterable[_Asked]) -> None:
    """Ask these no more."""
    for one in left:
        asked.pop(one).cancel()

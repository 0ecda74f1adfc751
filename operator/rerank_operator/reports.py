"""What servers say of themselves: their `/status`, asked while it can tell something new."""

import asyncio
import logging
from collections.abc import Iterable, Mapping

import httpx
from pydantic import ValidationError

from rerank_api.status import ServerState, ServerStatus
from rerank_operator.desired.pod import PORT
from rerank_operator.observed import Pod

ANSWER_S = 2.0

log = logging.getLogger(__name__)


class Reports:
    """The last thing that each pod said. A pod that is ready, and said so, is not asked again."""

    def __init__(self, http: httpx.AsyncClient) -> None:
        self._http = http
        self._by_uid: dict[str, ServerStatus] = {}

    def known(self, uids: Iterable[str]) -> Mapping[str, ServerStatus]:
        """Return what these pods have said."""
        return {uid: self._by_uid[uid] for uid in uids if uid in self._by_uid}

    async def refresh(self, pods: Iterable[Pod]) -> None:
        """Ask every pod that may have something new to tell."""
        await asyncio.gather(*(self._ask(pod) for pod in pods if self._is_due(pod)))

    def forget_others(self, uids: Iterable[str]) -> None:
        """Drop what pods have said that exist no more. `uids` are those of every pod that exists."""
        alive = set(uids)
        self._by_uid = {uid: report for uid, report in self._by_uid.items() if uid in alive}

    def _is_due(self, pod: Pod) -> bool:
        if not pod.runs:
            self._by_uid.pop(pod.uid, None)  # a container that starts again has a story of its own
            return False
        report = self._by_uid.get(pod.uid)
        return not pod.ready or report is None or report.state is not ServerState.READY

    async def _ask(self, pod: Pod) -> None:
        host = f"[{pod.address}]" if ":" in (pod.address or "") else pod.address
        try:
            # The client's own limit is one of the pauses within an answer.
            async with asyncio.timeout(ANSWER_S):
                answer = await self._http.get(f"http://{host}:{PORT}/status", timeout=ANSWER_S)
            self._by_uid[pod.uid] = ServerStatus.model_validate_json(answer.raise_for_status().content)
        except (TimeoutError, httpx.HTTPError, ValidationError) as error:
            # A process that still starts does not answer; the kubelet's probes notice one that never does.
            log.debug("pod %s does not say how far it is: %r", pod.name, error)

"""From nothing to ready, told by `/status` at every step.

`Lifecycle.bring_up` is the story: download, load, verify, warm, ready. What fails is told in words and tried
again with growing pauses, so that a server recovers by itself once the cause is gone. A model whose scores
turn out wrong later takes no more traffic, and is loaded anew.
"""

import asyncio
import logging
import signal
from collections.abc import Callable
from dataclasses import dataclass
from functools import partial

from rerank_api.errors import ApiError, ErrorCode
from rerank_api.rerank_model import RerankModel
from rerank_api.status import ServerState, ServerStatus
from rerank_api.verification import VerificationReport
from rerank_server import sources
from rerank_server.admission import Load
from rerank_server.daemons import in_daemon_thread
from rerank_server.errors import ClosedError, OverloadedError, ServerError
from rerank_server.load import ScoringOptions, load
from rerank_server.memory import give_free_memory_back
from rerank_server.proof import prove
from rerank_server.reranker import Observe, Reranker
from rerank_server.settings import Settings
from rerank_server.sources import Checkpoint, Progress, SourceError

log = logging.getLogger(__name__)

FIRST_PAUSE_S = 2.0
LONGEST_PAUSE_S = 300.0
VERIFY_AGAIN_S = 5
"""How long a caller waits for a verification that is running already."""


def pause_after(failures: int) -> float:
    """Return the seconds to wait after this many failures in a row: doubling, up to five minutes."""
    return min(FIRST_PAUSE_S * 2.0 ** min(failures - 1, 16), LONGEST_PAUSE_S)


def is_overcome(failed_in: ServerState | None, state: ServerState) -> bool:
    """Say whether a server in `state` has gone past the state in which it failed before."""
    order = list(ServerState)
    return (
        failed_in is not None
        and state is not ServerState.FAILED
        and order.index(state) > order.index(failed_in)
    )


@dataclass
class Lifecycle:
    """The one place that knows how far this server is. `status` is read by the HTTP side at any time."""

    manifest: RerankModel
    settings: Settings
    observe_batch: Observe
    observe_verification: Callable[[VerificationReport], None] = lambda _: None

    def __post_init__(self) -> None:
        self.reranker: Reranker | None = None
        """The model; None while it takes no traffic."""
        self.report: VerificationReport | None = None
        """What the last verification found."""
        self._checkpoint: Checkpoint | None = None
        self._verifying = asyncio.Lock()
        self._proven_wrong: asyncio.Queue[Reranker] = asyncio.Queue()
        self._status = ServerStatus(
            state=ServerState.DOWNLOADING, message="Starting", names=self.manifest.public_names
        )

    @property
    def state(self) -> ServerState:
        """Return how far the server is."""
        return self._status.state

    @property
    def load(self) -> Load:
        """Return what is admitted and not answered."""
        return self.reranker.load if self.reranker else Load()

    @property
    def workers(self) -> int:
        """Return how many threads compute batches."""
        return self.reranker.staffing.workers if self.reranker else 0

    def status(self) -> ServerStatus:
        """Return the status as of now."""
        if self.reranker is None:
            return self._status
        return self._status.model_copy(
            update={
                "queued_tokens": self.reranker.queued_tokens,
                "tokens_per_second": self.reranker.tokens_per_second,
                "workers": str(self.reranker.staffing),
            }
        )

    async def run(self) -> None:
        """Become ready, and again whenever the scores turn out wrong; runs until it is cancelled."""
        while True:
            await self.become_ready()
            await _let_go(await self._proven_wrong.get())
            await asyncio.sleep(FIRST_PAUSE_S)

    async def become_ready(self) -> None:
        """Bring the model up, however often it takes; return once it is ready."""
        failures = 0
        while self.state not in {ServerState.READY, ServerState.DRAINING}:
            give_free_memory_back()  # that of a model that failed, for the next
            asked = 0.0
            try:
                await self.bring_up()
                continue
            except ServerError as error:
                reason = str(error)
                if isinstance(error, SourceError):
                    asked = error.retry_after or 0.0
            except Exception as error:  # the process's one net: told, logged, tried again
                log.exception("unexpected failure")
                reason = f"Unexpected failure: {error!r}."
            # Not in the handlers: what they caught would keep the model that failed in memory for the pause.
            failures += 1
            give_free_memory_back()
            await self._fail(reason, max(pause_after(failures), asked))

    async def bring_up(self) -> None:
        """Download, load, verify and warm the model, then take traffic."""
        spec = self.manifest.spec
        self._to(ServerState.DOWNLOADING, "Fetching the model")
        checkpoint = await in_daemon_thread(
            lambda: sources.fetch(
                spec.source,
                cache_dir=self.settings.cache_dir,
                token=self.settings.hub_token,
                report=self._downloaded,
            )
        )
        self._to(ServerState.LOADING, f"Loading {checkpoint.revision}", revision=checkpoint.revision)
        loaded = await in_daemon_thread(
            lambda: load(
                checkpoint.path,
                _options(self.manifest),
                threads=self.settings.threads,
                engine=self.settings.engine,
                report=self._loading,
            )
        )
        reranker = Reranker(
            loaded,
            observe=self.observe_batch,
            limits=self.settings.limits(loaded.batch_tokens),
            cores=self.settings.threads,
        )
        try:
            await self._prove(reranker, checkpoint)
        except BaseException:
            reranker.close()
            raise
        self.reranker, self._checkpoint = reranker, checkpoint
        self._to(ServerState.READY, f"Ready: {loaded.family} on {loaded.engine.name}")

    async def verify_again(self) -> VerificationReport:
        """Compare the scores of the model that is serving once more, beside its requests.

        Where they are wrong and the manifest requires them right, the model takes no more traffic and is
        loaded anew. Raises `ApiError` where no model is ready, or another verification is running.
        """
        reranker, checkpoint = self.reranker, self._checkpoint
        if self.state is not ServerState.READY or reranker is None or checkpoint is None:
            message = f"There is no model to verify: it is {self.state.value}: {self._status.message}"
            raise ApiError(ErrorCode.MODEL_NOT_READY, message, retry_after=VERIFY_AGAIN_S)
        if self._verifying.locked():
            message = "Another verification is running: wait for its answer, then ask again."
            raise ApiError(ErrorCode.OVERLOADED, message, retry_after=VERIFY_AGAIN_S)
        async with self._verifying:
            try:
                report = await prove(reranker, self.manifest, checkpoint)
            except OverloadedError as error:
                message = f"The scores could not be compared: {error}"
                raise ApiError(
                    ErrorCode.OVERLOADED, message, retry_after=error.refusal.retry_after
                ) from error
            except ServerError as error:
                if isinstance(error, ClosedError) and not reranker.closed:
                    self.model_stopped()
                message = f"The scores could not be compared: {error}"
                raise ApiError(ErrorCode.REPLICA_FAILED, message, retry_after=VERIFY_AGAIN_S) from error
        self._note(report)
        if not report.passed and report.required and self.state is ServerState.READY:
            failure = _failure(report)
            self.reranker = None
            self._to(
                ServerState.FAILED,
                f"{failure} Loading the model anew in {FIRST_PAUSE_S:.0f} s.",
                failure=failure,
                failed_in=ServerState.VERIFYING,
            )
            self._proven_wrong.put_nowait(reranker)
        return report

    async def _prove(self, reranker: Reranker, checkpoint: Checkpoint) -> None:
        loaded = reranker.loaded
        self._to(
            ServerState.VERIFYING,
            "Comparing scores with what they must be",
            family=loaded.family,
            engine=loaded.engine.name,
            engine_reason=loaded.engine_reason,
            max_length=loaded.max_length,
            score_scale=loaded.score_scale,
        )
        report = await prove(reranker, self.manifest, checkpoint)
        self._note(report)
        if not report.passed and report.required:
            raise ServerError(_failure(report))
        self._to(ServerState.WARMING, "Running the first batches")
        await reranker.warm_up(self.settings.workers, self.settings.queue_tokens)
        give_free_memory_back()

    def _note(self, report: VerificationReport) -> None:
        """Tell status, metrics and log what a verification found."""
        self.report = report
        self._status = self._status.model_copy(update={"verification": report.summary()})
        self.observe_verification(report)
        level = logging.INFO if report.passed else logging.ERROR if report.required else logging.WARNING
        words = "passed" if report.passed else "failed" if report.required else "failed, and is not required"
        log.log(level, "verification %s: %s (%s)", words, report.message, "; ".join(report.sets))
        for reason in report.skipped:
            log.info("not compared: %s", reason)

    async def _fail(self, reason: str, pause: float) -> None:
        self._to(
            ServerState.FAILED,
            f"{reason} Trying again in {pause:.0f} s.",
            failure=reason,
            failed_in=self.state,
        )
        await asyncio.sleep(pause)

    def drain(self) -> None:
        """Take no new traffic; what is admitted is still answered."""
        self._to(ServerState.DRAINING, "Finishing what is admitted")

    def model_stopped(self) -> None:
        """End this process if the model's thread has ended by itself: whoever started it starts it again."""
        if self.state is ServerState.READY:
            log.critical("the model's thread has ended, so this server does")
            signal.raise_signal(signal.SIGTERM)

    def close(self) -> None:
        """Stop the worker."""
        if self.reranker:
            self.reranker.close()

    def _to(self, state: ServerState, message: str, **facts: object) -> None:
        if self.state is ServerState.DRAINING:
            return
        if is_overcome(self._status.failed_in, state):
            facts |= {"failure": None, "failed_in": None}
        self._status = self._status.model_copy(
            update={"state": state, "message": message, "progress": None, **facts}
        )
        level = logging.ERROR if state is ServerState.FAILED else logging.INFO
        log.log(level, "%s: %s", state.value, message)

    def _downloaded(self, progress: Progress) -> None:
        share = progress.done / progress.total if progress.total else None
        total = f" of {_megabytes(progress.total)}" if progress.total else ""
        self._progress(ServerState.DOWNLOADING, f"{_megabytes(progress.done)}{total} downloaded", share)

    def _loading(self, message: str, share: float | None) -> None:
        self._progress(ServerState.LOADING, message, share)

    def _progress(self, state: ServerState, message: str, share: float | None) -> None:
        """Note progress within a state; called on other threads, and too often to be logged."""
        if self.state is state:
            self._status = self._status.model_copy(update={"message": message, "progress": share})


async def _let_go(reranker: Reranker) -> None:
    """Close a model whose scores nobody is to have, and keep nothing of it."""
    await in_daemon_thread(partial(reranker.close, finish=False))


def _options(manifest: RerankModel) -> ScoringOptions:
    scoring = manifest.spec.scoring
    return ScoringOptions(
        family=scoring.family,
        activation=scoring.activation,
        instruction=scoring.instruction,
        max_length=scoring.max_length,
        dtype=scoring.dtype,
        truncate=scoring.truncate,
    )


def _failure(report: VerificationReport) -> str:
    return f"Verification failed: {report.message}."


def _megabytes(size: int) -> str:
    return f"{size / 1e6:.1f} MB"

"""How the log is written: text for people, or one JSON object a line. Neither ever holds a caller's text."""

import json
import logging
import sys
import threading
import traceback
from datetime import UTC, datetime
from types import TracebackType
from typing import Final, Literal, TypeAlias

from pydantic import ValidationError

from rerank_server.observation import Facts

LogFormat: TypeAlias = Literal["text", "json"]
Raised: TypeAlias = tuple[type[BaseException], BaseException, TracebackType | None] | tuple[None, None, None]
"""As `sys.exc_info` returns it."""
FACTS: Final = "facts"
"""The attribute of a record that holds further fields of its JSON object."""
TEXT: Final = "%(levelname)s %(name)s: %(message)s"

log = logging.getLogger(__name__)
access_log = logging.getLogger("rerank_server.access")


def configure(level: str, form: LogFormat) -> None:
    """Write everything that this process logs, warns of or dies of to standard error in one form."""
    handler = logging.StreamHandler()
    handler.setFormatter(JsonFormatter() if form == "json" else TextFormatter(TEXT))
    logging.basicConfig(level=level.upper(), handlers=[handler], force=True)
    logging.captureWarnings(True)
    sys.excepthook = _log_the_end
    threading.excepthook = _log_a_threads_end


class TextFormatter(logging.Formatter):
    """Lines for people, with tracebacks that hold no input."""

    def formatException(self, ei: Raised) -> str:  # noqa: N802  # logging's own name
        """Return the traceback and what it was raised from."""
        return told(ei[1])


class JsonFormatter(logging.Formatter):
    """One JSON object a line: time (RFC 3339), level, logger, message, exception, and a record's facts."""

    def format(self, record: logging.LogRecord) -> str:
        """Return the line, without its end."""
        moment = datetime.fromtimestamp(record.created, UTC).isoformat(timespec="milliseconds")
        line: dict[str, object] = {
            "time": moment.replace("+00:00", "Z"),
            "level": record.levelname.lower(),
            "logger": record.name,
            "message": record.getMessage(),
        }
        line |= getattr(record, FACTS, {})
        if record.exc_info and record.exc_info[1] is not None:
            line["exception"] = told(record.exc_info[1])
        return json.dumps(line, ensure_ascii=False, default=str)


class AccessLog:
    """Logs a line for each request; an observer of `rerank_server.observation`."""

    def begun(self, facts: Facts) -> None:
        """Nothing is known yet."""

    def ended(self, facts: Facts) -> None:
        """Log what has become known of the request."""
        known = {
            "method": facts.method,
            "path": facts.path,
            "face": facts.face,
            "status": facts.status,
            "model": facts.model,
            "documents": facts.documents,
            "tokens": facts.tokens,
            "seconds": round(facts.seconds, 6),
            "requestId": facts.request_id,
            "traceId": facts.trace_id,
        }
        access_log.info(
            "%s %s %d: %d documents, %d tokens, %.3f s",
            facts.method,
            facts.path,
            facts.status,
            facts.documents,
            facts.tokens,
            facts.seconds,
            extra={FACTS: {name: value for name, value in known.items() if value is not None}},
        )


def told(error: BaseException | None) -> str:
    """Return an exception's traceback, after those of what it was raised from.

    What pydantic says of a value that it refuses holds the value, which may be a caller's text: only its
    number of faults is told.
    """
    parts: list[str] = []
    seen: set[int] = set()
    while error is not None and id(error) not in seen:
        seen.add(id(error))
        frames = "".join(traceback.format_tb(error.__traceback__))
        parts.append(f"{frames}{type(error).__name__}: {_message(error)}")
        error = error.__cause__ or (None if error.__suppress_context__ else error.__context__)
    return "\n\nfrom which came\n\n".join(reversed(parts))


def _message(error: BaseException) -> str:
    if isinstance(error, ValidationError):
        return f"{error.error_count()} faults in {error.title}"
    return str(error)


def _log_the_end(_: type[BaseException], error: BaseException, __: TracebackType | None) -> None:
    if isinstance(error, KeyboardInterrupt):
        return
    log.critical("the process ends on an error", exc_info=error)


def _log_a_threads_end(end: threading.ExceptHookArgs) -> None:
    if end.exc_type is SystemExit:
        return
    name = end.thread.name if end.thread is not None else "unknown"
    log.critical("the thread %s ended on an error", name, exc_info=end.exc_value)

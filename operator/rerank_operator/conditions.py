"""Conditions, as Kubernetes keeps them: the time moves only when the status flips."""

from collections.abc import Iterable
from dataclasses import dataclass
from datetime import datetime
from typing import Literal

from rerank_api.rerank_model import Condition
from rerank_api.status import ConditionType
from rerank_operator.pods import Reason

LONGEST_MESSAGE = 8192
"""Characters; others' words come in any length, and a status must hold them."""


@dataclass(frozen=True)
class Said:
    """What is to be said of one condition."""

    type: ConditionType
    status: Literal["True", "False", "Unknown"]
    reason: Reason
    message: str


def settle(
    said: Iterable[Said], before: Iterable[Condition], generation: int, now: datetime
) -> tuple[Condition, ...]:
    """Return the conditions as they are to be written."""
    known = {condition.type: condition for condition in before}
    return tuple(_settled(one, known.get(one.type), generation, now) for one in said)


def _settled(said: Said, before: Condition | None, generation: int, now: datetime) -> Condition:
    flipped = before is None or before.status != said.status
    return Condition(
        type=said.type,
        status=said.status,
        observed_generation=generation,
        last_transition_time=now if flipped or before is None else before.last_transition_time,
        reason=said.reason.value,
        message=shortened(said.message, LONGEST_MESSAGE),
    )


def shortened(text: str, longest: int) -> str:
    """Return a text of at most so many characters; what is cut is marked."""
    return text if len(text) <= longest else f"{text[: longest - 1]}…"

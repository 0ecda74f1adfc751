"""Whether a live object still is what it should be, so that nothing is written where nothing has changed."""

import re
from collections.abc import Mapping, Sequence
from decimal import Decimal, InvalidOperation

from rerank_api.pod import QUANTITY_PATTERN
from rerank_operator.keys import Manifest

_NAMES = ("name", "mountPath", "containerPort", "type", "uid")
"""Fields that tell the items of a Kubernetes list apart, the first that all wanted items have. Volume mounts
share names, and so do a port's protocols; what is told apart wrongly is only compared more strictly."""

_QUANTITY = re.compile(QUANTITY_PATTERN)
_SUFFIX = re.compile("^([+-]?[0-9.]+)([A-Za-z]*)$")
_FACTORS = {
    **{suffix: Decimal(1000) ** power for power, suffix in enumerate("num", -3)},
    **{suffix: Decimal(1000) ** power for power, suffix in enumerate(("", "k", "M", "G", "T", "P", "E"))},
    **{f"{suffix}i": Decimal(1024) ** power for power, suffix in enumerate("KMGTPE", 1)},
}
"""By suffix, as Kubernetes' resource.Quantity gives them."""


def holds(live: Manifest, wanted: Manifest) -> bool:
    """Say whether everything wanted is so. What others have added to the object is theirs."""
    return _within(wanted, live)


def _within(wanted: object, live: object) -> bool:
    if isinstance(wanted, Mapping):
        return isinstance(live, Mapping) and all(
            # The API server leaves out what is empty.
            _within(value, live[name]) if name in live else value in ({}, [], None, "", False)
            for name, value in wanted.items()
        )
    if isinstance(wanted, list):
        return isinstance(live, list) and _list_within(wanted, live)
    return wanted == live or _same_quantity(wanted, live)


def _list_within(wanted: Sequence[object], live: Sequence[object]) -> bool:
    name = next((name for name in _NAMES if _tells_apart(name, wanted) and _tells_apart(name, live)), None)
    if name is None:
        return len(wanted) == len(live) and all(map(_within, wanted, live))
    by_name = {_named(item, name): item for item in live}
    return all(
        _named(item, name) in by_name and _within(item, by_name[_named(item, name)]) for item in wanted
    )


def _tells_apart(name: str, items: Sequence[object]) -> bool:
    values = [item.get(name) if isinstance(item, Mapping) else None for item in items]
    return bool(items) and None not in values and len(set(map(str, values))) == len(values)


def _named(item: object, name: str) -> str:
    return str(item[name]) if isinstance(item, Mapping) else ""


def _same_quantity(wanted: object, live: object) -> bool:
    """Say whether two spellings mean one amount: the API server answers `1` where `1000m` was written."""
    left, right = _amount(wanted), _amount(live)
    return left is not None and left == right


def _amount(value: object) -> Decimal | None:
    text = str(value) if isinstance(value, str | int) and not isinstance(value, bool) else ""
    if not _QUANTITY.fullmatch(text):
        return None
    if (parts := _SUFFIX.fullmatch(text)) and parts[2] in _FACTORS:
        return Decimal(parts[1]) * _FACTORS[parts[2]]
    try:
        return Decimal(text)  # an exponent, as 1e3
    except InvalidOperation:
        return None  # larger than any number: a text that only looks like an amount

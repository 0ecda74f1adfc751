"""What a plain YAML scalar means to kubectl, so that a laptop reads a manifest as a cluster does.

kubectl reads YAML 1.1 with go-yaml's v2 rules: `on` and `y` are truth values, `0644` is octal, `1e3` is a
number, and a date is a string. Source: https://github.com/kubernetes-sigs/yaml/blob/master/goyaml.v2/resolve.go
"""

import math
import re
from typing import Final, TypeAlias

Value: TypeAlias = bool | int | float | str | None

MAX_INTEGER: Final = 2**63 - 1

_NULLS: Final = frozenset(("", "~", "null", "Null", "NULL"))
_TRUES: Final = frozenset(
    ("y", "Y", "yes", "Yes", "YES", "true", "True", "TRUE", "on", "On", "ON"),
)
_FALSES: Final = frozenset(
    ("n", "N", "no", "No", "NO", "false", "False", "FALSE", "off", "Off", "OFF"),
)
_NOT_FINITE: Final = re.compile(r"[-+]?\.(?:inf|Inf|INF)|\.(?:nan|NaN|NAN)")
_INTEGER: Final = re.compile(
    r"(?P<sign>[-+]?)(?:0[xX](?P<hex>[0-9a-fA-F]+)|0[bB](?P<binary>[01]+)|0[oO]?(?P<octal>[0-7]+)"
    r"|(?P<decimal>0|[1-9][0-9]*))"
)
_FLOAT: Final = re.compile(r"[-+]?(?:\.[0-9]+|[0-9]+(?:\.[0-9]*)?)(?:[eE][-+]?[0-9]+)?")
_PLAIN_NUMBER: Final = re.compile(r"-?(?:0|[1-9][0-9]*)(?:\.[0-9]+)?(?:[eE][-+]?[0-9]+)?")


def resolve(text: str) -> Value:
    """Return what an unquoted scalar means."""
    if text in _NULLS:
        return None
    if text in _TRUES:
        return True
    if text in _FALSES:
        return False
    if text[0] in "+-.0123456789":
        return _number(text)
    return text


def is_not_finite(text: str) -> bool:
    """Say whether an unquoted scalar is an infinity or no number, which JSON cannot hold."""
    return _NOT_FINITE.fullmatch(text) is not None


def is_surprising(text: str) -> bool:
    """Say whether an unquoted scalar means something else than it looks like, as `yes` or `010` do."""
    value = resolve(text)
    if isinstance(value, bool):
        return text.lower() not in {"true", "false"}
    return isinstance(value, int | float) and _PLAIN_NUMBER.fullmatch(text) is None


def _number(text: str) -> Value:
    digits = text.replace("_", "")
    if (match := _INTEGER.fullmatch(digits)) and len(digits) <= 70:
        bases = (("hex", 16), ("binary", 2), ("octal", 8), ("decimal", 10))
        value = next(int(match[name], base) for name, base in bases if match[name] is not None)
        value = -value if match["sign"] == "-" else value
        if -MAX_INTEGER - 1 <= value <= MAX_INTEGER:
            return value
    if _FLOAT.fullmatch(digits) and math.isfinite(value_as_float := float(digits)):
        return value_as_float
    return text

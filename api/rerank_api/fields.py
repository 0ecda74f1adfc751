"""Paths to fields, as users write and read them: `spec.verify.goldens[0].scores`.

A key that is no plain word stands quoted in brackets: `spec.template.labels["app.kubernetes.io/name"]`.
"""

import re
from typing import TypeAlias

Path: TypeAlias = tuple[str | int, ...]

_WORD = re.compile(r"[A-Za-z_][A-Za-z0-9_-]*")
_STEP = re.compile(r'(?:^|\.)(?P<word>[^.\[\]"]+)|\[(?P<index>[0-9]+)\]|\["(?P<key>(?:[^"\\]|\\.)*)"\]')
_ESCAPE = re.compile(r"\\(.)", re.DOTALL)


def show(path: Path) -> str:
    """Write a path for people."""
    text = ""
    for step in path:
        if isinstance(step, int):
            text += f"[{step}]"
        elif _WORD.fullmatch(step):
            text += f".{step}" if text else step
        else:
            escaped = step.replace("\\", "\\\\").replace('"', '\\"')
            text += f'["{escaped}"]'
    return text


def parse(text: str) -> Path:
    """Read what `show` wrote. Raises `ValueError` for anything else."""
    steps: list[str | int] = []
    position = 0
    while position < len(text):
        step = _STEP.match(text, position)
        if step is None:
            raise ValueError(f"{text!r} is no path to a field: write one as spec.source.file.path")
        if step["index"] is not None:
            steps.append(int(step["index"]))
        elif step["key"] is not None:
            steps.append(_ESCAPE.sub(r"\1", step["key"]))
        else:
            steps.append(step["word"])
        position = step.end()
    return tuple(steps)

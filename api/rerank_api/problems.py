"""What is wrong with manifests, as users read it."""

from dataclasses import dataclass


@dataclass(frozen=True)
class Problem:
    """One thing that is wrong: where, what, and what to do."""

    file: str
    line: int | None
    """Counted from 1; None where no line is to blame, as for a missing file."""
    field: str
    """The path of the field, as `spec.source.huggingFace.repo`; empty where no field is to blame."""
    message: str

    def __str__(self) -> str:
        place = self.file if self.line is None else f"{self.file}:{self.line}"
        return ": ".join(part for part in (place, self.field, self.message) if part)


class ManifestError(Exception):
    """Manifests that cannot be used; holds every problem, not just the first."""

    def __init__(self, problems: tuple[Problem, ...]) -> None:
        super().__init__("\n".join(str(problem) for problem in problems))
        self.problems = problems

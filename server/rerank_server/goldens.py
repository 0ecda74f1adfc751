"""Scores that are known to be right: those of the manifest, and those that others have published.

The published ones are data, `goldens.yaml` beside this file; it says where they come from.
"""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from importlib.resources import files
from typing import Any, Final

import yaml

from rerank_api.rerank_model import RerankModel
from rerank_api.source import HuggingFaceSource, Source
from rerank_server.load import Activation

MANIFEST: Final = "spec.verify.goldens"
PUBLISHED: Final = "published"


@dataclass(frozen=True)
class Golden:
    """A query, its documents, and the score that each must get."""

    query: str
    documents: tuple[str, ...]
    scores: tuple[float, ...]
    """In the order of the documents."""
    tolerance: float
    """The largest absolute difference, in units of the score."""
    name: str
    """For people: `golden 2`, counted from one."""
    origin: str = MANIFEST
    """Whose it is: `MANIFEST` or `PUBLISHED`."""
    source: str = MANIFEST
    """Where the scores come from, in words."""
    scale: Activation | None = None
    """Of the scores; None is the manifest's, as callers see them."""
    instruction: str | None = None
    """What a model that takes instructions is told; None is what the manifest says."""

    @property
    def is_published(self) -> bool:
        """Say whether somebody else than the manifest vouches for it."""
        return self.origin == PUBLISHED


def goldens_of(manifest: RerankModel) -> tuple[Golden, ...]:
    """Return the manifest's own goldens."""
    return tuple(
        Golden(
            golden.query,
            tuple(golden.documents),
            tuple(golden.scores),
            golden.tolerance,
            f"golden {number}",
        )
        for number, golden in enumerate(manifest.spec.verify.goldens, 1)
    )


def published_for(source: Source, revision: str, dtype: str) -> tuple[Golden, ...]:
    """Return the published goldens of a model; none where the source is not a repository of the hub.

    `revision` is the commit that is served. Tolerances are those for `dtype`, as torch
    names it.
    """
    chosen = source.chosen
    if not isinstance(chosen, HuggingFaceSource):
        return ()
    found = [
        (published, scores)
        for published in _published()
        if (scores := _scores(published["models"], chosen.repo, revision)) is not None
    ]
    return tuple(
        _golden(published, scores, dtype, number) for number, (published, scores) in enumerate(found, 1)
    )


def _published() -> Sequence[Mapping[str, Any]]:
    sets: Sequence[Mapping[str, Any]] = yaml.safe_load(
        files(__package__).joinpath("goldens.yaml").read_text("utf-8")
    )["sets"]
    return sets


def _scores(models: Mapping[str, Sequence[float]], repo: str, revision: str) -> Sequence[float] | None:
    """Return a repository's scores. The hub takes its name in any case; a commit may be shortened."""
    for key, scores in models.items():
        name, _, commit = key.partition("@")
        if name.lower() == repo.lower() and revision.startswith(commit):
            return scores
    return None


def _golden(published: Mapping[str, Any], scores: Sequence[float], dtype: str, number: int) -> Golden:
    return Golden(
        query=published["query"],
        documents=tuple(published["documents"]),
        scores=tuple(scores),
        tolerance=published["tolerance"][dtype],
        name=f"published golden {number}",
        origin=PUBLISHED,
        source=published["source"],
        scale=published["scale"],
        instruction=published.get("instruction"),
    )

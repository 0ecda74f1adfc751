"""Who has a public name or a host of those that claim it. Pure; no more work than what changed."""

import operator
from collections import defaultdict
from collections.abc import Callable, Iterable, Mapping, Sequence
from dataclasses import dataclass
from typing import Final, Literal, TypeAlias

from rerank_gateway import sharing
from rerank_gateway.models import ServedModel

Claim: TypeAlias = tuple[str, ServedModel]
"""What is claimed, and by whom."""

Settled: TypeAlias = tuple[ServedModel, tuple[str, ...]]
"""What is served, and the RerankModels that claim it in vain, sorted."""


@dataclass(frozen=True)
class Contest:
    """One public name or host that several RerankModels claim, or one key that several consumers have."""

    name: str
    """Of a key, the first signs of its digest."""
    winner: str
    losers: tuple[str, ...]
    what: Literal["name", "host", "key"] = "name"


@dataclass(frozen=True)
class Claims:
    """All claims to one kind of thing, and who keeps what."""

    what: Literal["name", "host"]
    claimants: Mapping[str, tuple[ServedModel, ...]]
    """The oldest first."""
    winners: Mapping[str, ServedModel]
    """Sorted by what is claimed."""
    contests: Mapping[str, Contest]

    @classmethod
    def none(cls, what: Literal["name", "host"]) -> "Claims":
        """Return those of an empty world."""
        return cls(what, {}, {}, {})

    def after(self, gone: Iterable[Claim], came: Iterable[Claim]) -> "Claims":
        """Return what they are once some claims have gone, each the object told, and some have come."""
        left: defaultdict[str, list[ServedModel]] = defaultdict(list)
        arrived: defaultdict[str, list[ServedModel]] = defaultdict(list)
        for name, model in gone:
            left[name].append(model)
        for name, model in came:
            arrived[name].append(model)
        if not left and not arrived:
            return self
        claimants, winners, contests = dict(self.claimants), dict(self.winners), dict(self.contests)
        for name in left.keys() | arrived.keys():
            forgotten = {id(model) for model in left[name]}
            staying = [model for model in claimants.pop(name, ()) if id(model) not in forgotten]
            claiming = tuple(sorted(staying + arrived[name], key=_seniority))
            contests.pop(name, None)
            if not claiming:
                del winners[name]
                continue
            claimants[name] = claiming
            winners[name], losers = _SETTLED_BY[self.what](name, claiming)
            if losers:
                contests[name] = Contest(name, claiming[0].model, losers, self.what)
        if winners.keys() != self.winners.keys():
            winners = dict(sorted(winners.items()))
        return Claims(self.what, claimants, winners, contests)

    def in_order(self) -> tuple[Contest, ...]:
        """Return the contests, sorted by what is claimed."""
        return tuple(self.contests[name] for name in sorted(self.contests))


def difference(
    before: Sequence[ServedModel], after: Sequence[ServedModel]
) -> tuple[list[ServedModel], list[ServedModel]]:
    """Return which objects have gone and which have come. One that is told anew has gone and has come.

    Sources carry over what has not changed, in its place: what the two have in common at their beginnings and
    their ends is passed over by identity alone, which for thousands takes a tenth of a millisecond.
    """
    start = _in_common(before, after)
    end = min(_in_common(before[::-1], after[::-1]), len(before) - start, len(after) - start)
    old = {id(model): model for model in before[start : len(before) - end]}
    new = {id(model): model for model in after[start : len(after) - end]}
    gone = [model for known, model in old.items() if known not in new]
    return gone, [model for known, model in new.items() if known not in old]


def _in_common(one: Sequence[ServedModel], other: Sequence[ServedModel]) -> int:
    """Count the objects that both begin with."""
    same = list(map(operator.is_, one, other))
    return same.index(False) if False in same else len(same)


def _seniority(model: ServedModel) -> tuple[object, ...]:
    """Order claims as `rerank_api.names.seniority` does; the rest only makes the order total.

    `namespace/name` is compared by its parts: as one text, `a-b/x` would come before `a/x`.
    """
    namespace, _, name = model.model.rpartition("/")
    progress = -1.0 if model.progress is None else model.progress
    weight = -1 if model.weight is None else model.weight
    told = (model.name, model.state, model.message, progress, str(model.facts))
    rest = (*told, model.endpoints, model.hosts, model.from_zero, weight)
    return (model.created, namespace, name, *rest)


def _oldest(_: str, claimants: Sequence[ServedModel]) -> Settled:
    """Give a host to the oldest: hosts are not shared."""
    oldest = claimants[0]
    return oldest, tuple(sorted({claimant.model for claimant in claimants} - {oldest.model}))


_SETTLED_BY: Final[Mapping[str, Callable[[str, Sequence[ServedModel]], Settled]]] = {
    "name": sharing.settle,
    "host": _oldest,
}

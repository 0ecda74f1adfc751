"""Where a tokenizer puts its special tokens around one text, or around a query and a document.

The tokenizer's own post-processor is asked once, with a probe; what it shows is then applied to lists of ids.
So a query is tokenized once for all of its documents, and only a document's own tokens can be cut.
"""

from collections.abc import Sequence
from dataclasses import dataclass

from tokenizers import Encoding, Tokenizer

from rerank_server.engine.interface import Row
from rerank_server.errors import LoadError

PROBES = ("a", "the", "0")


@dataclass(frozen=True)
class Special:
    """Special tokens that stand together, and the segment of each."""

    ids: tuple[int, ...] = ()
    type_ids: tuple[int, ...] = ()


@dataclass(frozen=True)
class Template:
    """Special tokens before, between and after texts, and each text's segment number."""

    specials: tuple[Special, ...]
    """One more than there are texts."""
    type_ids: tuple[int, ...]
    """One a text."""
    with_type_ids: bool
    filler: int
    """The id that stands for a row which would be empty: models cannot run nothing."""

    @property
    def overhead(self) -> int:
        """How many special tokens a row has."""
        return sum(len(special.ids) for special in self.specials)

    def row(self, *texts: Sequence[int]) -> Row:
        """Put the special tokens around the texts' ids. What is before the last of several is shared."""
        ids = list(self.specials[0].ids)
        for text, special in zip(texts, self.specials[1:], strict=True):
            ids.extend(text)
            ids.extend(special.ids)
        shared = len(ids) - len(texts[-1]) - len(self.specials[-1].ids) if len(texts) > 1 else 0
        ids = ids or [self.filler]
        return Row(ids, self._type_ids(texts, len(ids)) if self.with_type_ids else None, shared)

    def _type_ids(self, texts: Sequence[Sequence[int]], length: int) -> list[int]:
        type_ids = list(self.specials[0].type_ids)
        for text, number, special in zip(texts, self.type_ids, self.specials[1:], strict=True):
            type_ids.extend([number] * len(text))
            type_ids.extend(special.type_ids)
        return type_ids or [0] * length


def single_template(tokenizer: Tokenizer, *, with_type_ids: bool, filler: int) -> Template:
    """Find out what surrounds one text."""
    return _template(tokenizer, (_probe(tokenizer),), with_type_ids, filler)


def pair_template(tokenizer: Tokenizer, *, with_type_ids: bool, filler: int) -> Template:
    """Find out what surrounds a query and a document. Raises `LoadError` where it cannot be told."""
    probe = _probe(tokenizer)
    return _template(tokenizer, (probe, probe), with_type_ids, filler)


def _probe(tokenizer: Tokenizer) -> str:
    for text in PROBES:
        if tokenizer.encode(text, add_special_tokens=False).ids:
            return text
    raise LoadError(f"The tokenizer finds no token in any of {PROBES}: tokenizer.json is of no use for text.")


def _template(tokenizer: Tokenizer, probes: tuple[str, ...], with_type_ids: bool, filler: int) -> Template:
    encoding = tokenizer.encode(probes[0], probes[1] if len(probes) > 1 else None)
    runs = _runs(encoding)
    if len(runs) != len(probes):
        raise LoadError(
            "The tokenizer's post-processor leaves texts out, repeats or swaps them: not supported."
        )
    edges = [0, *(edge for run in runs for edge in run), len(encoding.ids)]
    template = Template(
        specials=tuple(
            Special(tuple(encoding.ids[start:end]), tuple(encoding.type_ids[start:end]))
            for start, end in zip(edges[::2], edges[1::2], strict=True)
        ),
        type_ids=tuple(encoding.type_ids[start] for start, _ in runs),
        with_type_ids=with_type_ids,
        filler=filler,
    )
    alone = [tokenizer.encode(probe, add_special_tokens=False).ids for probe in probes]
    if list(template.row(*alone).ids) != encoding.ids:
        raise LoadError("The tokenizer treats a text differently within a pair: not supported.")
    return template


def _runs(encoding: Encoding) -> list[tuple[int, int]]:
    """Return (start, end) of each text's tokens, as long as the texts come in order, each once."""
    runs: list[tuple[int, int]] = []
    for place, text in enumerate(encoding.sequence_ids):
        if text is None:
            continue
        if text == len(runs) - 1 and runs[text][1] == place:
            runs[text] = (runs[text][0], place + 1)
        elif text == len(runs):
            runs.append((place, place + 1))
        else:
            return []
    return runs

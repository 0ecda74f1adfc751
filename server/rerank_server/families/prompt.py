"""A causal reranker's prompt: a query and a document inside of words that the model was trained with.

Every piece is tokenized as the authors' own code does it, alone or together with its neighbour, because a
tokenizer may join the end of one piece with the start of the next. Only the document can be cut.
"""

from collections.abc import Callable, Sequence
from dataclasses import dataclass
from itertools import chain
from typing import TypeAlias

import numpy as np

from rerank_server.engine.interface import Outputs, Row, Vectors
from rerank_server.errors import InputError, LoadError
from rerank_server.families.interface import Cut, EncodedQuery
from rerank_server.families.template import Template
from rerank_server.families.tokens import TextTokenizer, document_names, require_text, too_long

Pieces: TypeAlias = Callable[[str, str | None], tuple[str, ...]]
"""(query, instruction) -> texts that are tokenized apart."""

SEAM_PROBES = ("", "a", "The", " a", "\n", "\n\na", "1", ".", "é", "東")
"""Documents that show whether a prompt may be divided before them."""


def nothing(query: str, instruction: str | None) -> tuple[str, ...]:
    """Return no pieces."""
    return ()


@dataclass(frozen=True)
class Prompt:
    """What surrounds a document."""

    before: Pieces
    gap: str
    """What stands between the last of `before` and the document; tokenized with the document."""
    tail: str = ""
    """What follows the document, and is tokenized with it."""
    lead: str = ""
    """The end of the last of `before`, which the authors tokenize together with the document.

    Some tokenizers put a space before a text. That this is no start of one they only see with words before.
    """
    after: Pieces = nothing
    takes_instruction: bool = False
    instruction: str | None = None
    """The default."""


class Prompted:
    """Puts the query and each document into the prompt, one row a document."""

    def __init__(
        self,
        tokens: TextTokenizer,
        prompt: Prompt,
        specials: Template,
        *,
        max_length: int,
        instruction: str | None,
    ) -> None:
        """`specials` is what the tokenizer itself puts around the whole.

        Raises `LoadError` where the tokenizer joins what this takes apart.
        """
        self.max_length = max_length
        self.takes_instruction = prompt.takes_instruction
        self._tokens = tokens
        self._prompt = prompt
        self._start, self._end = (list(special.ids) for special in specials.specials)
        self._instruction = instruction or prompt.instruction
        self._lead = self._encode(prompt.lead)
        self._gap, self._tail = (
            self._without_lead(self._encode(prompt.lead + text)) for text in (prompt.gap, prompt.tail)
        )
        self._require_seam()

    def encode_query(self, query: str, instruction: str | None = None) -> EncodedQuery:
        """Return what stands before and after each document; one of its tokens at least must fit between."""
        require_text(query, "query")
        if instruction is not None:
            require_text(instruction, "instruction")
        told = instruction or self._instruction
        before = [*self._start, *chain.from_iterable(map(self._encode, self._prompt.before(query, told)))]
        after = [*self._encode_after(query, told), *self._end]
        beside = len(before) + len(after) + len(self._gap) + len(self._tail)
        if beside + 1 > self.max_length:
            own = len(self._encode(query))
            room = max(0, own + self.max_length - beside - 1)
            raise InputError(
                f"`query` has {own} tokens, and at most {room} fit: the model takes {self.max_length}, of "
                f"which {beside - own} are the prompt's and one is a document's. Shorten the query.",
                "query",
            )
        return EncodedQuery(before, after=after)

    def encode_documents(
        self, query: EncodedQuery, documents: Sequence[str], cut: Cut, first: int = 0
    ) -> list[Row]:
        """Return one row a document."""
        names = document_names(first, len(documents))
        for text, name in zip(documents, names, strict=True):
            require_text(text, name)
        pieces = map(self._without_lead, self._tokens.encode(list(map(self._frame, documents)), names))
        beside = len(query.ids) + len(query.after)
        length = cut.row_length(self.max_length, beside + len(self._gap) + len(self._tail))
        rows = []
        for piece, name in zip(pieces, names, strict=True):
            ids = self._shorten(piece, beside, length, cut, name)
            rows.append(Row([*query.ids, *ids, *query.after], shared=len(query.ids)))
        return rows

    def scores(self, outputs: Outputs, rows: Sequence[Row] = ()) -> Vectors:
        """Return the logit, or the first less the second: [documents, 1 or 2] -> [documents]."""
        logits = np.asarray(outputs)
        scores: Vectors = logits[:, 0] if logits.shape[1] == 1 else logits[:, 0] - logits[:, 1]
        return scores

    def _shorten(self, piece: list[int], outside: int, length: int, cut: Cut, name: str) -> list[int]:
        """Cut a document's own tokens to what fits, and keep what surrounds them.

        `piece` is followed and preceded by `outside` tokens in a row of at most `length`.
        """
        start = len(self._gap) if piece[: len(self._gap)] == self._gap else 0
        joined = bool(self._tail) and piece[-len(self._tail) :] != self._tail
        end = len(piece) if joined else len(piece) - len(self._tail)
        own = piece[start:end]
        keep = own if cut.max_document_tokens is None else self._tokens.cut(own, cut.max_document_tokens)
        beside = outside + start + len(self._tail)
        if keep is own and outside + len(piece) <= length:
            return piece
        if beside + len(keep) > length:
            if cut.truncate == "error":
                others = f"{beside} of the query and the prompt"
                raise too_long(
                    name,
                    len(keep),
                    others,
                    room=length - beside,
                    length=length,
                    max_length=self.max_length,
                )
            keep = self._tokens.cut(keep, length - beside)
        # A document whose end is kept keeps the token in which its end and the tail are one.
        tail = [] if joined and self._tokens.keeps_end else self._tail
        return [*piece[:start], *keep, *tail]

    def _encode(self, text: str) -> list[int]:
        return self._tokens.backend.encode(text, add_special_tokens=False).ids if text else []

    def _frame(self, document: str) -> str:
        return self._prompt.lead + self._prompt.gap + document + self._prompt.tail

    def _without_lead(self, ids: list[int]) -> list[int]:
        return ids[len(self._lead) :]

    def _encode_after(self, query: str, instruction: str | None) -> list[int]:
        """Tokenize what follows the document, whose tail the first piece is tokenized with."""
        pieces = self._prompt.after(query, instruction)
        tail = self._prompt.tail
        if not tail or not pieces:
            return list(chain.from_iterable(map(self._encode, pieces)))
        first = self._encode(tail + pieces[0])[len(self._encode(tail)) :]
        return [*first, *chain.from_iterable(map(self._encode, pieces[1:]))]

    def _require_seam(self) -> None:
        """Prove that the prompt may be divided before and after the document."""
        for query in ("a", "a?"):
            [*_, before] = self._prompt.before(query, self._instruction)
            pieces = self._prompt.after(query, self._instruction) if self._prompt.tail else ()
            after = self._encode_after(query, self._instruction) if pieces else []
            for probe in SEAM_PROBES:
                framed = self._frame(probe)
                whole = self._encode(before + framed.removeprefix(self._prompt.lead) + "".join(pieces))
                if whole != self._encode(before) + self._without_lead(self._encode(framed)) + after:
                    raise LoadError(
                        f"The tokenizer joins {before[-12:]!r} with a document that starts with {probe!r}: "
                        "it is not the tokenizer that this family's models have."
                    )

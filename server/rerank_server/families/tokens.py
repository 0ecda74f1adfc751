"""Text to token ids, on a tokenizer of our own: no truncation, no padding, no special tokens added."""

from collections.abc import Sequence
from dataclasses import dataclass

from tokenizers import Tokenizer

from rerank_server.engine.interface import Row
from rerank_server.errors import InputError, LoadError
from rerank_server.families.checkpoint import CheckpointFiles
from rerank_server.families.interface import Cut
from rerank_server.families.template import Template
from rerank_server.families.tokenizer_json import read_plain


@dataclass(frozen=True)
class TextTokenizer:
    """A fast tokenizer's Rust part, which lets other Python threads run while it works."""

    backend: Tokenizer
    keeps_end: bool
    """Where a text is cut, its end is kept: the checkpoint's `truncation_side` is `left`."""
    with_type_ids: bool
    """The tokenizer declares segments; whether the model takes them is the model's to say."""
    pad_id: int | None

    def encode(self, texts: Sequence[str], names: Sequence[str]) -> list[list[int]]:
        """Return the ids of each text's own tokens.

        Raises `InputError` naming, by `names`, the text that is no valid Unicode.
        """
        for text, name in zip(texts, names, strict=True):
            require_text(text, name)
        return [encoding.ids for encoding in self.backend.encode_batch_fast(texts, add_special_tokens=False)]

    def cut(self, ids: list[int], keep: int) -> list[int]:
        """Shorten a text to `keep` tokens on the side that the checkpoint wants."""
        if len(ids) <= keep:
            return ids
        return ids[len(ids) - keep :] if self.keeps_end else ids[:keep]


def require_text(text: str, name: str) -> None:
    """Raise `InputError` for a string that no UTF-8 can hold: half of a surrogate pair."""
    try:
        text.encode()
    except UnicodeEncodeError as error:
        raise InputError(
            f"`{name}` is not valid text: character {error.start} is half of a surrogate pair "
            f"(U+{ord(text[error.start]):04X}). Send both halves, or none.",
            name,
        ) from error


def load_tokenizer(files: CheckpointFiles) -> TextTokenizer:
    """Load the tokenizer as transformers configures it. Raises `LoadError`."""
    plain = read_plain(files)
    if plain is None:
        return _from_transformers(files)
    plain.backend.no_truncation()
    plain.backend.no_padding()
    return TextTokenizer(plain.backend, plain.keeps_end, plain.with_type_ids, plain.pad_id)


def _from_transformers(files: CheckpointFiles) -> TextTokenizer:
    from transformers import AutoTokenizer

    try:
        tokenizer = AutoTokenizer.from_pretrained(
            files.transformer, local_files_only=True, trust_remote_code=False, use_fast=True
        )
        # None where the tokenizer has no Rust part.
        backend = getattr(tokenizer, "backend_tokenizer", None)
    except Exception as error:
        raise LoadError(
            f"The tokenizer in {files.transformer} cannot be loaded ({_first_line(error)}): "
            "check tokenizer.json and tokenizer_config.json, or download the checkpoint again."
        ) from error
    if not isinstance(backend, Tokenizer):
        raise LoadError(
            f"The tokenizer in {files.transformer} is a {type(tokenizer).__name__} without a fast form: "
            "supported are tokenizers that tokenizer.json describes completely."
        )
    backend.no_truncation()
    backend.no_padding()
    return TextTokenizer(
        backend=backend,
        keeps_end=tokenizer.truncation_side == "left",
        with_type_ids="token_type_ids" in tokenizer.model_input_names,
        pad_id=tokenizer.pad_token_id,
    )


def _first_line(error: Exception) -> str:
    lines = str(error).strip().splitlines()
    return lines[0] if lines else type(error).__name__


def document_names(first: int, count: int) -> list[str]:
    """Name documents as they stand in the request: `documents[3]`."""
    return [f"documents[{index}]" for index in range(first, first + count)]


def document_rows(
    tokens: TextTokenizer,
    template: Template,
    query: Sequence[Sequence[int]],
    documents: Sequence[list[int]],
    *,
    cut: Cut,
    max_length: int,
    first: int,
) -> list[Row]:
    """Shorten each document's ids to what fits and put the special tokens around.

    `query` holds the query's ids where they share the row with the document, else nothing. Raises
    `InputError` about the first document that is too long where documents are not to be cut.
    """
    beside = template.overhead + sum(map(len, query))
    length = cut.row_length(max_length, beside)
    rows = []
    for index, own in enumerate(documents, first):
        ids = own if cut.max_document_tokens is None else tokens.cut(own, cut.max_document_tokens)
        if beside + len(ids) > length:
            if cut.truncate == "error":
                others = f"{beside} of the query and special tokens"
                raise too_long(
                    f"documents[{index}]",
                    len(ids),
                    others,
                    room=length - beside,
                    length=length,
                    max_length=max_length,
                )
            ids = tokens.cut(ids, length - beside)
        rows.append(template.row(*query, ids))
    return rows


def too_long(name: str, own: int, others: str, *, room: int, length: int, max_length: int) -> InputError:
    """Say that a document's `own` tokens are more than the `room` that is left to it beside `others`.

    A row may have `length`, which is the model's `max_length` or less where the caller asks for less.
    """
    whose = "the model takes" if length >= max_length else "the request allows"
    return InputError(
        f"`{name}` has {own} tokens beside {others}, and {whose} {length} together: shorten it to {room}, or "
        "let documents be cut.",
        name,
    )

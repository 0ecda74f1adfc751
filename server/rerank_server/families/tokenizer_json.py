"""Read tokenizer.json as it stands, where transformers would make the very same of it.

That saves importing transformers, which takes longer than a small model's load. transformers builds the
classes below from the settings in tokenizer_config.json; where those say something else than tokenizer.json,
or name a token that it lacks, this declines, and transformers decides.
"""

import json
from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any

from tokenizers import Tokenizer

from rerank_server.families.checkpoint import CheckpointFiles

SPECIAL_TOKENS = ("bos_token", "eos_token", "unk_token", "sep_token", "pad_token", "cls_token", "mask_token")
UNSET = object()


@dataclass(frozen=True)
class Kind:
    """What transformers makes of one tokenizer class."""

    normalizer: str | None = None
    pre_tokenizer: tuple[str, ...] = ()
    """Of these at least one is part of tokenizer.json's."""
    settings: Mapping[str, tuple[str, str, Any]] | None = None
    """By name in tokenizer_config.json: (part of tokenizer.json, its field, transformers' default)."""
    defaults: Mapping[str, str] | None = None
    """The class's own special tokens, where tokenizer_config.json names none."""
    with_type_ids: bool = False


_BERT = Kind(
    normalizer="BertNormalizer",
    pre_tokenizer=("BertPreTokenizer",),
    settings={
        "do_lower_case": ("normalizer", "lowercase", True),
        "strip_accents": ("normalizer", "strip_accents", None),
        "tokenize_chinese_chars": ("normalizer", "handle_chinese_chars", True),
    },
    defaults={
        "unk_token": "[UNK]", "sep_token": "[SEP]", "pad_token": "[PAD]",
        "cls_token": "[CLS]", "mask_token": "[MASK]",
    },
    with_type_ids=True,
)  # fmt: skip
_ROBERTA_TOKENS = {
    "bos_token": "<s>", "eos_token": "</s>", "sep_token": "</s>", "cls_token": "<s>",
    "unk_token": "<unk>", "pad_token": "<pad>", "mask_token": "<mask>",
}  # fmt: skip
_ROBERTA = Kind(
    pre_tokenizer=("ByteLevel",),
    settings={"add_prefix_space": ("pre_tokenizer", "add_prefix_space", False)},
    defaults=_ROBERTA_TOKENS,
)
_XLM_ROBERTA = Kind(pre_tokenizer=("Metaspace",), defaults=_ROBERTA_TOKENS)
_AS_IT_STANDS = Kind()

KINDS = {
    "BertTokenizer": _BERT,
    "RobertaTokenizer": _ROBERTA,
    "XLMRobertaTokenizer": _XLM_ROBERTA,
    "PreTrainedTokenizer": _AS_IT_STANDS,
    "TokenizersBackend": _AS_IT_STANDS,
}
"""By tokenizer_config.json's `tokenizer_class`, without the `Fast` that it may end in."""


@dataclass(frozen=True)
class PlainTokenizer:
    """tokenizer.json, and what else transformers would say of it."""

    backend: Tokenizer
    keeps_end: bool
    with_type_ids: bool
    pad_id: int | None


def read_plain(files: CheckpointFiles) -> PlainTokenizer | None:
    """Read tokenizer.json, or return None where that might not be what transformers makes of it."""
    declared = dict(files.tokenizer_config)
    kind = KINDS.get(str(declared.get("tokenizer_class")).removesuffix("Fast"))
    if kind is None:
        return None
    try:
        text = (files.transformer / "tokenizer.json").read_text("utf-8")
        written = json.loads(text)
        backend = Tokenizer.from_str(text)
        tokens = _special_tokens(declared, kind)
        if not (_agrees(written, declared, kind) and _knows(backend, tokens, declared)):
            return None
    except Exception:  # noqa: BLE001  # tokenizers raises bare Exceptions; transformers says what is wrong
        return None
    named = declared.get("model_input_names")
    pad = tokens.get("pad_token")
    return PlainTokenizer(
        backend,
        keeps_end=declared.get("truncation_side") == "left",
        with_type_ids="token_type_ids" in named if named else kind.with_type_ids,
        pad_id=None if pad is None else backend.token_to_id(pad),
    )


def _special_tokens(declared: Mapping[str, Any], kind: Kind) -> dict[str, str]:
    tokens = dict(kind.defaults or {})
    for name in SPECIAL_TOKENS:
        token = declared.get(name, UNSET)
        if token is UNSET:
            continue
        if token is None:
            tokens.pop(name, None)
        else:
            tokens[name] = token["content"] if isinstance(token, dict) else str(token)
    return tokens


def _agrees(written: Mapping[str, Any], declared: Mapping[str, Any], kind: Kind) -> bool:
    """Say whether tokenizer.json has the parts that transformers builds from the settings."""
    normalizer = (written.get("normalizer") or {}).get("type")
    if kind.normalizer is not None and normalizer != kind.normalizer:
        return False
    if kind.pre_tokenizer and not set(kind.pre_tokenizer) & _types(written.get("pre_tokenizer")):
        return False
    return all(
        written[part].get(field) == declared.get(name, default)
        for name, (part, field, default) in (kind.settings or {}).items()
    )


def _types(part: Mapping[str, Any] | None) -> set[str]:
    """Name the types of a pre-tokenizer, or of those that a sequence of them holds."""
    if part is None:
        return set()
    return {part["type"], *(each["type"] for each in part.get("pretokenizers", ()))}


def _knows(backend: Tokenizer, tokens: Mapping[str, str], declared: Mapping[str, Any]) -> bool:
    """Say whether each declared token is one that tokenizer.json sets apart, under the same id."""
    apart = {token.content: number for number, token in backend.get_added_tokens_decoder().items()}
    decoder = declared.get("added_tokens_decoder") or {}
    more = declared.get("additional_special_tokens") or declared.get("extra_special_tokens") or []
    if not isinstance(more, list):
        return False
    named = [token["content"] if isinstance(token, dict) else str(token) for token in more]
    return all(token in apart for token in [*tokens.values(), *named]) and all(
        apart.get(token["content"]) == int(number) for number, token in decoder.items()
    )

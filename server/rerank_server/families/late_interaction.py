"""What the files of a ColBERT-like model say: markers, lengths, extra query tokens, what documents leave out.

Three ways to write it down are known: sentence-transformers' modules (`model_type: MultiVectorEncoder`),
PyLate's config_sentence_transformers.json (`model_type: ColBERT`, or just a `query_prefix`), and Stanford's
artifact.metadata beside an `HF_ColBERT`. What they leave unsaid is as sentence-transformers'
MultiVectorEncoder takes it.
"""

import string
from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any

from rerank_server.families.checkpoint import CheckpointFiles, Module, read_json
from rerank_server.families.sentence_modules import dense_objection, prompts

STANFORD = "HF_ColBERT"
NATIVE = "MultiVectorEncoder"
PYLATE = "ColBERT"
EXPANDED_LENGTH = 32
"""Tokens of a query with its extra ones, where the files say nothing."""
MEAN = "meanmaxsim"
TOKENS = ("token_embeddings",)
MODULES = ("Dense", "MultiVectorMask", "Normalize")


@dataclass(frozen=True)
class Expansion:
    """Extra tokens at the end of short queries."""

    length: int
    """Tokens of a query with them."""
    attended: bool
    """Whether the query's own tokens see them."""
    token: str | None
    """None is the tokenizer's mask token."""


@dataclass(frozen=True)
class LateInteraction:
    """How texts become rows, and token vectors a score."""

    query_prefix: str
    document_prefix: str
    markers: tuple[str, ...]
    """Prefixes that are one token where the tokenizer has such a one."""
    expansion: Expansion | None
    document_length: int | None
    """Most tokens of a document's row; None leaves it to the model."""
    skipped: tuple[str, ...]
    """Tokens that are left out of the score."""
    skipped_in: tuple[str, ...]
    """In `query`, in `document`."""
    dense: tuple[Module, ...]
    """Layers over each token's hidden state, in modules of their own."""
    normalized: bool
    mean: bool
    """The score is the mean over the query's tokens rather than the sum."""


def is_late_interaction(files: CheckpointFiles) -> bool:
    """Say whether the files declare token vectors, in any of the three ways."""
    settings = files.sentence_transformers
    declared = settings.get("model_type")
    if declared is not None:
        return declared in (NATIVE, PYLATE)
    return files.architecture == STANFORD or "query_prefix" in settings


def objection(files: CheckpointFiles) -> str | None:
    """Say what these files ask for that would be done otherwise here, or None."""
    if files.architecture == STANFORD and not files.modules:
        return None
    kinds = [module.kind for module in files.modules]
    if kinds[:1] != ["Transformer"] or not set(kinds[1:]) <= set(MODULES) or "Dense" not in kinds:
        return f"modules.json lists {', '.join(kinds) or 'nothing'}"
    for module in files.modules[1:]:
        found = dense_objection(module, reads=TOKENS) or _other_objection(module)
        if found is not None:
            return found
    return None


def _other_objection(module: Module) -> str | None:
    if module.kind == "Normalize" and _config(module).get("module_input_name") not in TOKENS:
        return f"{module.folder.name} normalizes something else than token vectors"
    if module.kind == "MultiVectorMask" and _config(module).get("keep_only_token_ids"):
        return f"{module.folder.name} scores certain tokens of a document only, as models of images do"
    return None


def late_interaction(files: CheckpointFiles) -> LateInteraction:
    """Read the settings, from whichever files hold them."""
    if files.architecture == STANFORD and not files.modules:
        path = files.root / "artifact.metadata"
        return _of_stanford(read_json(path) if path.is_file() else {})
    if files.sentence_transformers.get("model_type") == NATIVE:
        return _of_modules(files)
    return _of_pylate(files)


def _of_stanford(metadata: Mapping[str, Any]) -> LateInteraction:
    query = (metadata.get("query_token_id") or "[unused0]") + " "
    document = (metadata.get("doc_token_id") or "[unused1]") + " "
    return LateInteraction(
        query_prefix=query,
        document_prefix=document,
        markers=(query, document),
        expansion=Expansion(
            metadata.get("query_maxlen") or EXPANDED_LENGTH, bool(metadata.get("attend_to_mask_tokens")), None
        ),
        document_length=metadata.get("doc_maxlen"),
        skipped=tuple(string.punctuation) if metadata.get("mask_punctuation", True) else (),
        skipped_in=("document",),
        dense=(),
        normalized=True,
        mean=False,
    )


def _of_pylate(files: CheckpointFiles) -> LateInteraction:
    settings = files.sentence_transformers
    markers = tuple(settings.get(f"{role}_prefix") or "" for role in ("query", "document"))
    query, document = (
        marker + text.removeprefix(marker)
        for marker, text in zip(markers, (prompts(files).query, prompts(files).document), strict=True)
    )
    attended = settings.get("attend_to_expansion_tokens", settings.get("attend_to_mask_tokens"))
    expansion = Expansion(settings.get("query_length") or EXPANDED_LENGTH, bool(attended), None)
    skipped = settings.get("skiplist_words")
    return LateInteraction(
        query_prefix=query,
        document_prefix=document,
        markers=markers,
        expansion=None if settings.get("do_query_expansion") is False else expansion,
        document_length=settings.get("document_length"),
        skipped=tuple(string.punctuation if skipped is None else skipped),
        skipped_in=("document",),
        dense=_dense(files),
        normalized=True,
        mean=_is_mean(files),
    )


def _of_modules(files: CheckpointFiles) -> LateInteraction:
    transformer = files.sentence_bert
    masks = [_config(module) for module in files.modules if module.kind == "MultiVectorMask"]
    tasks = masks[0].get("skiplist_tasks") or ["document"] if masks else []
    words = tuple(masks[0].get("skiplist_words") or ()) if masks else ()
    expanded = transformer.get("query_expansion")
    return LateInteraction(
        query_prefix=prompts(files).query,
        document_prefix=prompts(files).document,
        markers=(),
        expansion=None
        if expanded is None
        else Expansion(expanded["length"], bool(expanded.get("attend")), expanded.get("token")),
        document_length=transformer.get("document_length"),
        skipped=words,
        skipped_in=tuple(tasks),
        dense=_dense(files),
        normalized=any(module.kind == "Normalize" for module in files.modules),
        mean=_is_mean(files),
    )


def _dense(files: CheckpointFiles) -> tuple[Module, ...]:
    return tuple(module for module in files.modules if module.kind == "Dense")


def _is_mean(files: CheckpointFiles) -> bool:
    return str(files.sentence_transformers.get("similarity_fn_name")).lower() == MEAN


def _config(module: Module) -> Mapping[str, Any]:
    path = module.folder / "config.json"
    return read_json(path) if path.is_file() else {}

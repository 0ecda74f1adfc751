"""Small random models of every architecture and readout, and the engines that must take each."""

import json
import random
from collections.abc import Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import numpy as np
import torch
import transformers
from torch.nn.functional import normalize

from rerank_server.engine.interface import Engine, Outputs, Row
from rerank_server.engine.readout import Classifier, NextToken, PooledVector, Readout, TokenVectors
from rerank_server.families.checkpoint import read_checkpoint
from rerank_server.families.engines import open_engine
from rerank_server.families.interface import Computed, Dtype, Plan
from tests.server.ranking.conftest import CROSS_ENCODERS, POSITIONS, RANDOMNESS, ROBERTA_SIZES, SIZES

VOCABULARY = 300
TOLERANCE = 1e-5
"""Largest difference in fp32 between two ways to compute the same score."""
BATCH_TOKENS = 160
"""Few, so that a test's rows take several forward passes."""
ROBERTA_LIKE = ("roberta", "xlm-roberta", "mpnet")
CAUSAL: dict[str, Any] = {
    **SIZES,
    "num_key_value_heads": 2,
    "head_dim": 8,
    "max_position_embeddings": POSITIONS,
}
WINDOW = {"sliding_window": 8, "use_sliding_window": True, "max_window_layers": 1}
ALL = ("cpu", "packed", "padded")
PACKED = ("packed", "padded")
SHARED = ("causal", "packed", "padded")
PADDED = ("padded",)
ENGINES_OF = {
    **dict.fromkeys(("bert", "roberta", "xlm-roberta"), ALL),
    **dict.fromkeys(("mpnet", "deberta-v2"), PADDED),
    **dict.fromkeys(("qwen2", "qwen3", "llama"), SHARED),
}


@dataclass(frozen=True)
class Case:
    """A model and what is read out of it."""

    family: str
    name: str
    architecture: str
    sizes: dict[str, Any]
    readout: Readout
    engines: tuple[str, ...]
    """In the order of preference; the first one is chosen by itself."""
    pad_id: int = 0
    type_ids: bool = False
    config: dict[str, Any] = field(default_factory=dict)

    def __str__(self) -> str:
        return f"{self.family}, {self.name}"


def _classifiers() -> list[Case]:
    known = [
        Case(
            "cross-encoder",
            name,
            kind.architecture,
            kind.sizes,
            Classifier(),
            ENGINES_OF.get(name, PACKED),
            pad_id=1 if name in ROBERTA_LIKE else 0,
            type_ids="token_type_ids" in kind.inputs and kind.sizes.get("type_vocab_size", 2) > 1,
        )
        for name, kind in CROSS_ENCODERS.items()
    ]
    named = {name: f"{name}ForSequenceClassification" for name in ("Mistral", "Gemma", "GPT2")}
    gpt2 = {"n_embd": 32, "n_layer": 2, "n_head": 4, "n_positions": POSITIONS}
    causal = [
        Case(
            "cross-encoder",
            "mistral, window of 8",
            named["Mistral"],
            {**CAUSAL, **WINDOW},
            Classifier(),
            SHARED,
        ),
        Case("cross-encoder", "gemma", named["Gemma"], CAUSAL, Classifier(), SHARED),
        Case("cross-encoder", "gpt2", named["GPT2"], gpt2, Classifier(), SHARED),
    ]
    return known + causal


def _next_token() -> list[Case]:
    readout = NextToken((5, 9))
    models: dict[str, tuple[str, dict[str, Any], tuple[str, ...]]] = {
        "qwen2": ("Qwen2", CAUSAL, SHARED),
        "qwen2, window of 8": ("Qwen2", {**CAUSAL, **WINDOW}, SHARED),
        "qwen3": ("Qwen3", CAUSAL, SHARED),
        "llama": ("Llama", CAUSAL, SHARED),
        "mistral, window of 8": ("Mistral", {**CAUSAL, **WINDOW}, SHARED),
        "gemma": ("Gemma", CAUSAL, SHARED),
        "gemma 2": ("Gemma2", {**CAUSAL, "sliding_window": 8}, PADDED),
        "gemma 3": ("Gemma3", {**CAUSAL, "sliding_window": 8}, SHARED),
    }
    return [
        Case("causal language model", name, f"{model}ForCausalLM", sizes, readout, engines)
        for name, (model, sizes, engines) in models.items()
    ]


def _vectors() -> list[Case]:
    roberta = {"sizes": ROBERTA_SIZES, "pad_id": 1}
    modern = {**SIZES, "local_attention": 8}
    every_mode = ("cls", "mean", "max", "mean_sqrt_len_tokens", "weightedmean", "lasttoken")
    mean, unit = PooledVector(("mean",)), (normalize,)
    return [
        Case("embedding", "bert, cls", "BertModel", SIZES, PooledVector(("cls",)), ALL, type_ids=True),
        Case("embedding", "bert, every pooling", "BertModel", SIZES, PooledVector(every_mode, unit), ALL),
        Case("embedding", "xlm-roberta, mean", "XLMRobertaModel", readout=mean, engines=ALL, **roberta),
        Case("embedding", "modernbert, mean", "ModernBertModel", modern, mean, PACKED),
        Case("embedding", "qwen3, last token", "Qwen3Model", CAUSAL, PooledVector(("lasttoken",)), PACKED),
        Case("embedding", "mpnet, mean", "MPNetModel", readout=mean, engines=PADDED, **roberta),
        Case("multi-vector", "bert", "BertModel", SIZES, TokenVectors(unit), ALL, type_ids=True),
        Case(
            "multi-vector",
            "xlm-roberta",
            "XLMRobertaModel",
            readout=TokenVectors(unit),
            engines=ALL,
            **roberta,
        ),
        Case("multi-vector", "modernbert", "ModernBertModel", modern, TokenVectors(unit), PACKED),
    ]


CASES = (*_classifiers(), *_next_token(), *_vectors())


def save(case: Case, folder: Path) -> Path:
    """Write a random model of the case; its tokenizer is never asked."""
    model_class = getattr(transformers, case.architecture)
    config_class = model_class.config_class
    named = {"bos_token_id": 2, "eos_token_id": 3, "cls_token_id": 2, "sep_token_id": 3}
    settings = {
        "vocab_size": VOCABULARY,
        "pad_token_id": case.pad_id,
        "max_position_embeddings": POSITIONS,
        "initializer_range": RANDOMNESS,
        "num_labels": 1,
        **named,
        **case.sizes,
        **case.config,
    }
    torch.manual_seed(7)
    model_class(config_class(**settings)).save_pretrained(folder)
    (folder / "tokenizer.json").write_text(json.dumps({}))
    return folder


def open_case(case: Case, folder: Path, engine: str = "auto", dtype: Dtype = "float32") -> Computed:
    """Open a saved model with the engine of this name."""
    plan = Plan("cpu", dtype, None, BATCH_TOKENS, engine=engine)
    return open_engine(read_checkpoint(folder), plan, case.readout)


def make_rows(case: Case, lengths: Sequence[int], seed: int, *, shared: int = 0) -> list[Row]:
    """Return random rows of these lengths; the first `shared` ids of every two neighbours are the same.

    One id in ten is the padding id, as where a text spells the padding token.
    """
    numbers = random.Random(seed)

    def ids(count: int) -> list[int]:
        return [
            case.pad_id if numbers.random() < 0.1 else numbers.randrange(4, VOCABULARY) for _ in range(count)
        ]

    rows = []
    prefix: list[int] = []
    for place, length in enumerate(lengths):
        if place % 2 == 0:
            prefix = ids(shared)
        own = [*prefix, *ids(length)][:POSITIONS]
        half = len(own) // 2
        rows.append(
            Row(own, [0] * half + [1] * (len(own) - half) if case.type_ids else None, shared=len(prefix))
        )
    return rows


def one_by_one(engine: Engine, rows: Sequence[Row]) -> Outputs:
    """Run each row by itself, so that nothing is padded and nothing can leak."""
    return [engine.run([row])[0] for row in rows]


def difference(some: Outputs, others: Outputs) -> float:
    """Return the largest absolute difference between two lists of outputs of the same shapes."""
    assert [each.shape for each in some] == [each.shape for each in others]
    return max(float(np.abs(a - b).max()) for a, b in zip(some, others, strict=True))

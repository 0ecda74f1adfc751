"""Every engine computes what transformers computes, run directly on one row."""

from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
import transformers
from torch import Tensor

from rerank_server.engine.interface import Row
from rerank_server.engine.readout import Classifier, NextToken, PooledVector, TokenVectors
from tests.server.engines.cases import CASES, TOLERANCE, Case, make_rows, open_case, save

POOLING: dict[str, Callable[[Tensor], Tensor]] = {
    "cls": lambda hidden: hidden[0],
    "mean": lambda hidden: hidden.mean(0),
    "max": lambda hidden: hidden.amax(0),
    "mean_sqrt_len_tokens": lambda hidden: hidden.sum(0) / len(hidden) ** 0.5,
    "weightedmean": lambda hidden: (
        (hidden * torch.arange(1, len(hidden) + 1)[:, None]).sum(0) / (len(hidden) * (len(hidden) + 1) / 2)
    ),
    "lasttoken": lambda hidden: hidden[-1],
}


def by_transformers(case: Case, model: Any, row: Row) -> Any:
    """Compute a row with nothing but the model's class."""
    named = {"input_ids": torch.tensor([list(row.ids)])}
    if row.type_ids is not None:
        named["token_type_ids"] = torch.tensor([list(row.type_ids)])
    with torch.inference_mode():
        output = model(**named)
    match case.readout:
        case Classifier():
            return output.logits[0].numpy()
        case NextToken(ids):
            return output.logits[0, -1, list(ids)].numpy()
        case TokenVectors(steps):
            vectors = output.last_hidden_state[0]
        case PooledVector(modes, steps):
            vectors = torch.cat([POOLING[mode](output.last_hidden_state[0]) for mode in modes])[None]
    for step in steps:
        vectors = step(vectors)
    return vectors.numpy() if isinstance(case.readout, TokenVectors) else vectors[0].numpy()


@pytest.mark.parametrize("case", CASES, ids=str)
def test_the_chosen_engine_computes_what_transformers_computes(case: Case, tmp_path: Path) -> None:
    save(case, tmp_path)
    engine = open_case(case, tmp_path).engine
    model = getattr(transformers, case.architecture).from_pretrained(tmp_path, dtype=torch.float32).eval()
    rows = make_rows(case, [33, 2, 70, 8], seed=6, shared=12)
    for output, row in zip(engine.run(rows), rows, strict=True):
        expected = by_transformers(case, model, row)
        assert output.shape == expected.shape
        assert np.abs(output - expected).max() <= TOLERANCE

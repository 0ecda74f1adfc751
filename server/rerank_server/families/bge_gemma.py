"""bge-reranker-v2-gemma: the logit of `Yes`.

The prompt, and which of its pieces are tokenized apart, is that of the authors' package
(https://github.com/FlagOpen/FlagEmbedding, its reranker for causal models).
"""

import re

from rerank_server.families.causal import CausalReranker
from rerank_server.families.prompt import Prompt

TASK = (
    "Given a query A and a passage B, determine whether the passage contains an answer to the query by "
    "providing a prediction of either 'Yes' or 'No'."
)


def _before(query: str, instruction: str | None) -> tuple[str, ...]:
    return "<bos>", f"A: {query}", "\n", "B:"


def _after(query: str, instruction: str | None) -> tuple[str, ...]:
    return "\n", TASK


BGE_GEMMA = CausalReranker(
    name="bge-reranker-v2-gemma",
    models="bge-reranker-v2-gemma",
    classes=("Gemma",),
    prompt=Prompt(_before, gap=" ", after=_after),
    answers=("Yes",),
    says="Given a query A and a passage B, determine whether the passage contains an answer",
    named=re.compile(r"bge-reranker-v2-gemma", re.IGNORECASE),
    marks=("<bos>",),
)

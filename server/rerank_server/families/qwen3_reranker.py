"""Qwen3-Reranker: is the answer to the judgement `yes` or `no`?

The prompt is that of the model card (https://huggingface.co/Qwen/Qwen3-Reranker-0.6B), which tokenizes its
beginning, its body and its end apart.
"""

import re

from rerank_server.families.causal import CausalReranker
from rerank_server.families.prompt import Prompt

SYSTEM = (
    "<|im_start|>system\nJudge whether the Document meets the requirements based on the Query and the "
    'Instruct provided. Note that the answer can only be "yes" or "no".<|im_end|>\n<|im_start|>user\n'
)
END = "<|im_end|>\n<|im_start|>assistant\n<think>\n\n</think>\n\n"
INSTRUCTION = "Given a web search query, retrieve relevant passages that answer the query"


def _before(query: str, instruction: str | None) -> tuple[str, ...]:
    return SYSTEM, f"<Instruct>: {instruction}\n<Query>: {query}\n<Document>:"


def _after(query: str, instruction: str | None) -> tuple[str, ...]:
    return (END,)


QWEN3_RERANKER = CausalReranker(
    name="qwen3-reranker",
    models="Qwen3-Reranker 0.6B, 4B and 8B",
    classes=("Qwen3",),
    prompt=Prompt(_before, gap=" ", after=_after, takes_instruction=True, instruction=INSTRUCTION),
    answers=("yes", "no"),
    says="Judge whether the Document meets the requirements based on the Query and the Instruct",
    named=re.compile(r"qwen3[-_]?reranker", re.IGNORECASE),
    marks=("<|im_start|>", "<|im_end|>"),
    length=32_768,
)

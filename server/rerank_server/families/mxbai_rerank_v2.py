"""mxbai-rerank v2: is the judgement `1` or `0`?

The prompt, and which of its pieces are tokenized apart, is that of the authors' package
(https://github.com/mixedbread-ai/mxbai-rerank, `mxbai_rerank_v2.py`).
"""

import re

from rerank_server.families.causal import CausalReranker
from rerank_server.families.prompt import Prompt

SYSTEM = (
    "<|im_start|>system\nYou are Qwen, created by Alibaba Cloud. You are a helpful assistant.<|im_end|>\n"
    "<|im_start|>user\n"
)
TASK = (
    "You are a search relevance expert who evaluates how well documents match search queries. For each "
    "query-document pair, carefully analyze the semantic relationship between them, then provide your binary "
    "relevance judgment (0 for not relevant, 1 for relevant).\nRelevance:"
)
END = "<|im_end|>\n<|im_start|>assistant\n"


def _before(query: str, instruction: str | None) -> tuple[str, ...]:
    told = f"instruction: {instruction}\n" if instruction else ""
    return SYSTEM, f"{told}query: {query}", "\n", "document:"


def _after(query: str, instruction: str | None) -> tuple[str, ...]:
    return "\n", TASK, END


MXBAI_RERANK_V2 = CausalReranker(
    name="mxbai-rerank-v2",
    models="mxbai-rerank base and large v2",
    classes=("Qwen2",),
    prompt=Prompt(_before, gap=" ", after=_after, takes_instruction=True),
    answers=("1", "0"),
    says="You are a search relevance expert who evaluates how well documents match search queries",
    named=re.compile(r"mxbai-rerank-(base|large)-v2", re.IGNORECASE),
    marks=("<|im_start|>", "<|im_end|>"),
    length=8192,
)

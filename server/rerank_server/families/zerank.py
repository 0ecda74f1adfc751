"""zerank: the query is the system's turn, the document the user's; the logit of `Yes` as the answer begins.

The authors publish sigmoid(logit / 5) as the score between 0 and 1
(https://huggingface.co/zeroentropy/zerank-2).
"""

import re

from rerank_server.families.causal import CausalReranker
from rerank_server.families.prompt import Prompt
from rerank_server.families.scales import tempered

END = "<|im_end|>\n<|im_start|>assistant\n"


def _before(query: str, instruction: str | None) -> tuple[str, ...]:
    system = f"<query>{query}</query>\n<instruction>{instruction}</instruction>" if instruction else query
    return (f"<|im_start|>system\n{system}<|im_end|>\n<|im_start|>user",)


def _after(query: str, instruction: str | None) -> tuple[str, ...]:
    return (END,)


ZERANK = CausalReranker(
    name="zerank",
    models="zerank-1, zerank-1-small and zerank-2",
    classes=("Qwen3",),
    prompt=Prompt(_before, gap="\n", after=_after, takes_instruction=True),
    answers=("Yes",),
    named=re.compile(r"zerank-[12]", re.IGNORECASE),
    code="modeling_zeranker",
    marks=("<|im_start|>", "<|im_end|>"),
    length=32_768,
    scale=tempered(5.0),
)

"""ctxl-rerank v2: the document comes before the query, and the logit of the vocabulary's first token is read.

The prompt is that of the model card (https://huggingface.co/ContextualAI), which tokenizes it as one text,
with the special tokens that the tokenizer adds.
"""

import re

from rerank_server.families.causal import CausalReranker
from rerank_server.families.prompt import Prompt


def _before(query: str, instruction: str | None) -> tuple[str, ...]:
    return ("Check whether a given document contains information helpful to answer the query.\n<Document>",)


def _after(query: str, instruction: str | None) -> tuple[str, ...]:
    told = f" {instruction}" if instruction else ""
    return (f"<Query> {query}{told} ??",)


CTXL_RERANK_V2 = CausalReranker(
    name="ctxl-rerank-v2",
    models="ctxl-rerank-v2-instruct-multilingual 1B, 2B and 6B",
    classes=("Qwen3", "Mistral"),
    prompt=Prompt(_before, gap=" ", tail="\n", lead="<Document>", after=_after, takes_instruction=True),
    answers=None,
    ids=(0,),
    says="Check whether a given document contains information helpful to answer the query",
    named=re.compile(r"ctxl-rerank-v2", re.IGNORECASE),
    length=32_768,
    with_specials=True,
)

"""Checkpoints that are made for code of their own, and what to do about them. Pure.

Such code is never run. A checkpoint that names some is served only where transformers has taken the same
model in since, or where a family knows exactly what that code does.
"""

from dataclasses import dataclass

from rerank_server.families.checkpoint import CheckpointFiles

ADOPTED = ("eurobert", "nomic_bert", "jina_embeddings_v3")
"""Model types whose own code transformers has taken in."""


@dataclass(frozen=True)
class Known:
    """A kind of checkpoint that is known to need its own code."""

    architecture: str
    what: str
    remedy: str


PLAIN_CHOICE = "use one that transformers runs by itself, such as BAAI/bge-reranker-v2-m3"
CAUSAL_CHOICE = "use Qwen/Qwen3-Reranker-0.6B"
LARGE_CHOICE = "use BAAI/bge-reranker-v2-gemma"
KNOWN = (
    Known("JinaBertForSequenceClassification", "jina-reranker-v1", PLAIN_CHOICE),
    Known("JinaForRanking", "jina-reranker-v3, which ranks documents together", CAUSAL_CHOICE),
    Known(
        "LayerWiseMiniCPMForCausalLM", "bge-reranker-v2-minicpm-layerwise", "use BAAI/bge-reranker-v2-gemma"
    ),
    Known("LlamaBidirectionalForSequenceClassification", "llama-nemotron-rerank", CAUSAL_CHOICE),
    Known(
        "NewForSequenceClassification",
        "gte-multilingual-reranker",
        "use Alibaba-NLP/gte-reranker-modernbert-base, or BAAI/bge-reranker-v2-m3 for many languages",
    ),
)


def objection(files: CheckpointFiles) -> str | None:
    """Say that a checkpoint needs code of its own, in a sentence without its full stop, or None."""
    known = next((each for each in KNOWN if each.architecture == files.architecture), None)
    if known is not None:
        return (
            f"{files.architecture} ({known.what}) needs code of its own, and a checkpoint's own code is "
            f"never run: {known.remedy}"
        )
    if files.own_code and files.config.get("model_type") not in ADOPTED:
        return (
            f"its config.json names code of its own ({', '.join(files.own_code)}), and a checkpoint's own "
            f"code is never run: {PLAIN_CHOICE}"
        )
    return None

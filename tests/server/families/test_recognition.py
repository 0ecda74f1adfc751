"""A checkpoint's small files tell which family takes it; what is not served is refused with a remedy."""

from typing import Any

import pytest
import transformers

from rerank_server.errors import LoadError
from rerank_server.families.checkpoint import read_checkpoint
from rerank_server.families.own_code import ADOPTED
from rerank_server.families.registry import FAMILIES, choose_family

QWEN_PROMPT = (
    "<|im_start|>system\nJudge whether the Document meets the requirements based on the Query and the "
    "Instruct provided. {{ messages | selectattr('role', 'eq', 'query') }}"
)
CHAT = (
    "{% for message in messages %}<|im_start|>{{ message.role }}\n{{ message.content }}<|im_end|>{% endfor %}"
)
OWN_PAIRS = (
    "{{ messages | selectattr('role', 'eq', 'query') }}{{ messages | selectattr('role', 'eq', 'document') }}"
)


def config(architecture: str, labels: int = 1, **more: Any) -> dict[str, Any]:
    """Write config.json as transformers does."""
    names = {str(number): f"LABEL_{number}" for number in range(labels)}
    return {"config.json": {"architectures": [architecture], "id2label": names, **more}}


def causal(architecture: str, **more: Any) -> dict[str, Any]:
    """Write config.json of a causal model, which says nothing of labels."""
    return {"config.json": {"architectures": [architecture], **more}}


def modules(*kinds: str, **configs: dict[str, Any]) -> dict[str, Any]:
    """Write modules.json, and the configs of modules by their kind."""
    folders = ["" if kind == "Transformer" else f"{place}_{kind}" for place, kind in enumerate(kinds)]
    listed = [{"type": f"a.{kind}", "path": folder} for kind, folder in zip(kinds, folders, strict=True)]
    files = {
        f"{folder}/config.json": configs.get(kind, {})
        for kind, folder in zip(kinds, folders, strict=True)
        if folder
    }
    return {"modules.json": listed, **files}


def hub(repository: str) -> str:
    """Name a repository's folder in a hub's cache."""
    return f"models--{repository.replace('/', '--')}/snapshots/0123abc"


SCORE = {"out_features": 1, "module_output_name": "scores"}
MESSAGES = {"sentence_bert_config.json": {"modality_config": {"message": {}}}}
PLAIN = {"sentence_bert_config.json": {"modality_config": {"text": {}}}}
CARD = "---\nlicense: apache-2.0\nbase_model:\n- Qwen/Qwen3-Reranker-0.6B\ntags: [x]\n---\n# A model\n"

TAKEN = [
    pytest.param("ms-marco-MiniLM-L6-v2", config("BertForSequenceClassification"), "sequence-classification"),
    pytest.param(
        "ms-marco-electra-base", config("ElectraForSequenceClassification"), "sequence-classification"
    ),
    pytest.param(
        "mmarco-mMiniLMv2", config("XLMRobertaForSequenceClassification"), "sequence-classification"
    ),
    pytest.param(
        "bge-reranker-v2-m3", config("XLMRobertaForSequenceClassification"), "sequence-classification"
    ),
    pytest.param(
        "mxbai-rerank-base-v1", config("DebertaV2ForSequenceClassification"), "sequence-classification"
    ),
    pytest.param(
        "gte-reranker-modernbert-base",
        config("ModernBertForSequenceClassification"),
        "sequence-classification",
    ),
    pytest.param(
        "eurobert-reranker",
        config(
            "EuroBertForSequenceClassification", model_type="eurobert", auto_map={"AutoModel": "m.EuroBert"}
        ),
        "sequence-classification",
        id="code that transformers has taken in",
    ),
    pytest.param(hub("BAAI/bge-reranker-v2-gemma"), causal("GemmaForCausalLM"), "bge-reranker-v2-gemma"),
    pytest.param(hub("mixedbread-ai/mxbai-rerank-large-v2"), causal("Qwen2ForCausalLM"), "mxbai-rerank-v2"),
    pytest.param(
        hub("michaelfeil/mxbai-rerank-base-v2-seq"),
        config("Qwen2ForSequenceClassification"),
        "mxbai-rerank-v2",
    ),
    pytest.param(hub("Qwen/Qwen3-Reranker-8B"), causal("Qwen3ForCausalLM"), "qwen3-reranker"),
    pytest.param(
        hub("someone/Qwen3-Reranker-0.6B-seq-cls"), config("Qwen3ForSequenceClassification"), "qwen3-reranker"
    ),
    pytest.param(
        "a",
        {**causal("Qwen3ForCausalLM"), "chat_template.jinja": QWEN_PROMPT},
        "qwen3-reranker",
        id="a chat template in its own file",
    ),
    pytest.param(
        "b",
        {**causal("Qwen3ForCausalLM"), "additional_chat_templates/reranker.jinja": QWEN_PROMPT},
        "qwen3-reranker",
        id="one of several chat templates",
    ),
    pytest.param(
        "c",
        {
            **causal("Qwen3ForCausalLM"),
            "tokenizer_config.json": {"chat_template": [{"name": "reranker", "template": QWEN_PROMPT}]},
        },
        "qwen3-reranker",
        id="one of several chat templates in tokenizer_config.json",
    ),
    pytest.param(
        "d",
        causal("Qwen3ForCausalLM", _name_or_path="Qwen/Qwen3-Reranker-4B"),
        "qwen3-reranker",
        id="a name that config.json recalls",
    ),
    pytest.param(
        "e",
        {**config("Qwen3ForSequenceClassification"), "README.md": CARD},
        "qwen3-reranker",
        id="a model card's base model",
    ),
    pytest.param(
        "f",
        {**config("Qwen3ForSequenceClassification"), **MESSAGES, "chat_template.jinja": QWEN_PROMPT},
        "qwen3-reranker",
        id="a conversion with a chat template for pairs",
    ),
    pytest.param(
        hub("zeroentropy/zerank-2-reranker"),
        {
            **causal("Qwen3ForCausalLM"),
            **modules("Transformer", "LogitScore"),
            "chat_template.jinja": OWN_PAIRS,
        },
        "zerank",
    ),
    pytest.param(
        "g",
        causal("Qwen3ForCausalLM", auto_map={"AutoConfig": "modeling_zeranker.ZEConfig"}),
        "zerank",
        id="code that a family knows",
    ),
    pytest.param(
        hub("ContextualAI/ctxl-rerank-v2-instruct-multilingual-1b"),
        causal("Qwen3ForCausalLM"),
        "ctxl-rerank-v2",
    ),
    pytest.param(
        "h",
        {**config("Qwen3ForSequenceClassification"), **PLAIN, "chat_template.jinja": CHAT},
        "sequence-classification",
        id="trained on plain pairs, as sentence-transformers notes",
    ),
    pytest.param(
        "i",
        config("Qwen3ForSequenceClassification"),
        "sequence-classification",
        id="a causal classifier that was never made for chats",
    ),
    pytest.param(
        "ettin-reranker-32m-v1",
        {
            **causal("ModernBertModel"),
            **modules(
                "Transformer", "Pooling", "Dense", "LayerNorm", "Dense", Pooling={"pooling_mode": "cls"}
            ),
            "2_Dense/config.json": {"out_features": 32},
            "4_Dense/config.json": SCORE,
        },
        "pooled-cross-encoder",
    ),
    pytest.param("colbertv2.0", causal("HF_ColBERT"), "multi-vector"),
    pytest.param(
        "GTE-ModernColBERT-v1",
        {
            **causal("ModernBertModel"),
            **modules("Transformer", "Dense"),
            "config_sentence_transformers.json": {"query_prefix": "[Q] ", "document_prefix": "[D] "},
        },
        "multi-vector",
    ),
    pytest.param(
        "all-MiniLM-L6-v2",
        {**causal("BertModel"), **modules("Transformer", "Pooling", "Normalize")},
        "embedding",
    ),
    pytest.param(
        "Qwen3-Embedding-0.6B",
        {
            **causal("Qwen3ForCausalLM"),
            **modules("Transformer", "Pooling", "Normalize", Pooling={"pooling_mode_lasttoken": True}),
            "chat_template.jinja": CHAT,
        },
        "embedding",
    ),
]


@pytest.mark.parametrize(("folder", "files", "family"), TAKEN)
def test_a_checkpoint_is_taken_by_its_family(
    folder: str, files: dict[str, Any], family: str, write_files: Any
) -> None:
    assert choose_family(read_checkpoint(write_files(folder, files))).name == family


REFUSED = [
    pytest.param(
        "jina-reranker-v1-tiny-en",
        config(
            "JinaBertForSequenceClassification", auto_map={"AutoModel": "jinaai/x--modeling_bert.JinaBert"}
        ),
        r"jina-reranker-v1\) needs code of its own, and a checkpoint's own code is never run: use one",
    ),
    pytest.param(
        "jina-reranker-v2-base-multilingual",
        config(
            "XLMRobertaForSequenceClassification",
            model_type="xlm-roberta",
            auto_map={"AutoModelForSequenceClassification": "modeling_xlm_roberta.XLMRoberta"},
        ),
        r"names code of its own \(modeling_xlm_roberta\), .* never run: use one .* such as",
    ),
    pytest.param(
        "jina-reranker-v3", causal("JinaForRanking"), "jina-reranker-v3, which ranks documents together"
    ),
    pytest.param(
        "bge-reranker-v2-minicpm-layerwise",
        causal("LayerWiseMiniCPMForCausalLM"),
        r"bge-reranker-v2-minicpm-layerwise\) needs code of its own",
    ),
    pytest.param(
        "llama-nemotron-rerank-1b-v2",
        config("LlamaBidirectionalForSequenceClassification"),
        r"llama-nemotron-rerank\) needs code of its own",
    ),
    pytest.param(
        "gte-multilingual-reranker-base",
        config("NewForSequenceClassification", model_type="new"),
        r"gte-multilingual-reranker\) needs code .*: use Alibaba-NLP/gte-reranker-modernbert-base",
    ),
    pytest.param(
        "two-labels",
        config("BertForSequenceClassification", labels=2),
        "has 2 labels, and a score is one logit: use a checkpoint that was trained with num_labels 1",
    ),
    pytest.param(
        "Qwen3-Reranker-two-labels",
        config("Qwen3ForSequenceClassification", labels=2),
        "has 2 labels, and a score is one logit",
    ),
    pytest.param(
        "unknown-causal",
        causal("PhiForCausalLM"),
        "at random by any other, .* Causal families are qwen3-reranker, mxbai-rerank-v2, "
        "bge-reranker-v2-gemma, zerank, ctxl-rerank-v2",
    ),
    pytest.param(
        "my-Qwen3-Reranker",
        {**causal("Qwen3ForCausalLM"), "chat_template.jinja": OWN_PAIRS},
        "If it is of qwen3-reranker or zerank or ctxl-rerank-v2, set scoring.family to that",
        id="a prompt of its own under a known name",
    ),
    pytest.param(
        "j",
        {**config("Qwen3ForSequenceClassification"), "chat_template.jinja": CHAT},
        "may be a causal reranker that was converted .*: set scoring.family to the reranker's family, or to "
        "sequence-classification",
        id="a conversion or not",
    ),
    pytest.param(
        "k",
        {**config("LlamaForSequenceClassification"), **MESSAGES, "chat_template.jinja": OWN_PAIRS},
        "has pairs put into a chat template, and no family here has that one",
        id="a classifier with a prompt of its own",
    ),
    pytest.param(
        "l",
        causal("BertForMaskedLM"),
        "BertForMaskedLM is no sequence classification model",
        id="another task",
    ),
]


@pytest.mark.parametrize(("folder", "files", "sentence"), REFUSED)
def test_what_cannot_be_served_right_is_refused(
    folder: str, files: dict[str, Any], sentence: str, write_files: Any
) -> None:
    with pytest.raises(LoadError, match=sentence) as refused:
        choose_family(read_checkpoint(write_files(folder, files)))
    assert str(refused.value).endswith(".")


def test_a_manifest_decides_what_a_converted_classifier_is(write_files: Any) -> None:
    root = write_files("m", {**config("Qwen3ForSequenceClassification"), "chat_template.jinja": CHAT})
    for family in ("qwen3-reranker", "zerank", "ctxl-rerank-v2", "sequence-classification"):
        assert choose_family(read_checkpoint(root), family).name == family
    with pytest.raises(
        LoadError, match=r"cannot be served as mxbai-rerank-v2: Qwen3.* is not Qwen2ForCausalLM"
    ):
        choose_family(read_checkpoint(root), "mxbai-rerank-v2")


def test_code_that_counts_as_taken_in_is_in_transformers() -> None:
    assert set(ADOPTED) <= set(transformers.CONFIG_MAPPING)


def test_families_have_names_that_a_manifest_can_hold() -> None:
    names = [family.name for family in FAMILIES]
    assert len(set(names)) == len(names)
    assert all(name.replace("-", "").isalnum() and name == name.lower() for name in names)

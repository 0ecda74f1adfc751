"""Small random causal models, whose tokenizers divide text as their namesakes' do."""

import json
import string
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
import torch
import transformers
from tokenizers import Regex, Tokenizer, decoders, models, normalizers, pre_tokenizers, processors, trainers
from transformers import PreTrainedTokenizerFast

SIZES = {
    "hidden_size": 32,
    "num_hidden_layers": 2,
    "num_attention_heads": 4,
    "num_key_value_heads": 2,
    "head_dim": 8,
    "intermediate_size": 64,
    "max_position_embeddings": 1024,
    "initializer_range": 0.2,
    "tie_word_embeddings": False,
}
CORPUS = [
    "which planet is called the red planet?\nmars. \n\nVenus?\n\nYes no yes No 1 0 : the document. a\n",
    "<Instruct>: Given a web search query\n<Query>: what is it?\n<Document>: mars.\n query: A: B: document:",
    "You are a search relevance expert. Judge whether the passage contains an answer.\nRelevance:\n\n 'Yes'",
    " ?? ??\n ??\n",
] * 30
QWEN_SPLIT = (
    r"(?i:'s|'t|'re|'ve|'m|'ll|'d)|[^\r\n\p{L}\p{N}]?\p{L}+|\p{N}| ?[^\s\p{L}\p{N}]+[\r\n]*|\s*[\r\n]+"
    r"|\s+(?!\S)|\s+"
)
ANSWERS = ["yes", "no", "Yes", "0", "1"]
CHAT = ["<|endoftext|>", "<|im_start|>", "<|im_end|>", "<think>", "</think>"]


def _qwen_tokenizer() -> Tokenizer:
    tokenizer = Tokenizer(models.BPE())
    tokenizer.normalizer = normalizers.NFC()
    tokenizer.pre_tokenizer = pre_tokenizers.Sequence(
        [
            pre_tokenizers.Split(Regex(QWEN_SPLIT), "isolated"),
            pre_tokenizers.ByteLevel(add_prefix_space=False, use_regex=False),
        ]
    )
    tokenizer.decoder = decoders.ByteLevel()
    trainer = trainers.BpeTrainer(
        vocab_size=700,
        special_tokens=CHAT,
        initial_alphabet=pre_tokenizers.ByteLevel.alphabet(),
        show_progress=False,
    )
    tokenizer.train_from_iterator([*CORPUS, *ANSWERS * 50], trainer)
    return tokenizer


def _gemma_tokenizer() -> Tokenizer:
    tokenizer = Tokenizer(models.BPE(byte_fallback=True, fuse_unk=True, unk_token="<unk>"))
    tokenizer.normalizer = normalizers.Replace(" ", "▁")
    tokenizer.pre_tokenizer = pre_tokenizers.Sequence(
        [pre_tokenizers.Split("▁", "merged_with_next"), pre_tokenizers.Split(Regex("\n+"), "isolated")]
    )
    trainer = trainers.BpeTrainer(
        vocab_size=700,
        special_tokens=["<pad>", "<eos>", "<bos>", "<unk>", *(f"<0x{byte:02X}>" for byte in range(256))],
        show_progress=False,
    )
    tokenizer.train_from_iterator([*CORPUS, *ANSWERS * 50], trainer)
    tokenizer.post_processor = processors.TemplateProcessing(
        single="<bos> $A", pair="<bos> $A $B", special_tokens=[("<bos>", 2)]
    )
    return tokenizer


def _bert_tokenizer() -> Tokenizer:
    specials = ["[PAD]", "[UNK]", "[CLS]", "[SEP]", "[MASK]", "[unused0]", "[unused1]"]
    tokenizer = Tokenizer(models.WordPiece(unk_token="[UNK]"))
    tokenizer.normalizer = normalizers.BertNormalizer(lowercase=True)
    tokenizer.pre_tokenizer = pre_tokenizers.BertPreTokenizer()
    # As in BERT's own vocabulary, markers are words of it and not special.
    trainer = trainers.WordPieceTrainer(vocab_size=400, special_tokens=specials, show_progress=False)
    tokenizer.train_from_iterator([*CORPUS, *(string.punctuation * 3)], trainer)
    plain = json.loads(tokenizer.to_str())
    plain["added_tokens"] = [each for each in plain["added_tokens"] if "unused" not in each["content"]]
    tokenizer = Tokenizer.from_str(json.dumps(plain))
    tokenizer.post_processor = processors.TemplateProcessing(
        single="[CLS] $A [SEP]",
        pair="[CLS] $A [SEP] $B:1 [SEP]:1",
        special_tokens=[("[CLS]", 2), ("[SEP]", 3)],
    )
    return tokenizer


def _mistral_tokenizer() -> Tokenizer:
    tokenizer = _gemma_tokenizer()
    tokenizer.normalizer = normalizers.Sequence([normalizers.Prepend("▁"), normalizers.Replace(" ", "▁")])
    return tokenizer


TOKENIZERS: dict[str, Callable[[], tuple[Tokenizer, dict[str, str]]]] = {
    "qwen": lambda: (_qwen_tokenizer(), {"pad_token": "<|endoftext|>", "eos_token": "<|im_end|>"}),
    "mistral": lambda: (
        _mistral_tokenizer(),
        {"pad_token": "<pad>", "bos_token": "<bos>", "unk_token": "<unk>"},
    ),
    "gemma": lambda: (_gemma_tokenizer(), {"pad_token": "<pad>", "bos_token": "<bos>", "unk_token": "<unk>"}),
}

SaveCausal = Callable[..., Path]
SaveEncoder = Callable[..., Path]


@pytest.fixture
def save_encoder(tmp_path: Path) -> SaveEncoder:
    """Save a random BERT without a head: `save_encoder("folder", added_tokens=["[Q] "])`."""

    def build(folder: str, *, added_tokens: tuple[str, ...] = (), **more: Any) -> Path:
        target = tmp_path / folder
        fast = PreTrainedTokenizerFast(
            tokenizer_object=_bert_tokenizer(),
            model_input_names=["input_ids", "token_type_ids", "attention_mask"],
            model_max_length=96,
            **{f"{name}_token": f"[{name.upper()}]" for name in ("pad", "unk", "cls", "sep", "mask")},
            **more,
        )
        fast.add_tokens(list(added_tokens))
        fast.save_pretrained(target)
        sizes = {name: SIZES[name] for name in ("hidden_size", "num_hidden_layers", "intermediate_size")}
        torch.manual_seed(13)
        config = transformers.BertConfig(
            vocab_size=len(fast),
            max_position_embeddings=96,
            num_attention_heads=4,
            initializer_range=0.3,
            **sizes,
        )
        transformers.BertModel(config, add_pooling_layer=False).save_pretrained(target)
        return target

    return build


@pytest.fixture
def save_causal(tmp_path: Path) -> SaveCausal:
    """Save a random model in a folder of a name: `save_causal("Qwen3ForCausalLM", "qwen", "a-folder")`."""

    def build(
        architecture: str, tokens: str, folder: str, *, chat_template: str | None = None, **config: Any
    ) -> Path:
        target = tmp_path / folder
        tokenizer, named = TOKENIZERS[tokens]()
        PreTrainedTokenizerFast(
            tokenizer_object=tokenizer,
            model_input_names=["input_ids", "attention_mask"],
            chat_template=chat_template,
            **named,
        ).save_pretrained(target)
        kind = getattr(transformers, architecture)
        settings = {
            "vocab_size": tokenizer.get_vocab_size(),
            "pad_token_id": tokenizer.token_to_id(named["pad_token"]),
            "bos_token_id": None,
            "eos_token_id": None,
            **SIZES,
            **config,
        }
        torch.manual_seed(11)
        kind(kind.config_class(**settings)).save_pretrained(target)
        return target

    return build


@pytest.fixture
def write_files(tmp_path: Path) -> Callable[..., Path]:
    """Write a checkpoint's small files, without weights: `write_files("folder", {"config.json": {…}})`."""

    def write(folder: str, files: dict[str, Any]) -> Path:
        root = tmp_path / folder
        for name, content in {"tokenizer.json": {}, **files}.items():
            path = root / name
            path.parent.mkdir(parents=True, exist_ok=True)
            path.write_text(content if isinstance(content, str) else json.dumps(content))
        return root

    return write

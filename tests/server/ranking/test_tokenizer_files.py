"""tokenizer.json read as it stands gives exactly what transformers makes of the same files."""

import json
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from tokenizers import Tokenizer, models, normalizers, pre_tokenizers, processors
from transformers import (
    AutoTokenizer,
    BertTokenizer,
    PreTrainedTokenizerFast,
    RobertaTokenizer,
    XLMRobertaTokenizer,
)

from rerank_server.families.checkpoint import read_checkpoint
from rerank_server.families.tokenizer_json import PlainTokenizer, read_plain

PIECES = ["a", "b", "planet", "red", "##s", "mars", "é", "東", "Ġred", "Ġ", "▁red", "▁planet", "▁", "s"]
TEXT = st.text(max_size=40) | st.lists(
    st.sampled_from(["red", "Planet", " ", "[SEP]", "<mask>", "</s>", "é", "東京", "\t", "[UNK]"]),
    max_size=12,
).map("".join)


def _bert(**settings: Any) -> Any:
    specials = ["[PAD]", "[UNK]", "[CLS]", "[SEP]", "[MASK]"]
    return BertTokenizer({token: number for number, token in enumerate([*specials, *PIECES])}, **settings)


def _roberta(**settings: Any) -> Any:
    alphabet = sorted(pre_tokenizers.ByteLevel.alphabet())
    tokens = ["<s>", "<pad>", "</s>", "<unk>", "<mask>", *alphabet, "re", "red"]
    vocabulary = {token: number for number, token in enumerate(tokens)}
    return RobertaTokenizer(vocabulary, merges=[("r", "e"), ("re", "d")], **settings)


def _xlm_roberta(**settings: Any) -> Any:
    specials = ["<s>", "<pad>", "</s>", "<unk>"]
    scored = [(token, 0.0) for token in specials] + [(piece, -1.0 - n) for n, piece in enumerate(PIECES)]
    return XLMRobertaTokenizer([*scored, ("<mask>", 0.0)], **settings)


def _as_it_stands(**settings: Any) -> Any:
    backend = Tokenizer(models.WordPiece({"[UNK]": 0, "[S]": 1, "red": 2, "r": 3}, unk_token="[UNK]"))
    backend.normalizer = normalizers.Lowercase()
    backend.pre_tokenizer = pre_tokenizers.Whitespace()
    backend.post_processor = processors.TemplateProcessing(single="[S] $A", special_tokens=[("[S]", 1)])
    return PreTrainedTokenizerFast(
        tokenizer_object=backend, unk_token="[UNK]", bos_token="[S]", pad_token="[PAD]", **settings
    )


MAKERS = {"bert": _bert, "roberta": _roberta, "xlm-roberta": _xlm_roberta, "as it stands": _as_it_stands}
SETTINGS = {
    "bert": {"do_lower_case": False, "strip_accents": False},
    "roberta": {"add_prefix_space": True},
    "xlm-roberta": {"truncation_side": "left"},
    "as it stands": {"truncation_side": "left", "model_input_names": ["input_ids", "token_type_ids"]},
}


@pytest.fixture(scope="module")
def folder(tmp_path_factory: pytest.TempPathFactory) -> Callable[[Any], Path]:
    """Save a tokenizer in a folder with an empty config.json, and return the folder."""

    def save(tokenizer: Any) -> Path:
        path = tmp_path_factory.mktemp("tokenizer")
        tokenizer.save_pretrained(path)
        (path / "config.json").write_text('{"model_type": "bert"}')
        return path

    return save


def _plain(path: Path) -> PlainTokenizer | None:
    plain = read_plain(read_checkpoint(path))
    if plain is not None:
        plain.backend.no_truncation()
        plain.backend.no_padding()
    return plain


@pytest.mark.parametrize("with_settings", [False, True], ids=["by default", "with settings"])
@pytest.mark.parametrize("kind", MAKERS)
def test_every_text_gives_the_tokens_that_transformers_gives(
    kind: str, with_settings: bool, folder: Callable[[Any], Path]
) -> None:
    path = folder(MAKERS[kind](**(SETTINGS[kind] if with_settings else {})))
    plain, reference = _plain(path), AutoTokenizer.from_pretrained(path)
    assert plain is not None, "declined"
    backend = reference.backend_tokenizer
    backend.no_truncation()
    backend.no_padding()

    @settings(max_examples=60, deadline=None)
    @given(text=TEXT, other=TEXT)
    def same(text: str, other: str) -> None:
        ours, theirs = plain.backend.encode(text, other), backend.encode(text, other)
        assert (ours.ids, ours.type_ids) == (theirs.ids, theirs.type_ids)
        assert plain.backend.encode(text, add_special_tokens=False).ids == (
            backend.encode(text, add_special_tokens=False).ids
        )

    if kind == "as it stands":
        assert plain.backend.encode("red R").ids == backend.encode("red R").ids
    else:
        same()
    assert plain.keeps_end == (reference.truncation_side == "left")
    assert plain.with_type_ids == ("token_type_ids" in reference.model_input_names)
    assert plain.pad_id == reference.pad_token_id


def test_the_real_minilm_is_read_as_it_stands(minilm: Path) -> None:
    plain, reference = _plain(minilm), AutoTokenizer.from_pretrained(minilm)
    assert plain is not None
    for text in ("What is a panda?", "naïve 東京 [SEP] Ω\u0301 \t x" * 3):
        assert plain.backend.encode(text).ids == reference(text, truncation=False)["input_ids"]


@pytest.mark.parametrize(
    ("kind", "change"),
    [
        pytest.param("bert", {"do_lower_case": False}, id="lower case that tokenizer.json does otherwise"),
        pytest.param("bert", {"tokenize_chinese_chars": False}, id="Chinese characters"),
        pytest.param("roberta", {"add_prefix_space": True}, id="a space before every text"),
        pytest.param("bert", {"cls_token": "[NEW]"}, id="a special token that tokenizer.json lacks"),
        pytest.param("bert", {"mask_token": "planet"}, id="a special token that is an ordinary one"),
        pytest.param("bert", {"additional_special_tokens": ["[X]"]}, id="a further special token"),
        pytest.param("bert", {"added_tokens_decoder": {"7": {"content": "[CLS]"}}}, id="another id"),
        pytest.param("bert", {"tokenizer_class": "XLMRobertaTokenizer"}, id="the parts of another class"),
        pytest.param("bert", {"tokenizer_class": "MPNetTokenizer"}, id="a class that is not known here"),
        pytest.param("bert", {"tokenizer_class": None}, id="no class"),
    ],
)
def test_what_transformers_would_make_otherwise_is_left_to_transformers(
    kind: str, change: dict[str, Any], folder: Callable[[Any], Path]
) -> None:
    path = folder(MAKERS[kind]())
    assert _plain(path) is not None
    config = path / "tokenizer_config.json"
    config.write_text(json.dumps(json.loads(config.read_text()) | change))
    assert _plain(path) is None


@pytest.mark.parametrize("content", ["", "{", "{}", '{"model": 3}'], ids=["empty", "cut", "bare", "wrong"])
def test_a_broken_tokenizer_file_is_left_to_whoever_says_what_is_wrong(
    content: str, folder: Callable[[Any], Path]
) -> None:
    path = folder(_bert())
    (path / "tokenizer.json").write_text(content)
    assert _plain(path) is None

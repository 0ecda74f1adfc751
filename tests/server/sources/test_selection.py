import pytest

from rerank_server.sources.selection import lack, wanted

SHARDS = tuple(f"model-{i:05}-of-00003.safetensors" for i in (1, 2, 3))
INDEX = "model.safetensors.index.json"
TEXT = ("config.json", "tokenizer.json")


@pytest.mark.parametrize(
    ("there", "picked"),
    [
        pytest.param(
            ("sentencepiece.bpe.model", "spiece.model", "merges.txt", "vocab.json", "chat_template.jinja"),
            ("chat_template.jinja", "merges.txt", "sentencepiece.bpe.model", "spiece.model", "vocab.json"),
            id="every kind of tokenizer file",
        ),
        pytest.param(
            ("1_Pooling/config.json", "2_Dense/config.json", "2_Dense/model.safetensors", "2_Dense/x.bin"),
            ("1_Pooling/config.json", "2_Dense/config.json", "2_Dense/model.safetensors"),
            id="numbered modules with weights of their own",
        ),
        pytest.param(
            ("onnx/config.json", "openvino/x.json", ".git/config.json", "a/b/config.json", ".x.json"),
            (),
            id="other directories and hidden files",
        ),
        pytest.param(
            ("model.safetensors", *SHARDS, INDEX),
            ("model.safetensors",),
            id="one file and shards: the one file",
        ),
        pytest.param(
            ("model.safetensors", "model.fp16.safetensors", "consolidated.safetensors", "model.onnx"),
            ("model.safetensors",),
            id="further copies of the weights",
        ),
        pytest.param(
            ("pytorch_model.bin.index.json", "adapter_config.json", "trainer_state.json", "notes.txt"),
            (),
            id="indexes of pickles, adapters, logs of the training",
        ),
    ],
)
def test_what_is_served_is_picked_by_name(there, picked):
    assert wanted(there) == picked
    assert wanted(picked) == picked


def test_a_sharded_model_is_its_index_and_its_shards():
    assert wanted((*SHARDS, INDEX)) == (*SHARDS, INDEX)
    assert lack((*TEXT, *SHARDS, INDEX)) is None


@pytest.mark.parametrize(
    ("names", "words"),
    [
        pytest.param((), "holds no config.json", id="nothing"),
        pytest.param(("sub/config.json",), "holds no config.json", id="config in a subdirectory"),
        pytest.param(("config.json", "model.safetensors"), "holds no tokenizer", id="no tokenizer"),
        pytest.param(TEXT, "holds no safetensors weights:", id="no weights of any kind"),
        pytest.param((*TEXT, "tf_model.h5"), "(found tf_model.h5)", id="weights of another kind"),
        pytest.param((*TEXT, "adapter_model.safetensors"), "holds an adapter (LoRA)", id="adapter"),
        pytest.param((*TEXT, *SHARDS), f"lacks {INDEX} of its sharded weights", id="shards without index"),
        pytest.param((*TEXT, INDEX, SHARDS[0], SHARDS[2]), f"lacks {SHARDS[1]} of", id="a shard is missing"),
    ],
)
def test_what_keeps_a_checkpoint_from_being_served_is_said(names, words):
    assert words in (lack(names) or "nothing")

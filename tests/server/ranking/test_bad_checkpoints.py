"""A checkpoint that cannot be served is refused with a sentence that names the file and the remedy."""

import json
import struct
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
from safetensors.torch import load_file, save_file

from rerank_server.errors import LoadError
from rerank_server.families.checkpoint import read_checkpoint
from rerank_server.families.registry import choose_family
from rerank_server.load import ScoringOptions, choose_dtype, load

Damage = Callable[[Path], object]
WEIGHTS = "model.safetensors"


def edit(**changes: Any) -> Damage:
    """Change keys of config.json."""

    def change(folder: Path) -> None:
        path = folder / "config.json"
        path.write_text(json.dumps({**json.loads(path.read_text()), **changes}))

    return change


def cut(keep: float) -> Damage:
    """Keep a share of the weights' bytes."""

    def truncate(folder: Path) -> None:
        path = folder / WEIGHTS
        path.write_bytes(path.read_bytes()[: int(path.stat().st_size * keep)])

    return truncate


def overwrite(name: str, content: bytes) -> Damage:
    """Replace a file's content."""
    return lambda folder: (folder / name).write_bytes(content)


def drop(*names: str) -> Damage:
    """Leave tensors out of the weights."""

    def without(folder: Path) -> None:
        tensors = load_file(folder / WEIGHTS)
        kept = {name: tensor for name, tensor in tensors.items() if name not in names}
        save_file(kept, folder / WEIGHTS, {"format": "pt"})

    return without


def reshape(folder: Path) -> None:
    """Give the head another number of inputs."""
    tensors = load_file(folder / WEIGHTS)
    tensors["classifier.weight"] = tensors["classifier.weight"][:, :5].clone()
    save_file(tensors, folder / WEIGHTS, {"format": "pt"})


def pickled(folder: Path) -> None:
    """Leave the weights as a pickle."""
    (folder / WEIGHTS).rename(folder / "pytorch_model.bin")


def index_without_shard(folder: Path) -> None:
    """Name a shard that is not there."""
    (folder / WEIGHTS).unlink()
    index = {"weight_map": {"a": "model-00001-of-00002.safetensors"}}
    (folder / "model.safetensors.index.json").write_text(json.dumps(index))


@pytest.mark.parametrize(
    ("damage", "sentence"),
    [
        pytest.param(lambda f: (f / "config.json").unlink(), "holds no config.json", id="no config.json"),
        pytest.param(lambda f: (f / "tokenizer.json").unlink(), "holds no tokenizer.json", id="no tokenizer"),
        pytest.param(lambda f: (f / WEIGHTS).unlink(), "holds no model.safetensors", id="no weights"),
        pytest.param(overwrite("config.json", b"{"), "config.json is not valid JSON", id="cut config.json"),
        pytest.param(overwrite("config.json", b"[]"), "config.json holds no JSON object", id="a list"),
        pytest.param(
            overwrite("tokenizer.json", b"{}"), "The tokenizer in .* cannot be loaded", id="tokenizer"
        ),
        pytest.param(cut(0.6), f"{WEIGHTS} is cut short: it has [0-9]+ of [0-9]+ bytes", id="cut weights"),
        pytest.param(cut(0.01), f"{WEIGHTS} is cut short", id="weights cut within their header"),
        pytest.param(overwrite(WEIGHTS, b""), f"{WEIGHTS} is not a safetensors file", id="empty weights"),
        pytest.param(overwrite(WEIGHTS, b"PK" * 99), f"{WEIGHTS} is not a safetensors file", id="a zip"),
        pytest.param(
            overwrite(WEIGHTS, struct.pack("<Q", 4) + b"abcd"),
            f"{WEIGHTS} is not a safetensors file",
            id="a header that is no JSON",
        ),
        pytest.param(
            overwrite(WEIGHTS, b"version https://git-lfs.github.com/spec/v1\noid sha256:0\nsize 9\n"),
            "is a Git LFS pointer, not the weights: run `git lfs pull`",
            id="a Git LFS pointer",
        ),
        pytest.param(pickled, "pickle files .* convert them to model.safetensors", id="pickled weights"),
        pytest.param(
            index_without_shard, "model-00001-of-00002.safetensors is missing", id="a missing shard"
        ),
        pytest.param(
            drop("classifier.weight", "classifier.bias"),
            "lack classifier.bias, classifier.weight, which BertForSequenceClassification needs",
            id="no trained head",
        ),
        pytest.param(
            drop("bert.encoder.layer.1.output.dense.weight"),
            "lack bert.encoder.layer.1.output.dense.weight",
            id="a missing layer",
        ),
        pytest.param(reshape, r"classifier.weight \(\[1, 5\] instead of \[1, 32\]\)", id="another shape"),
        pytest.param(
            edit(architectures=["BertForMaskedLM"]),
            "BertForMaskedLM in .* is not supported.*Supported are: .*; cross-encoders",
            id="another task",
        ),
        pytest.param(
            edit(architectures=["Qwen3ForCausalLM"]),
            "Qwen3ForCausalLM .* at random .* is of qwen3-reranker or zerank or ctxl-rerank-v2, set",
            id="a causal model",
        ),
        pytest.param(edit(architectures=None), "without `architectures`", id="no architecture"),
        pytest.param(
            edit(id2label={"0": "a", "1": "b", "2": "c"}),
            "has 3 labels, and a score is one logit: use",
            id="3 labels",
        ),
        pytest.param(edit(id2label=None), "has 2 labels", id="labels unsaid are two"),
        pytest.param(
            edit(architectures=["T5ForSequenceClassification"], is_encoder_decoder=True),
            "is an encoder-decoder model",
            id="an encoder-decoder",
        ),
        pytest.param(
            edit(architectures=["JinaBertForSequenceClassification"]),
            r"JinaBertForSequenceClassification \(jina-reranker-v1\) needs code of its own, .* never run",
            id="code of the checkpoint's own",
        ),
    ],
)
def test_a_bad_checkpoint_is_refused_with_its_file_and_the_remedy(
    damage: Damage, sentence: str, save: Callable[..., Path]
) -> None:
    folder = save("bert")
    damage(folder)
    with pytest.raises(LoadError, match=sentence) as refused:
        load(folder, ScoringOptions(), threads=1)
    assert str(folder) in str(refused.value) or "code is never run" in str(refused.value)


@pytest.mark.parametrize(
    ("options", "sentence"),
    [
        pytest.param(ScoringOptions(instruction="x"), "scoring.instruction is set", id="an instruction"),
        pytest.param(
            ScoringOptions(max_length=97),
            "scoring.maxLength is 97, .* positions for 96 tokens",
            id="too long",
        ),
        pytest.param(ScoringOptions(dtype="float16"), "scoring.dtype is float16", id="fp16 on a CPU"),
        pytest.param(ScoringOptions(family="colbert"), "scoring.family is `colbert`", id="unknown family"),
    ],
)
def test_what_the_manifest_cannot_have_is_refused(options: ScoringOptions, sentence: str, bert: Path) -> None:
    with pytest.raises(LoadError, match=sentence):
        load(bert, options, threads=1)


def test_a_family_that_the_checkpoint_is_not_of_is_refused(minilm: Path) -> None:
    with pytest.raises(LoadError, match="cannot be served as sequence-classification: BertModel"):
        load(minilm, ScoringOptions(family="sequence-classification"), threads=1)


@pytest.mark.parametrize(
    ("asked", "device", "dtype"),
    [
        pytest.param("auto", "cpu", "float32", id="exact on a CPU"),
        pytest.param("auto", "cuda:0", "bfloat16", id="fast on a GPU"),
        pytest.param("bfloat16", "cpu", "bfloat16", id="bf16 on a CPU on request"),
        pytest.param("float16", "cuda:0", "float16", id="fp16 on a GPU on request"),
    ],
)
def test_the_dtype_is_chosen_for_the_device(asked: Any, device: str, dtype: str) -> None:
    assert choose_dtype(asked, device) == dtype


def test_a_sharded_checkpoint_is_loaded(save: Callable[..., Path]) -> None:
    folder = save("bert")
    tensors = load_file(folder / WEIGHTS)
    names = sorted(tensors)
    shards = {"model-00001-of-00002.safetensors": names[::2], "model-00002-of-00002.safetensors": names[1::2]}
    for shard, own in shards.items():
        save_file({name: tensors[name] for name in own}, folder / shard, {"format": "pt"})
    index = {"metadata": {}, "weight_map": {name: shard for shard, own in shards.items() for name in own}}
    (folder / "model.safetensors.index.json").write_text(json.dumps(index))
    (folder / WEIGHTS).unlink()
    assert load(folder, ScoringOptions(), threads=1).family == "sequence-classification"

    shard = folder / "model-00002-of-00002.safetensors"
    shard.write_bytes(shard.read_bytes()[:-10])
    with pytest.raises(LoadError, match=r"model-00002-of-00002\.safetensors is cut short"):
        load(folder, ScoringOptions(), threads=1)


def test_a_cross_encoder_that_sentence_transformers_saved_is_recognised(bert: Path, tmp_path: Path) -> None:
    for file in bert.iterdir():
        (tmp_path / file.name).write_bytes(file.read_bytes())
    transformer = {
        "idx": 0,
        "name": "0",
        "path": "",
        "type": "sentence_transformers.base.modules.Transformer",
    }
    (tmp_path / "modules.json").write_text(json.dumps([transformer]))
    assert choose_family(read_checkpoint(tmp_path)).name == "sequence-classification"

    settings = {"prompts": {"query": "judge: "}, "default_prompt_name": "query"}
    (tmp_path / "config_sentence_transformers.json").write_text(json.dumps(settings))
    with pytest.raises(LoadError, match="puts a prompt before every text"):
        choose_family(read_checkpoint(tmp_path))

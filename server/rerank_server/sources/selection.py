"""Which files of a checkpoint are served from, decided by their names alone.

The same rule holds for a hub repository, an installed package and a directory, so that a model's revision and
download never depend on what else lies beside it (ONNX exports, pickles, images, training logs).
"""

import re
from collections.abc import Iterable

CONFIG = "config.json"
WEIGHTS = "model.safetensors"
WEIGHTS_INDEX = "model.safetensors.index.json"
_SHARD = re.compile(r"model-(\d{5})-of-(\d{5})\.safetensors")

_MODULE_DIRECTORY = re.compile(r"\d+_[A-Za-z]\w*")
"""sentence-transformers' numbered module directories: `1_Pooling`, `2_Dense`."""

TOKENIZER = "tokenizer.json"
_PLAIN_FILES = frozenset(
    {"vocab.txt", "vocab.bpe", "merges.txt", "bpe.codes", "chat_template.jinja", "artifact.metadata"}
)
_TOKENIZER_SUFFIXES = (".model", ".tiktoken")
_FOREIGN_JSON = re.compile(
    r".*\.index\.json|adapter_.*|onnx.*|openvino.*|trainer_state\.json|training_args\.json|.*_results\.json"
    r"|data_config\.json"
)
_OTHER_WEIGHTS = (".bin", ".pt", ".pth", ".ckpt", ".h5", ".msgpack", ".onnx", ".gguf", ".safetensors")


def wanted(names: Iterable[str]) -> tuple[str, ...]:
    """Pick the files to serve from among POSIX paths relative to the checkpoint's root, sorted."""
    directories: dict[str, set[str]] = {"": set()}
    for name in names:
        directory, _, file = name.rpartition("/")
        if not directory or _MODULE_DIRECTORY.fullmatch(directory):
            directories.setdefault(directory, set()).add(file)
    picked: list[str] = []
    for directory, files in directories.items():
        prefix = f"{directory}/" if directory else ""
        picked += [prefix + file for file in files if _is_small_part(file)]
        picked += [prefix + file for file in _weights(files)]
    return tuple(sorted(picked))


def lack(names: Iterable[str]) -> str | None:
    """Say what keeps these files from being a servable checkpoint; None where nothing does.

    The answer completes a sentence that begins with the place: "<place> holds no config.json, so …".
    """
    files = {name for name in names if "/" not in name}
    if CONFIG not in files:
        return (
            f"holds no {CONFIG}, so it is not a transformers checkpoint: name one that has {CONFIG}, "
            "tokenizer files and *.safetensors at its root"
        )
    if not has_tokenizer(files):
        return f"holds no {TOKENIZER}: save the model's fast tokenizer beside it, with its save_pretrained()"
    if WEIGHTS in files:
        return None
    return _weights_lack(files)


def has_tokenizer(files: Iterable[str]) -> bool:
    """Say whether a tokenizer that can be served from is among the files of one directory."""
    return TOKENIZER in files


def _weights_lack(files: set[str]) -> str | None:
    shards = {match[0]: match[2] for file in files if (match := _SHARD.fullmatch(file))}
    if shards:
        expected = {f"model-{i:05}-of-{n}.safetensors" for n in shards.values() for i in range(1, int(n) + 1)}
        missing = sorted(expected - shards.keys())
        if WEIGHTS_INDEX not in files:
            missing.insert(0, WEIGHTS_INDEX)
        if not missing:
            return None
        return f"lacks {', '.join(missing)} of its sharded weights: complete the upload or copy"
    if "adapter_model.safetensors" in files:
        return "holds an adapter (LoRA) and no model: merge it into its base model and publish the result"
    others = sorted(file for file in files if file.endswith(_OTHER_WEIGHTS))
    found = f" (found {', '.join(others)})" if others else ""
    return (
        f"holds no safetensors weights{found}: use a revision that has {WEIGHTS}, or convert it. "
        "Pickled weights are not loaded, because loading them runs code"
    )


def _is_small_part(file: str) -> bool:
    if file.startswith("."):
        return False
    if file.endswith(".json"):
        return not _FOREIGN_JSON.fullmatch(file)
    return file in _PLAIN_FILES or file.endswith(_TOKENIZER_SUFFIXES)


def _weights(files: set[str]) -> list[str]:
    if WEIGHTS in files:
        return [WEIGHTS]
    shards = [file for file in files if _SHARD.fullmatch(file)]
    return [*shards, WEIGHTS_INDEX] if shards and WEIGHTS_INDEX in files else shards

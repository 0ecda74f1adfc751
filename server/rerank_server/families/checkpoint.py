"""The files of a checkpoint, read once: config.json, modules.json and the small JSON files beside them."""

import json
from collections.abc import Mapping
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

from rerank_server.errors import LoadError

DEFAULT_LABELS = 2
"""What transformers assumes where config.json says nothing of labels."""


@dataclass(frozen=True)
class Module:
    """One line of sentence-transformers' modules.json."""

    kind: str
    """The class's own name: `Transformer`, `Pooling`, `Dense`, …"""
    folder: Path


@dataclass(frozen=True)
class CheckpointFiles:
    """What the small files of a checkpoint say."""

    root: Path
    transformer: Path
    """The folder of config.json, tokenizer and weights: the root, or the one that modules.json names."""
    config: Mapping[str, Any]
    modules: tuple[Module, ...] = ()
    sentence_transformers: Mapping[str, Any] = field(default_factory=dict)
    """config_sentence_transformers.json: prompts and the like."""
    sentence_bert: Mapping[str, Any] = field(default_factory=dict)
    """sentence_bert_config.json: `max_seq_length`, `do_lower_case`."""
    tokenizer_config: Mapping[str, Any] = field(default_factory=dict)

    @property
    def architecture(self) -> str:
        """The model class that config.json names, or words that say that it names none."""
        names = self.config.get("architectures")
        if isinstance(names, list) and names and isinstance(names[0], str):
            return names[0]
        return "a model without `architectures` in its config.json"

    @property
    def labels(self) -> int:
        """How many outputs a classification head of this checkpoint has."""
        names = self.config.get("id2label")
        if isinstance(names, dict):
            return len(names)
        count = self.config.get("num_labels", DEFAULT_LABELS)
        return count if isinstance(count, int) else DEFAULT_LABELS


def read_checkpoint(root: Path) -> CheckpointFiles:
    """Read the small files of a checkpoint.

    Raises `LoadError` naming the file that is missing or is no valid JSON.
    """
    modules = _read_modules(root)
    transformer = modules[0].folder if modules else root
    for name in ("config.json", "tokenizer.json"):
        if not (transformer / name).is_file():
            raise LoadError(
                f"{transformer} holds no {name}: point the source at a complete checkpoint "
                "(config.json, tokenizer.json and *.safetensors)."
            )
    return CheckpointFiles(
        root=root,
        transformer=transformer,
        config=read_json(transformer / "config.json"),
        modules=modules,
        sentence_transformers=_read_optional(root / "config_sentence_transformers.json"),
        sentence_bert=_read_optional(transformer / "sentence_bert_config.json"),
        tokenizer_config=_read_optional(transformer / "tokenizer_config.json"),
    )


def read_json(path: Path) -> Mapping[str, Any]:
    """Read a JSON object, or raise `LoadError` naming the file and the place of the fault."""
    parsed = _parse(path)
    if not isinstance(parsed, dict):
        raise LoadError(f"{path} holds no JSON object: download the checkpoint again.")
    return parsed


def _read_optional(path: Path) -> Mapping[str, Any]:
    return read_json(path) if path.is_file() else {}


def _read_modules(root: Path) -> tuple[Module, ...]:
    path = root / "modules.json"
    if not path.is_file():
        return ()
    parsed = _parse(path)
    try:
        return tuple(Module(each["type"].rsplit(".", 1)[-1], _inside(root, each["path"])) for each in parsed)
    except (TypeError, KeyError, AttributeError) as error:
        raise LoadError(
            f"{path} is not a list of modules with `type` and `path`: download it again."
        ) from error


def _inside(root: Path, folder: str) -> Path:
    """Resolve a module's folder; one that leads out of the checkpoint is refused."""
    path = root / folder
    if not path.resolve().is_relative_to(root.resolve()):
        raise LoadError(
            f"{root / 'modules.json'} names the folder `{folder}`, which is outside of the checkpoint."
        )
    return path


def _parse(path: Path) -> Any:
    try:
        return json.loads(path.read_bytes())
    except OSError as error:
        raise LoadError(f"{path} cannot be read: {error.strerror}.") from error
    except ValueError as error:
        raise LoadError(f"{path} is not valid JSON ({error}): download the checkpoint again.") from error

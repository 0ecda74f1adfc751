"""The files of a checkpoint, read once: config.json, modules.json and the small JSON files beside them."""

import json
import re
from collections.abc import Mapping
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

from rerank_server.errors import LoadError

DEFAULT_LABELS = 2
"""What transformers assumes where config.json says nothing of labels."""

HUB_FOLDER = "models--"
"""How a hub's cache calls a repository's folder: `models--owner--name`."""
_BASE_MODEL = re.compile(r"^base_model:((?:[ \t]*\S+)?(?:\n[ \t]*-[^\n]*)*)", re.MULTILINE)
"""In a model card's front matter: one name behind the key, or a list of names below it."""


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
    chat_templates: tuple[str, ...] = ()
    """The Jinja sources that come with the tokenizer. They are read, and never run."""
    names: tuple[str, ...] = ()
    """What the checkpoint calls itself and what it was made from, as far as its files and its place tell."""

    @property
    def own_code(self) -> tuple[str, ...]:
        """The modules of its own that config.json wants run for this checkpoint, by their names."""
        wanted = self.config.get("auto_map")
        found = wanted.values() if isinstance(wanted, dict) else ()
        return tuple(sorted({str(each).rsplit("--", 1)[-1].split(".", 1)[0] for each in found if each}))

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
    config = read_json(transformer / "config.json")
    tokenizer_config = _read_optional(transformer / "tokenizer_config.json")
    return CheckpointFiles(
        root=root,
        transformer=transformer,
        config=config,
        modules=modules,
        sentence_transformers=_read_optional(root / "config_sentence_transformers.json"),
        sentence_bert=_read_optional(transformer / "sentence_bert_config.json"),
        tokenizer_config=tokenizer_config,
        chat_templates=_chat_templates(transformer, tokenizer_config),
        names=_names(root, config),
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


def _chat_templates(folder: Path, tokenizer_config: Mapping[str, Any]) -> tuple[str, ...]:
    """Return the templates, as one text, as named ones, or in files of their own."""
    declared = tokenizer_config.get("chat_template")
    several = declared if isinstance(declared, list) else [{"template": declared}]
    texts = [each.get("template") for each in several if isinstance(each, dict)]
    files = [folder / "chat_template.jinja", *sorted((folder / "additional_chat_templates").glob("*.jinja"))]
    texts += [path.read_text(errors="replace") for path in files if path.is_file()]
    return tuple(text for text in texts if isinstance(text, str) and text)


def _names(root: Path, config: Mapping[str, Any]) -> tuple[str, ...]:
    """Return the hub repository or folder, what config.json recalls, and the model card's base models."""
    repository = next((part for part in root.parts if part.startswith(HUB_FOLDER)), root.name)
    card = root / "README.md"
    head = card.read_text(errors="replace").split("\n---", 1)[0] if card.is_file() else ""
    base = _BASE_MODEL.search(head) if head.startswith("---") else None
    names = (repository.removeprefix(HUB_FOLDER), config.get("_name_or_path"), base and base[1])
    return tuple(name for name in names if isinstance(name, str) and name)


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

"""From manifest files to the versions that shall run: reading, and what is kept when a file breaks."""

import asyncio
import hashlib
import json
from collections import defaultdict
from collections.abc import Iterable, Iterator, Mapping
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

from rerank_api.manifests import Document, read_file
from rerank_api.name_sharing import Claim, advice, holders
from rerank_api.names import seniority
from rerank_api.problems import ManifestError, Problem
from rerank_api.rerank_model import RerankModel
from rerank_cli.up.consumers import admitted
from rerank_cli.up.support import refused
from rerank_cli.up.world import Version
from rerank_gateway.models import Consumer

SUFFIXES = frozenset({".yaml", ".yml", ".json"})
REPLACING_S = 0.5
"""An editor or a deployment that replaces a file needs less than this from taking the old one away."""


@dataclass(frozen=True)
class Read:
    """What the files said. A file that has become wrong keeps what it said before."""

    documents: Mapping[Path, tuple[Document, ...]] = field(default_factory=dict)
    """By file, in the order of the command line."""
    problems: tuple[Problem, ...] = ()
    consumers: tuple[Consumer, ...] = ()
    """Who may call. With at least one, nobody is served without a key."""
    unusable: tuple[Problem, ...] = ()
    """What is wrong with keys; such a key lets nobody in."""

    def complaint(self) -> str:
        """Return every problem, one a line."""
        return "\n".join(str(problem) for problem in (*self.problems, *self.unusable))


def read(paths: tuple[Path, ...], before: Read | None = None) -> Read:
    """Read the manifests. Files that cannot be used are told in `problems`, never by an exception."""
    before = before or Read()
    documents: dict[Path, tuple[Document, ...]] = {}
    problems: list[Problem] = []
    for file in _files(paths):
        if not _exists(file) and file in before.documents:
            continue  # it was removed, and so are its models
        try:
            found = read_file(file)
        except ManifestError as error:
            wrong = list(error.problems)
        else:
            others = [document for those in documents.values() for document in those]
            wrong = [*refused(found), *_told_twice(found, others)]
        problems += wrong
        if not wrong:
            documents[file] = found
        elif file in before.documents:
            documents[file] = before.documents[file]
    consumers, unusable = admitted(document for those in documents.values() for document in those)
    return Read(documents, tuple(problems), consumers, unusable)


async def read_again(paths: tuple[Path, ...], before: Read) -> Read:
    """Read after a change. A file that is gone is looked for once more, because it may be being replaced."""
    if any(not _exists(file) for file in before.documents):
        await asyncio.sleep(REPLACING_S)
    return await asyncio.to_thread(read, paths, before)


def versions(read: Read) -> tuple[Version, ...]:
    """Return what shall run, in the order of the files, which is that of age: the first is the oldest."""
    models: dict[str, tuple[RerankModel, Path]] = {}
    for document in (document for those in read.documents.values() for document in those):
        if isinstance(document.resource, RerankModel):
            models.setdefault(document.resource.metadata.name, (document.resource, Path(document.file)))
    claims = {name: _claim(model, place) for place, (name, (model, _)) in enumerate(models.items())}
    wanted: defaultdict[str, list[Claim]] = defaultdict(list)
    for name, (model, _) in models.items():
        for public in model.public_names:
            wanted[public].append(claims[name])
    held = {public: holders(public, claimants) for public, claimants in wanted.items()}
    return tuple(_version(model, file, claims[name], held) for name, (model, file) in models.items())


def _claim(model: RerankModel, place: int) -> Claim:
    namespace, name = model.metadata.namespace or "", model.metadata.name
    return Claim(seniority(place, namespace, name), namespace, name, model.spec.weight)


def _version(model: RerankModel, file: Path, claim: Claim, held: Mapping[str, tuple[Claim, ...]]) -> Version:
    names = tuple(public for public in model.public_names if claim in held[public])
    remark = " ".join(
        f"Another model has the name `{public}` already ({held[public][0].model}): "
        f"{advice(public, claim, held[public][0])}."
        for public in model.public_names
        if public not in names
    )
    if not names:
        remark = f"Not started, because it has no name left to be asked by. {remark}"
    for_server = _for_server(model, file)
    return Version(
        model=model.metadata.name,
        fingerprint=hashlib.sha256(for_server.encode()).hexdigest()[:12],
        names=names,
        replicas=model.spec.replica_range[0] if names else 0,
        manifest=for_server,
        remark=remark,
        weight=model.spec.weight,
    )


def _for_server(model: RerankModel, file: Path) -> str:
    """Return the manifest for one server: what does not concern a single server is left out."""
    source = model.spec.source
    if source.file is not None:
        path = str((file.absolute().parent / source.file.path).resolve())
        source = source.model_copy(update={"file": source.file.model_copy(update={"path": path})})
    spec = model.spec.model_copy(update={"source": source, "replicas": None, "weight": None})
    content: dict[str, Any] = {
        "apiVersion": model.api_version,
        "kind": model.kind,
        "metadata": {"name": model.metadata.name},
        "spec": spec.model_dump(mode="json", by_alias=True, exclude_none=True, exclude_defaults=True),
    }
    return json.dumps(content, indent=1, sort_keys=True, ensure_ascii=False)


def _told_twice(found: tuple[Document, ...], others: Iterable[Document]) -> Iterator[Problem]:
    """Yield a problem for each resource that an earlier one is called like; here are no namespaces."""
    first = {_kind_and_name(document): document for document in others}
    for document in found:
        other = first.setdefault(_kind_and_name(document), document)
        if other is not document:
            place = f"{other.file}:{other.line('metadata.name')}"
            kind, name = _kind_and_name(document)
            what = "model" if kind == "RerankModel" else kind
            yield document.problem(
                "metadata.name", f"{name!r} names another {what} in {place}: rename one of them"
            )


def _kind_and_name(document: Document) -> tuple[str, str]:
    return document.resource.kind, document.resource.metadata.name


def _files(paths: tuple[Path, ...]) -> Iterator[Path]:
    """Yield each file once: those named, and those of directories by name."""
    seen: set[Path] = set()
    for path in paths:
        try:
            found = _inside(path) if path.is_dir() else [path]
        except OSError:
            found = [path]  # reading it says what is wrong with it
        for file in found:
            if file.absolute() not in seen:
                seen.add(file.absolute())
                yield file


def _inside(directory: Path) -> list[Path]:
    return sorted(file for file in directory.iterdir() if file.suffix in SUFFIXES and file.is_file())


def _exists(file: Path) -> bool:
    """Say whether something is there; what may not be looked at is."""
    try:
        return file.exists()
    except OSError:
        return True

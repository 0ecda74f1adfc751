"""`rerank verify`: compare a model's scores with what they must be, here or in a running server."""

import asyncio
import contextlib
import json
import logging
import os
import re
import sys
from collections.abc import AsyncIterator, Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any

import httpx
from pydantic import ValidationError
from rich.console import Console
from rich.text import Text

from rerank_api.manifests import read_file, read_text
from rerank_api.names import RESOURCE_NAME_MAX_LENGTH
from rerank_api.problems import ManifestError
from rerank_api.rerank_model import RerankModel
from rerank_api.resource import API_VERSION
from rerank_api.verification import VerificationReport
from rerank_api.yaml_text import dump_yaml
from rerank_cli.errors import AnswerError, CliError, UsageError
from rerank_cli.verification_table import report_table

if TYPE_CHECKING:
    from rerank_server.lifecycle import Lifecycle
    from rerank_server.reranker import Reranker

ANSWER_S = 600.0
CONNECT_S = 5.0
PACKAGE = "package:"
REPOSITORY = re.compile(r"(?P<repo>[\w.-]+/[\w.-]+)(@(?P<revision>[^@]+))?", re.ASCII)
DIGITS = 6
"""Significant digits of a score that is written as a golden."""
GOLDEN_TOLERANCE = 0.01


@dataclass(frozen=True)
class Asked:
    """What to verify, and how to show it."""

    model: str | None
    """A manifest, a folder, `package:NAME`, or `owner/name[@revision]`."""
    server: str | None
    """The address of a running server; None verifies here."""
    engine: str
    as_json: bool
    as_goldens: bool


def run(asked: Asked) -> bool:
    """Verify, print, and say whether everything agrees."""
    if (asked.model is None) == (asked.server is None):
        raise UsageError("Say what to verify: a model, or a running server with --server URL, not both.")
    if asked.as_goldens and (asked.as_json or asked.server is not None):
        raise UsageError("--write scores a model here: give it a MODEL, and neither --json nor --server.")
    if asked.server is not None:
        return _show([ask(asked.server)], as_json=asked.as_json)
    assert asked.model is not None  # noqa: S101  # one of the two is given
    manifests = manifests_of(asked.model)
    if asked.as_goldens:
        for manifest in manifests:
            sys.stdout.write(asyncio.run(_score_goldens(manifest, asked.engine)))
        return True
    reports = [asyncio.run(_verify_here(manifest, asked.engine)) for manifest in manifests]
    return _show(reports, as_json=asked.as_json)


def manifests_of(model: str) -> tuple[RerankModel, ...]:
    """Return the models that the argument names. Raises `CliError` where it names none."""
    path = Path(model)
    if model.startswith(PACKAGE):
        return (_bare({"package": {"name": model.removeprefix(PACKAGE)}}, model.removeprefix(PACKAGE)),)
    if path.is_file():
        return _read(path)
    if path.is_dir():
        if not any((path / name).is_file() for name in ("config.json", "modules.json")):
            raise UsageError(f"{path} holds no config.json: name a folder with a checkpoint, or a manifest.")
        return (_bare({"file": {"path": str(path.resolve())}}, path.resolve().name),)
    if path.suffix not in {".yaml", ".yml", ".json"} and (named := REPOSITORY.fullmatch(model)):
        source = {name: value for name, value in named.groupdict().items() if value}
        return (_bare({"huggingFace": source}, source["repo"]),)
    raise UsageError(
        f"{model} is neither a file nor a folder here, nor a repository: give a manifest, a folder with a "
        f"checkpoint, {PACKAGE}NAME, or owner/name[@revision]."
    )


def ask(url: str) -> VerificationReport:
    """Have a running server verify itself. Raises `AnswerError`."""
    timeout = httpx.Timeout(ANSWER_S, connect=CONNECT_S)
    try:
        with httpx.Client(timeout=timeout, trust_env=False) as client:
            answer = client.post(url.rstrip("/") + "/verify")
    except (ValueError, httpx.InvalidURL, httpx.UnsupportedProtocol) as error:
        raise AnswerError(f"{url} is no address of a server: write e.g. http://127.0.0.1:8000.") from error
    except httpx.HTTPError as error:
        raise AnswerError(f"No server answers at {url} ({error or type(error).__name__}).") from error
    if answer.status_code == 200:
        with contextlib.suppress(ValidationError):
            return VerificationReport.model_validate_json(answer.content)
    raise AnswerError(_refusal(url, answer), answer.status_code)


def _show(reports: list[VerificationReport], *, as_json: bool) -> bool:
    console = Console()
    for number, report in enumerate(reports):
        if as_json:
            sys.stdout.write(report.model_dump_json(by_alias=True) + "\n")
        else:
            if number:
                console.print()
            console.print(report_table(report))
    return all(report.passed for report in reports)


def _read(path: Path) -> tuple[RerankModel, ...]:
    try:
        documents = read_file(path)
    except ManifestError as error:
        raise CliError(str(error)) from error
    models = [document.resource for document in documents if isinstance(document.resource, RerankModel)]
    if not models:
        raise UsageError(f"{path} holds no RerankModel: name a manifest of one.")
    return tuple(_beside(model, path) for model in models)


def _beside(model: RerankModel, manifest: Path) -> RerankModel:
    """Have a relative folder begin at the manifest's own."""
    folder = model.spec.source.file
    if folder is None:
        return model
    moved = folder.model_copy(update={"path": str((manifest.absolute().parent / folder.path).resolve())})
    source = model.spec.source.model_copy(update={"file": moved})
    return model.model_copy(update={"spec": model.spec.model_copy(update={"source": source})})


def _bare(source: dict[str, Any], name: str) -> RerankModel:
    """Return a manifest that says nothing but where a model is."""
    plain = re.sub(r"[^a-z0-9]+", "-", name.lower()).lstrip("-0123456789")[:RESOURCE_NAME_MAX_LENGTH]
    content = {
        "apiVersion": API_VERSION,
        "kind": "RerankModel",
        "metadata": {"name": plain.rstrip("-") or "model"},
        "spec": {"source": source},
    }
    try:
        [document] = read_text(json.dumps(content), name)
    except ManifestError as error:
        problem = error.problems[0]
        raise UsageError(f"{name or PACKAGE} names no model: {problem.message}.") from error
    model = document.resource
    assert isinstance(model, RerankModel)  # noqa: S101  # it says so above
    return model


async def _verify_here(manifest: RerankModel, engine: str) -> VerificationReport:
    async with _loaded(manifest, engine) as lifecycle:
        assert lifecycle.report is not None  # noqa: S101  # a model that is up was verified
        required = manifest.spec.verify.required
        return lifecycle.report.model_copy(update={"required": required})


async def _score_goldens(manifest: RerankModel, engine: str) -> str:
    """Return the goldens with the scores that the model gives now, ready for `spec`."""
    async with _loaded(manifest, engine) as lifecycle:
        assert lifecycle.report is not None  # noqa: S101  # as above
        assert lifecycle.reranker is not None  # noqa: S101  # as above
        texts = [(golden.query, list(golden.documents)) for golden in manifest.spec.verify.goldens]
        texts = texts or _texts(lifecycle.report)
        goldens = [await _golden(lifecycle.reranker, query, documents) for query, documents in texts]
    return dump_yaml({"verify": {"goldens": goldens}})


def _texts(report: VerificationReport) -> list[tuple[str, list[str]]]:
    """Return the queries of a report's first origin with their documents: published ones, else our own."""
    first = report.scores[0].origin if report.scores else None
    found: dict[tuple[str, str], list[str]] = {}
    for score in report.scores:
        if score.origin == first:
            found.setdefault((score.golden, score.query), []).append(score.document)
    return [(query, documents) for (_, query), documents in found.items()]


async def _golden(reranker: "Reranker", query: str, documents: list[str]) -> dict[str, Any]:
    scores = (await reranker.score(query, documents)).values
    return {
        "query": query,
        "documents": documents,
        "scores": [float(f"{score:.{DIGITS}g}") for score in scores],
        "tolerance": GOLDEN_TOLERANCE,
    }


@contextlib.asynccontextmanager
async def _loaded(manifest: RerankModel, engine: str) -> AsyncIterator["Lifecycle"]:
    """Bring a model up as a server does, telling how far it is; wrong scores are reported, not raised."""
    try:
        from rerank_server.errors import ServerError
        from rerank_server.families.engines import AUTO, ENGINES
        from rerank_server.lifecycle import Lifecycle
        from rerank_server.settings import Settings
    except ModuleNotFoundError as error:
        raise CliError(
            f"Models are verified by the server, of which {error.name} is missing: in a "
            "checkout, pip install '.[server]'; or ask a running server with --server URL."
        ) from error
    if engine not in {AUTO, *ENGINES}:
        raise UsageError(f"The engine {engine} is not known: write {', '.join((AUTO, *ENGINES))}.")
    logging.getLogger("rerank_server").setLevel(logging.CRITICAL)  # the report says it all
    verify = manifest.spec.verify.model_copy(update={"required": False})
    tolerant = manifest.model_copy(update={"spec": manifest.spec.model_copy(update={"verify": verify})})
    settings = Settings(engine=engine, hub_token=os.environ.get("HF_TOKEN"))
    lifecycle = Lifecycle(tolerant, settings, lambda _: None)
    try:
        with _told(lifecycle):
            await lifecycle.bring_up()
        yield lifecycle
    except ServerError as error:
        raise CliError(str(error)) from error
    finally:
        lifecycle.close()


@contextlib.contextmanager
def _told(lifecycle: "Lifecycle") -> Iterator[None]:
    """Show how far the model is, where somebody looks."""
    console = Console(stderr=True)
    if not console.is_terminal:
        yield
        return

    async def follow() -> None:
        while True:
            status = lifecycle.status()
            shown.update(Text(f"{status.state.value}: {status.message}"))
            await asyncio.sleep(0.2)

    with console.status("") as shown:
        task = asyncio.ensure_future(follow())
        try:
            yield
        finally:
            task.cancel()


def _refusal(url: str, answer: httpx.Response) -> str:
    try:
        error = answer.json()["error"]
        message, code = error["message"], error["code"]
    except (ValueError, KeyError, TypeError):
        return f"{url}/verify answered with HTTP status {answer.status_code}: is this a rerank server?"
    advice = ""
    if code in {"not_found", "missing_model"}:
        advice = " Gateways let nobody through to it: give the address of the server itself."
    return f"{message}{advice} (HTTP status {answer.status_code})"

"""The HTTP API of a gateway, as the command line uses it."""

import os
import ssl
import time
from dataclasses import dataclass
from typing import Any
from urllib.parse import urlsplit

import httpx
import orjson
from pydantic import BaseModel, ValidationError

from rerank_api.faces import MODELS_PATH, RERANK_PATH
from rerank_cli.errors import AnswerError

KEY_VARIABLE = "RERANK_API_KEY"
"""Of the environment: the key to send. No option, because every process may read another's arguments."""

ANSWER_S = 300.0
CONNECT_S = 5.0


@dataclass(frozen=True)
class Ranked:
    """One document of an answer."""

    index: int
    """Its place in the request."""
    score: float
    text: str


@dataclass(frozen=True)
class Answer:
    """A ranking, best first."""

    model: str
    results: tuple[Ranked, ...]
    tokens: int
    seconds: float
    """From sending the request to having read the answer."""
    body: bytes
    """The answer as it came."""


@dataclass(frozen=True)
class Listed:
    """One entry of the list of models."""

    name: str
    state: str
    message: str


class _Document(BaseModel):
    text: str


class _Result(BaseModel):
    index: int
    relevance_score: float
    document: _Document | None = None


class _Usage(BaseModel):
    total_tokens: int


class _Ranking(BaseModel):
    model: str
    results: list[_Result]
    usage: _Usage


class _Model(BaseModel):
    id: str
    state: str
    message: str


class _Models(BaseModel):
    data: list[_Model]


def key() -> str:
    """Return the key to send; empty where there is none."""
    return os.environ.get(KEY_VARIABLE, "").strip()


def rank(url: str, body: dict[str, Any], trust: ssl.SSLContext | None = None) -> Answer:
    """Send a rerank request to the gateway at `url`; `trust` says which certificates are believed.

    Without it those are that the environment variable SSL_CERT_FILE names, else certifi's. Raises
    `AnswerError` with the API's own message where it answers with an error, or where it cannot be reached.
    """
    started = time.perf_counter()
    content = _send(url, "POST", RERANK_PATH, orjson.dumps(body), trust)
    seconds = time.perf_counter() - started
    try:
        ranking = _Ranking.model_validate_json(content)
    except ValidationError as error:
        raise _not_ours(url, RERANK_PATH) from error
    documents = body.get("documents")
    results = tuple(Ranked(one.index, one.relevance_score, _text(one, documents)) for one in ranking.results)
    return Answer(ranking.model, results, ranking.usage.total_tokens, seconds, content)


def models(url: str) -> tuple[Listed, ...]:
    """Return every model that the gateway at `url` knows. Raises `AnswerError` as `rank` does."""
    content = _send(url, "GET", MODELS_PATH, None)
    try:
        listed = _Models.model_validate_json(content)
    except ValidationError as error:
        raise _not_ours(url, MODELS_PATH) from error
    return tuple(Listed(model.id, model.state, model.message) for model in listed.data)


def _send(
    url: str, method: str, path: str, content: bytes | None, trust: ssl.SSLContext | None = None
) -> bytes:
    timeout = httpx.Timeout(ANSWER_S, connect=CONNECT_S)
    headers = {"content-type": "application/json"} if content is not None else {}
    if known := key():
        headers["authorization"] = f"Bearer {known}"
    try:
        verify = trust or httpx.create_ssl_context()
    except OSError as error:
        raise AnswerError(f"The certificates that SSL_CERT_FILE names cannot be read: {error}.") from error
    try:
        # A proxy of the environment is for other machines.
        with httpx.Client(timeout=timeout, trust_env=not _is_local(url), verify=verify) as client:
            answer = client.request(method, url.rstrip("/") + path, content=content, headers=headers)
    except UnicodeEncodeError as error:
        raise AnswerError(f"{KEY_VARIABLE} cannot be a key: it has signs that are not ASCII.") from error
    except (ValueError, httpx.InvalidURL, httpx.UnsupportedProtocol) as error:
        raise AnswerError(
            f"{url} is no address of a gateway: write e.g. --url http://127.0.0.1:8080."
        ) from error
    except (httpx.ReadTimeout, httpx.WriteTimeout) as error:
        raise AnswerError(f"{url} did not answer within {ANSWER_S:.0f} s.") from error
    except httpx.HTTPError as error:
        advice = "start one with `rerank up`, or say where it is with --url"
        raise AnswerError(f"No gateway answers at {url} ({error}): {advice}.") from error
    if answer.status_code == 401:
        advice = f"put your key into the environment variable {KEY_VARIABLE}"
        raise AnswerError(f"{url} does not know this key, or was sent none: {advice}.", 401)
    if answer.status_code != 200:
        raise AnswerError(_message(url, path, answer), answer.status_code)
    return answer.content


def _message(url: str, path: str, answer: httpx.Response) -> str:
    """Return the message of the one error body, else say what came instead."""
    try:
        message = answer.json()["error"]["message"]
    except (ValueError, KeyError, TypeError):
        return f"{url}{path} answered with HTTP status {answer.status_code}: is this a rerank gateway?"
    return f"{message} (HTTP status {answer.status_code})"


def _not_ours(url: str, path: str) -> AnswerError:
    return AnswerError(f"{url}{path} answered with something else than a rerank gateway does: check --url.")


def _text(result: _Result, documents: object) -> str:
    """Return a result's document, from the answer or else from the request."""
    if result.document is not None:
        return result.document.text
    sent = documents[result.index] if isinstance(documents, list) and result.index < len(documents) else ""
    return sent if isinstance(sent, str) else orjson.dumps(sent).decode()


def _is_local(url: str) -> bool:
    host = urlsplit(url).hostname or ""
    return host in {"localhost", "::1"} or host.startswith("127.")

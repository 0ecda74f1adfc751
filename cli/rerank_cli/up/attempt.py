"""`rerank up --try`: one request of the user's own, sent when the models are ready."""

import asyncio
import shlex
import ssl
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import orjson
from rich.text import Text

from rerank_api.faces import RERANK_PATH
from rerank_api.status import ModelState
from rerank_cli import client
from rerank_cli.errors import AnswerError, StartError
from rerank_cli.ranking import ranking_table
from rerank_cli.up.standing import Standing
from rerank_cli.up.view import View
from rerank_cli.up.world import Version


@dataclass(frozen=True)
class Attempt:
    """The body of a rerank request, and the file that it came from."""

    file: Path
    body: dict[str, Any]

    @property
    def model(self) -> str:
        """The public name that is asked for."""
        return str(self.body["model"])

    def is_due(self, models: tuple[Standing, ...]) -> bool:
        """Say whether its model is ready, and no other is still on its way to be."""
        asked = any(self.model in one.names and one.state is ModelState.READY for one in models)
        return asked and all(one.settled for one in models)

    async def make(self, url: str, view: View, certificate: Path | None = None) -> None:
        """Send it through the gateway at `url`; show the ranking, and how to repeat the request.

        `certificate` is the file with the gateway's own, which is trusted whatever name it is for.
        """
        try:
            trust = None if certificate is None else _trusting(certificate)
            answer = await asyncio.to_thread(client.rank, url, self.body, trust)
        except OSError as error:
            view.warn(f"{certificate}: {error.strerror}: the request is not sent.")
            return
        except AnswerError as error:
            view.warn(f"{self.file}: {error}")
            return
        view.print(ranking_table(answer))
        file, target = shlex.quote(f"@{self.file}"), shlex.quote(url + RERANK_PATH)
        key = f' -H "Authorization: Bearer ${client.KEY_VARIABLE}"' if client.key() else ""
        insecure = "" if certificate is None else " --insecure"
        view.print(
            Text(f"Again: curl -sS{insecure} {target}{key} -H 'Content-Type: application/json' -d {file}")
        )


def _trusting(certificate: Path) -> ssl.SSLContext:
    context = ssl.create_default_context(cafile=certificate)
    context.verify_flags |= ssl.VERIFY_X509_PARTIAL_CHAIN  # it need not be an authority's
    context.check_hostname = False  # it is for what others call this machine
    return context


def read_attempt(file: Path) -> Attempt:
    """Read a request from a JSON file. Raises `StartError` where it is none."""
    try:
        body = orjson.loads(file.read_bytes())
    except OSError as error:
        raise StartError(
            f"--try {file}: {error.strerror}: give a file with the JSON body of a request."
        ) from error
    except orjson.JSONDecodeError as error:
        raise StartError(f"--try {file} is not JSON: {error}.") from error
    if not isinstance(body, dict) or not isinstance(body.get("model"), str):
        raise StartError(f'--try {file}: give an object with "model", "query" and "documents".')
    return Attempt(file, body)


def require_key(attempt: Attempt) -> None:
    """Raise `StartError` where a gateway that asks for keys would refuse the request."""
    if not client.key():
        raise StartError(
            f"--try {attempt.file}: the gateway asks for a key: put one of a consumer into the environment "
            f"variable {client.KEY_VARIABLE}, or start without --try."
        )


def refuse_unknown_model(attempt: Attempt, versions: tuple[Version, ...]) -> None:
    """Raise `StartError` where no manifest has the model that is asked for."""
    known = sorted(name for version in versions for name in version.names)
    if attempt.model not in known:
        names = ", ".join(known)
        raise StartError(
            f"--try {attempt.file}: no manifest has the model `{attempt.model}`; there is: {names}."
        )

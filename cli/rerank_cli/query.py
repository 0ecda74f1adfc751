"""`rerank query`: ask a gateway for a ranking."""

import sys
from collections.abc import Sequence
from dataclasses import dataclass

from rich.console import Console

from rerank_cli import client
from rerank_cli.errors import AnswerError, UsageError
from rerank_cli.ranking import ranking_table

STDIN = "-"
READY = {"Ready", "Degraded"}


@dataclass(frozen=True)
class Query:
    """What to ask, and whom."""

    query: str
    documents: Sequence[str]
    url: str
    model: str | None = None
    top_n: int | None = None


def run(asked: Query, *, as_json: bool) -> None:
    """Ask, and print the ranking as a table or the answer as it came."""
    documents = with_stdin(asked.documents)
    body: dict[str, object] = {
        "model": asked.model or only_model(client.models(asked.url)),
        "query": asked.query,
        "documents": documents,
    }
    if asked.top_n is not None:
        body["top_n"] = asked.top_n
    answer = client.rank(asked.url, body)
    if as_json:
        sys.stdout.write(answer.body.decode() + "\n")
    else:
        Console().print(ranking_table(answer))


def with_stdin(documents: Sequence[str]) -> list[str]:
    """Put the lines of standard input, without empty ones, in the place of `-` or of no documents."""
    if documents.count(STDIN) > 1:
        raise UsageError("- stands for standard input, which can be read once: give it once.")
    found: list[str] = []
    for document in documents or (STDIN,):
        if document == STDIN:
            found += [line for line in sys.stdin.read().splitlines() if line.strip()]
        else:
            found.append(document)
    if not found:
        raise UsageError("There are no documents to rank: give them after the query, or one a line with -.")
    return found


def only_model(listed: Sequence[client.Listed]) -> str:
    """Return the only model that takes requests; raise `AnswerError` where that is no choice."""
    ready = [model.name for model in listed if model.state in READY]
    if len(ready) == 1:
        return ready[0]
    if ready:
        raise AnswerError(
            f"Several models are ready: say which one with --model: {', '.join(sorted(ready))}."
        )
    if not listed:
        raise AnswerError("The gateway has no models: add a manifest to those that `rerank up` was given.")
    states = "".join(f"\n    {model.name}: {model.state}: {model.message}" for model in listed)
    raise AnswerError(f"No model is ready:{states}")

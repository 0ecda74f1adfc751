"""What an API server answers when it refuses, as a sentence: what is wrong, where, what to do. Pure."""

import json
from typing import Any

from rerank_cli.errors import ClusterError

_NO_CRD = (
    "knows no RerankConsumers: install the chart there, which brings them (docs/install.md), or choose "
    "another cluster with --context."
)
_RIGHTS = (
    "Have a Role bound to you that allows what docs/keys.md names, or choose another --context or "
    "--namespace."
)
_LOG_IN = "does not accept these credentials: log in to the cluster again, or choose another --context."


def refused(server: str, status: int, body: bytes) -> ClusterError:
    """Return the error that an answer other than 2xx stands for; `server` begins the sentence."""
    told = _status(body)
    reason, message = str(told.get("reason") or ""), _sentence(str(told.get("message") or ""))
    if status == 401:
        sentence = f"{server} {_LOG_IN}"
    elif status == 403:
        # Quotas, admission and namespaces that end are 403 too; of rights RBAC speaks in these words.
        sentence = f"{server} refuses: {message}" + (f" {_RIGHTS}" if " cannot " in message else "")
    elif status == 404 and not told:
        sentence = f"{server} {_NO_CRD}"
    elif status == 404 and _kind(told) == "namespaces":
        sentence = f"{server} refuses: {message} Create the namespace, or choose another with --namespace."
    elif status == 429 or status >= 500:
        sentence = f"{server} answers {status}: {message or 'no reason given.'} Try again later."
    else:
        sentence = f"{server} refuses ({status}): {message or 'no reason given.'}"
    return ClusterError(sentence, status, reason)


def unanswered(server: str, words: str) -> ClusterError:
    """Return the error for a request that nobody answered."""
    return ClusterError(
        f"{server} does not answer: {words}. Check that it runs and that this machine reaches it, or choose "
        "another cluster with --context or --kubeconfig."
    )


def _status(body: bytes) -> dict[str, Any]:
    """Read a `Status`; nothing where the answer is another one, as for a path that is not served."""
    try:
        told = json.loads(body)
    except ValueError:
        return {}
    return told if isinstance(told, dict) and told.get("kind") == "Status" else {}


def _kind(told: dict[str, Any]) -> object:
    details = told.get("details")
    return details.get("kind") if isinstance(details, dict) else None


def _sentence(message: str) -> str:
    message = " ".join(message.split())
    return message if not message or message.endswith(".") else f"{message}."

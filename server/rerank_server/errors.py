"""What can go wrong in a server, as one tree::

ServerError                  the base; its text is a sentence for a person
├── SourceError              the model's files cannot be had (`rerank_server.sources`)
├── LoadError                the checkpoint or its settings cannot be served
├── InputError               a request cannot be scored as it is; `param` names the field
├── ComputeError             the model failed on a request, or gave a number that is none
├── OverloadedError          the queue is full; `refusal` says which bound, and when to come back
└── ClosedError              the server is shutting down and takes no more requests
"""

from rerank_server.admission import Refusal


class ServerError(Exception):
    """Base of everything that this package raises on purpose: what is wrong, where, and what to do."""


class LoadError(ServerError):
    """A checkpoint, or what the manifest asks of it, that cannot be served."""


class InputError(ServerError):
    """A request that cannot be scored as it is.

    `param` is the field to blame, in the words of `Reranker.score`: `query`, `documents[3]`, or
    `max_document_tokens`.
    """

    def __init__(self, message: str, param: str) -> None:
        super().__init__(message)
        self.param = param


class ComputeError(ServerError):
    """The model failed while it computed, or its result is not a finite number."""


class OverloadedError(ServerError):
    """A request that may not wait: nothing was done for it."""

    def __init__(self, refusal: Refusal) -> None:
        super().__init__(refusal.message)
        self.refusal = refusal


class ClosedError(ServerError):
    """No more requests are taken."""

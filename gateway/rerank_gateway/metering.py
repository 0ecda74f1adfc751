"""Who has used what: a ledger that adds up requests, documents and tokens. Pure."""

from collections import Counter
from collections.abc import Collection, Iterator, Mapping
from dataclasses import dataclass, field

from rerank_gateway.clusters import host_of
from rerank_gateway.models import ServedModel


@dataclass(frozen=True)
class Use:
    """One request as Envoy tells of it: once it was answered, and while it goes on."""

    consumer: str
    """As Envoy names it; whatever it says where no consumer is known."""
    model: str
    """The public name that the request was routed by; empty where it named none."""
    status: int
    """0 where the caller went away before there was one."""
    documents: int = 0
    tokens: int = 0
    host: str = ""
    """As the caller wrote it: where a request names no model, the host may have one of its own."""
    served_by: str = ""
    """The RerankModel whose replica it was sent to, where several share the name."""
    sent: bool = False
    """Whether it was sent to a replica."""
    ended: bool = True
    """Whether this is the last word of it."""
    counts: bool = True
    """Whether this word counts as one of the consumer's requests: one word of each that no limit refused."""


@dataclass(frozen=True, order=True)
class Account:
    """What uses are added up under: few, whatever callers send."""

    consumer: str
    model: str
    status: str
    """A class as `2xx`; `none` where no answer was begun."""
    served_by: str = ""
    """The RerankModel that answered; of a name that several share, whichever it was."""


@dataclass
class Sums:
    """What an account has come to since the agent started."""

    requests: int = 0
    documents: int = 0
    tokens: int = 0


@dataclass
class Ledger:
    """Everything that was used, by account."""

    sums: dict[Account, Sums] = field(default_factory=dict)

    def add(
        self,
        use: Use,
        consumers: Collection[str],
        models: Mapping[str, ServedModel],
        hosts: Mapping[str, ServedModel],
    ) -> None:
        """Count one use. A consumer or a model that is not known counts as the empty one.

        Of an answer that names no model, the host's model has ranked its documents. A name that nobody shares
        is answered by the model that has it.
        """
        model = use.model
        if not model and use.documents and (served := hosts.get(host_of(use.host))) is not None:
            model = served.name
        account = Account(
            use.consumer if use.consumer in consumers else "",
            model if model in models else "",
            status_class(use.status),
            use.served_by or (models[model].model if use.sent and model in models else ""),
        )
        sums = self.sums.setdefault(account, Sums())
        sums.requests += 1
        sums.documents += use.documents
        sums.tokens += use.tokens

    def used(self) -> Iterator[tuple[tuple[str, str, str], int, int]]:
        """Yield consumer, model and who answered, then documents and tokens, whatever the status."""
        documents: Counter[tuple[str, str, str]] = Counter()
        tokens: Counter[tuple[str, str, str]] = Counter()
        for account, sums in self.sums.items():
            user = account.consumer, account.model, account.served_by
            documents[user] += sums.documents
            tokens[user] += sums.tokens
        for user in sorted(documents):
            yield user, documents[user], tokens[user]

    def requests(self) -> Mapping[Account, int]:
        """Return how many requests there were, by account, sorted."""
        return {account: self.sums[account].requests for account in sorted(self.sums)}


def status_class(status: int) -> str:
    """Write 200 as `2xx`, and what is no status as `none`."""
    return f"{status // 100}xx" if 100 <= status <= 599 else "none"

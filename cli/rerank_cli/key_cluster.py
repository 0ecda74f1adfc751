"""Consumers and their keys in a namespace of a cluster. What others changed meanwhile is not overwritten."""

from collections.abc import Sequence

from rerank_cli import key_records
from rerank_cli.errors import CliError, ClusterError
from rerank_cli.key_objects import Consumer, Held, KeyOfConsumer, Manifest, new_secret
from rerank_cli.key_records import Record
from rerank_cli.kubernetes_api import KubernetesApi


class KeyCluster:
    """The RerankConsumers of a namespace and the Secrets that they name. No other Secret is read."""

    def __init__(self, api: KubernetesApi, options: str) -> None:
        """Act on the API's namespace; `options` has another command act there."""
        self._api, self._options = api, options
        self._consumers_path = f"/apis/rerank.dev/v1alpha1/namespaces/{api.namespace}/rerankconsumers"
        self._secrets_path = f"/api/v1/namespaces/{api.namespace}/secrets"
        self._consumers: dict[str, Record] = {}
        self._secrets: dict[str, Record | None] = {}

    @property
    def place(self) -> str:
        """The namespace and its API server."""
        return f"namespace {self._api.namespace} of {self._api.url}"

    @property
    def options(self) -> str:
        """What names the namespace to a command."""
        return self._options

    def consumers(self) -> tuple[Consumer, ...]:
        """Return the consumers by name."""
        listed = self._api.request("GET", self._consumers_path)["items"]
        self._consumers = {raw["metadata"]["name"]: raw for raw in listed}
        read = (key_records.read_consumer(self._consumers[name]) for name in sorted(self._consumers))
        return tuple(consumer for consumer in read if consumer is not None)

    def held(self, consumer: Consumer) -> Held:
        """Return what a consumer's Secret holds; nothing where there is none."""
        return key_records.read_held(self._secret(consumer))

    def add_consumer(self, secret: Manifest, consumer: Manifest) -> None:
        """Create a Secret, then the consumer: so it never has a key of a Secret that was there already."""
        name = consumer["metadata"]["name"]
        made = self._create(self._secrets_path, secret)
        try:
            self._create(self._consumers_path, consumer)
        except CliError as error:
            try:
                self._delete(self._secrets_path, made)
            except ClusterError as another:
                raise ClusterError(
                    f"{error} The Secret {name!r} was made before that and stays, because it could not be "
                    f"deleted again: {another}"
                ) from error
            raise

    def add_key(self, consumer: Consumer, field: str, digest: str) -> None:
        """Add a key to a consumer's Secret; where there is none, make one."""
        secret = self._secret(consumer)
        if secret is None:
            self._create(self._secrets_path, new_secret(consumer.secret, digest), "run the command again")
            return
        if why := key_records.why_no_key_counts(secret):
            raise CliError(f"The Secret {consumer.secret!r} in {self.place} {why}.")
        self._patch(consumer, key_records.adding(secret, field, digest))

    def remove_keys(self, consumer: Consumer, keys: Sequence[KeyOfConsumer]) -> None:
        """Remove some keys from a consumer's Secret."""
        secret = self._secret(consumer)
        if secret is not None:
            self._patch(consumer, key_records.removing(secret, keys))

    def remove_consumer(self, consumer: Consumer, sharing: Sequence[str]) -> str:
        """Delete a consumer, then its Secret if that is nobody else's; say what stays."""
        owner, secret = self._consumers[consumer.name], self._secret(consumer)
        try:
            self._delete(self._consumers_path, owner)
        except ClusterError as error:
            raise self._quicker(error, f"RerankConsumer {consumer.name!r}") from error
        if secret is None:
            return ""
        if why := key_records.why_it_stays(secret, owner, consumer, sharing):
            return why
        try:
            self._delete(self._secrets_path, secret)
        except ClusterError as error:
            if error.status == 404:  # as was to be
                return ""
            raise ClusterError(
                f"{consumer.name} is gone from {self.place}, so none of its keys counts; its Secret stays. "
                f"{self._quicker(error, f'Secret {consumer.secret!r}')} "
                f"`kubectl delete -n {self._api.namespace} secret/{consumer.secret}` deletes it."
            ) from error
        return ""

    def _secret(self, consumer: Consumer) -> Record | None:
        """Return a consumer's Secret as it was when it was first read."""
        name = consumer.secret
        if name not in self._secrets:
            self._secrets[name] = self._read(name) if key_records.can_exist(name) else None
        return self._secrets[name]

    def _read(self, secret: str) -> Record | None:
        try:
            return self._api.request("GET", f"{self._secrets_path}/{secret}")
        except ClusterError as error:
            if error.status == 404:
                return None
            raise

    def _create(self, path: str, manifest: Manifest, advice: str = "choose another name") -> Record:
        try:
            return self._write("POST", path, manifest)
        except ClusterError as error:
            if error.reason != "AlreadyExists":
                raise
            name = f"{manifest['kind']} {manifest['metadata']['name']!r}"
            raise CliError(f"{self.place} has a {name} already, which stays as it is: {advice}.") from error

    def _patch(self, consumer: Consumer, patch: Manifest) -> None:
        try:
            self._write("PATCH", f"{self._secrets_path}/{consumer.secret}", patch)
        except ClusterError as error:
            raise self._quicker(error, f"Secret {consumer.secret!r}") from error

    def _delete(self, path: str, raw: Record) -> None:
        body = {"preconditions": key_records.version(raw)}
        self._write("DELETE", f"{path}/{raw['metadata']['name']}", body)

    def _write(self, method: str, path: str, body: Manifest) -> Record:
        try:
            return self._api.request(method, path, body)
        except ClusterError as error:
            if error.status is not None:
                raise
            raise ClusterError(
                f"{error} Whether it was done nevertheless is not known: `rerank key list {self.options}` "
                "shows it."
            ) from error

    def _quicker(self, error: ClusterError, what: str) -> ClusterError:
        """Say of a conflict what it means; return any other error as it is."""
        if error.status not in (404, 409):
            return error
        return ClusterError(
            f"The {what} in {self.place} was changed by somebody else just now, and is left as it is: "
            "look at it, then run the command again.",
            error.status,
            error.reason,
        )

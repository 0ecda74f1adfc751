"""Where `rerank key` finds consumers: in a file, or in a namespace of a cluster."""

import contextlib
import shlex
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path

from rerank_api.names import is_consumer_name
from rerank_cli.errors import CliError, UsageError
from rerank_cli.key_file import KeyFile
from rerank_cli.keys import Keys

DEFAULT_FILE = Path("consumers.yaml")


@dataclass(frozen=True)
class Place:
    """What the options say."""

    file: Path | None = None
    kubernetes: bool = False
    namespace: str | None = None
    context: str | None = None
    kubeconfig: Path | None = None

    @contextlib.contextmanager
    def keys(self) -> Iterator[Keys]:
        """Return the keys there. Raises `UsageError` for options that do not go together, and `CliError`."""
        self._check()
        if not self.kubernetes:
            yield KeyFile(self.file or DEFAULT_FILE)
            return
        try:
            from rerank_cli.kubernetes_api import KubernetesApi
        except ModuleNotFoundError as error:
            raise CliError(
                f"--kubernetes needs the Python package {error.name}, which is not installed: "
                "in a checkout, pip install '.[operator]'."
            ) from error
        from rerank_cli.key_cluster import KeyCluster

        with KubernetesApi(self.kubeconfig, self.context, self.namespace) as api:
            yield KeyCluster(api, self._options(api.namespace))

    def _check(self) -> None:
        cluster = {
            "--namespace": self.namespace, "--context": self.context, "--kubeconfig": self.kubeconfig
        }  # fmt: skip
        given = [option for option, value in cluster.items() if value is not None]
        if given and not self.kubernetes:
            raise UsageError(f"{given[0]} says where in a cluster: give --kubernetes too.")
        if self.kubernetes and self.file is not None:
            raise UsageError("give --file or --kubernetes, not both.")
        if self.namespace is not None and not is_consumer_name(self.namespace):
            raise UsageError(f"--namespace {self.namespace!r} is no name of a namespace.")

    def _options(self, namespace: str) -> str:
        """Return the options that have another command act there, whatever becomes the current context."""
        words = ["--kubernetes", "--namespace", namespace]
        if self.context is not None:
            words += ["--context", self.context]
        if self.kubeconfig is not None:
            words += ["--kubeconfig", str(self.kubeconfig)]
        return shlex.join(words)

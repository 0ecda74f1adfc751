"""The edge to a cluster: a kubeconfig's credentials, and HTTP. The one module that imports `kubernetes`."""

import json
import os
from pathlib import Path
from types import TracebackType
from typing import Any, TypeAlias

import urllib3
import yaml
from kubernetes.client import ApiClient, Configuration
from kubernetes.client.exceptions import ApiException
from kubernetes.config import ConfigException
from kubernetes.config.kube_config import KubeConfigLoader, KubeConfigMerger

from rerank_cli.cluster_errors import refused, unanswered
from rerank_cli.errors import CliError

FIELD_MANAGER = "rerank-key"
_DEFAULT_KUBECONFIG = "~/.kube/config"
_CONNECT_S, _READ_S = 5.0, 30.0
_MERGE_PATCH = "application/merge-patch+json"

Json: TypeAlias = dict[str, Any]


class KubernetesApi:
    """A connection to one API server, and a namespace there."""

    def __init__(
        self, kubeconfig: Path | None = None, context: str | None = None, namespace: str | None = None
    ) -> None:
        """Take a context of a kubeconfig: the current one, of KUBECONFIG or ~/.kube/config, unless given.

        Without a namespace it is the context's, else `default`. Raises `CliError`.
        """
        files = str(kubeconfig or os.environ.get("KUBECONFIG") or _DEFAULT_KUBECONFIG)
        configuration = Configuration()
        # What was sent twice may have been done twice; and False has errors come as they are.
        configuration.retries = False
        try:
            # The client has types for its models only.
            merged = KubeConfigMerger(files).config  # type: ignore[no-untyped-call]
            if merged is None:
                raise CliError(
                    f"No cluster is known: there is no {files}. Name a kubeconfig with --kubeconfig or "
                    "KUBECONFIG."
                )
            loader = KubeConfigLoader(  # type: ignore[no-untyped-call]
                merged, active_context=context, config_base_path=None
            )
            loader.load_and_set(configuration)  # type: ignore[no-untyped-call]
            chosen = loader.current_context["context"]
            self.namespace = str(namespace or chosen.get("namespace") or "default")
            self.url = configuration.host
            self._client = ApiClient(configuration)
        except (
            ConfigException, yaml.YAMLError, OSError, AttributeError, KeyError, TypeError, ValueError
        ) as error:  # fmt: skip
            # Whatever a file that is no kubeconfig makes its reader trip over.
            raise CliError(f"{files} cannot be used: {error}. Check --kubeconfig and --context.") from error

    def __enter__(self) -> "KubernetesApi":
        """Have the connections closed at the end."""
        return self

    def __exit__(
        self,
        kind: type[BaseException] | None,
        error: BaseException | None,
        traceback: TracebackType | None,
    ) -> None:
        """Close the connections."""
        self._client.close()  # type: ignore[no-untyped-call]

    def request(self, method: str, path: str, body: Json | None = None) -> Json:
        """Ask for a path; return the JSON of the answer. A PATCH is a merge patch. Raises `ClusterError`."""
        server = f"The API server {self.url}"
        query, content = [], "application/json"
        if method in ("POST", "PATCH"):
            query.append(("fieldManager", FIELD_MANAGER))
            query.append(("fieldValidation", "Strict"))
        if method == "PATCH":
            content = _MERGE_PATCH
        try:
            method, url, headers, sent, _ = self._client.param_serialize(
                method,
                path,
                query_params=query,
                header_params={"Accept": "application/json", "Content-Type": content},
                body=body,
                auth_settings=["BearerToken"],
            )
            answer = self._client.call_api(
                method, url, header_params=headers, body=sent, _request_timeout=(_CONNECT_S, _READ_S)
            )
            said: bytes = answer.read()  # type: ignore[no-untyped-call]
        except (urllib3.exceptions.HTTPError, ApiException, OSError) as error:
            raise unanswered(server, _words(error)) from error
        if not 200 <= answer.status < 300:
            raise refused(server, answer.status, said)
        try:
            told = json.loads(said)
        except ValueError as error:
            raise unanswered(server, "what comes is no JSON, so something else is at this address") from error
        return dict(told)


def _words(error: Exception) -> str:
    """Say why nobody answered, without the names of the client's own objects."""
    if isinstance(error, ApiException):  # TLS: the name of the exception, and below it its words
        return str(error.reason).splitlines()[-1]
    cause = error.__cause__
    if isinstance(cause, OSError) and cause.strerror:
        return cause.strerror
    if isinstance(error, urllib3.exceptions.TimeoutError):  # which a refused connection is too
        return "nothing came in time"
    return str(error) or type(error).__name__

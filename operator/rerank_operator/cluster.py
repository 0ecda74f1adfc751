"""The one edge to the API server: reads, server-side apply, deletion. Nothing is decided here."""

import json
from collections.abc import Awaitable, Callable, Mapping, Sequence
from pathlib import Path
from typing import Any, TypeVar

import aiohttp
from kubernetes.aio import client, config
from kubernetes.aio.client.exceptions import ApiException

from rerank_operator.errors import ClusterError, ConflictError, EndingError
from rerank_operator.keys import CORE_EVENT, EVENT, KINDS, Key, Kind, Manifest

FIELD_MANAGER = "rerank-operator"
REQUEST_S = 30.0

_SERVICE_ACCOUNT = Path("/var/run/secrets/kubernetes.io/serviceaccount/token")

Result = TypeVar("Result")


class Cluster:
    """A connection to the API server. Every method raises `ClusterError` if it is refused or not reached."""

    def __init__(self, api: client.ApiClient) -> None:
        self.api = api

    @classmethod
    async def connect(cls, *, connections: int) -> "Cluster":
        """Use the pod's service account, or a kubeconfig where there is none."""
        settings = client.Configuration()
        # The client has types for its models only.
        if _in_a_pod():
            config.load_incluster_config(client_configuration=settings)  # type: ignore[no-untyped-call]
        else:
            await config.load_kube_config(client_configuration=settings)  # type: ignore[no-untyped-call]
        settings.connection_pool_maxsize = connections
        return cls(client.ApiClient(settings))

    async def close(self) -> None:
        """Close the connections."""
        await self.api.close()  # type: ignore[no-untyped-call]

    async def get(self, kind: Kind, place: Key) -> Manifest | None:
        """Read an object; None where there is none."""
        try:
            return await self._request("GET", kind.path(*place), f"read {kind.kind} {place}")
        except ClusterError as error:
            if error.status == 404:
                return None
            raise

    async def list(self, kind: Kind, namespace: str | None, label: str | None) -> tuple[list[Manifest], int]:
        """Read all objects of a kind, of one namespace or of all, where a label is given only those that have
        it; return them with the resource version of the list."""
        query = {} if label is None else {"labelSelector": label}
        found = await self._request("GET", kind.path(namespace), f"list {kind.plural}", query=query)
        items: list[Manifest] = [
            {"apiVersion": kind.api_version, "kind": kind.kind, **item} for item in found["items"]
        ]
        return items, int(found["metadata"]["resourceVersion"])

    async def apply(self, manifest: Manifest) -> Manifest:
        """Have an object be as it is wanted, whoever wrote those fields last; return it as it is now."""
        kind, place = KINDS[manifest["kind"]], _place(manifest)
        return await self._apply(kind.path(*place), manifest, f"apply {kind.kind} {place}")

    async def apply_status(self, seen: Manifest, status: Mapping[str, Any]) -> Manifest:
        """Replace our part of an object's status, if it is still the one that was seen."""
        kind, place = KINDS[seen["kind"]], _place(seen)
        manifest = {
            "apiVersion": kind.api_version,
            "kind": kind.kind,
            "metadata": {
                "name": place.name,
                "namespace": place.namespace,
                "uid": seen["metadata"]["uid"],
            },
            "status": status,
        }
        return await self._apply(
            f"{kind.path(*place)}/status", manifest, f"write the status of {kind.kind} {place}"
        )

    async def delete(self, kind: Kind, manifest: Manifest) -> None:
        """Delete an object, if it is still the one that was seen; that it is gone already is fine."""
        place = _place(manifest)
        body = {"preconditions": {"uid": manifest["metadata"]["uid"]}}
        try:
            await self._request("DELETE", kind.path(*place), f"delete {kind.kind} {place}", body=body)
        except ClusterError as error:
            if error.status != 404:
                raise

    async def warnings(self, pod: Key, uid: str) -> Sequence[Manifest]:
        """Return the complaints about a pod that are recorded, the newest last."""
        query = {"fieldSelector": f"involvedObject.uid={uid},type=Warning"}
        what = f"read the events of Pod {pod}"
        found = await self._request("GET", CORE_EVENT.path(pod.namespace), what, query=query)
        return sorted(found["items"], key=_last_seen)

    async def tell(self, event: Manifest) -> None:
        """Record an event; one of the same name says the same and is kept."""
        try:
            await self._request(
                "POST", EVENT.path(event["metadata"]["namespace"]), "record an event", body=event
            )
        except ConflictError:
            return

    async def _apply(self, path: str, manifest: Manifest, what: str) -> Manifest:
        query = {"fieldManager": FIELD_MANAGER, "force": "true", "fieldValidation": "Strict"}
        return await self._request(
            "PATCH", path, what, query=query, body=manifest, content_type="application/apply-patch+yaml"
        )

    async def _request(
        self,
        method: str,
        path: str,
        what: str,
        *,
        query: Mapping[str, str] | None = None,
        body: Manifest | None = None,
        content_type: str = "application/json",
    ) -> Manifest:
        async def send() -> Manifest:
            request = await self.api.param_serialize(
                method,
                path,
                header_params={"Content-Type": content_type, "Accept": "application/json"},
                query_params=list((query or {}).items()),
                body=body,
                auth_settings=["BearerToken"],
            )
            answer = await self.api.call_api(*request, _request_timeout=REQUEST_S)
            content = await answer.read()  # type: ignore[no-untyped-call]
            if answer.status >= 300:
                raise _refusal(what, answer.status, content)
            found: Manifest = json.loads(content)
            return found

        return await translated(what, send)


async def translated(what: str, request: Callable[[], Awaitable[Result]]) -> Result:
    """Run a request to the API server; whatever goes wrong with it becomes a `ClusterError`."""
    try:
        return await request()
    except ApiException as error:
        raise _refusal(what, error.status or 0, (error.body or "").encode()) from error
    except (TimeoutError, aiohttp.ClientError, OSError) as error:
        detail = str(error) or type(error).__name__
        raise ClusterError(what, 0, f"the API server cannot be reached: {detail}") from error
    except ValueError as error:
        raise ClusterError(what, 0, f"the API server's answer is not JSON: {error}") from error


def _refusal(what: str, status: int, content: bytes) -> ClusterError:
    try:
        answer = json.loads(content)
        reason = str(answer["message"])
        causes = [cause.get("reason") for cause in (answer.get("details") or {}).get("causes") or ()]
    except (ValueError, KeyError, TypeError, AttributeError):
        reason, causes = content[:200].decode(errors="replace") or f"HTTP {status}", []
    if status == 500 and "typed patch object" in reason:
        status = (
            422  # server-side apply answers so for what does not fit the schema, as two mounts at one path
        )
    if "NamespaceTerminating" in causes:
        return EndingError(what, status, reason)
    return (ConflictError if status == 409 else ClusterError)(what, status, reason)


def _last_seen(event: Manifest) -> str:
    return str(event.get("lastTimestamp") or event.get("eventTime") or "")


def _in_a_pod() -> bool:
    return _SERVICE_ACCOUNT.exists()


def _place(manifest: Manifest) -> Key:
    return Key(manifest["metadata"]["namespace"], manifest["metadata"]["name"])

"""The edge to the Kubernetes API: credentials and HTTP. The one module that imports `kubernetes`."""

import asyncio
import contextlib
from collections.abc import AsyncIterator, Mapping
from pathlib import Path

import aiohttp
import orjson
import yaml
from kubernetes.aio.client import ApiClient, Configuration
from kubernetes.aio.config import ConfigException, load_incluster_config, load_kube_config

from rerank_gateway.errors import KubernetesError, RefusedError, SilentError

_CONNECT_S = 5.0
_BEGIN_S = 20.0
"""For the first word of an answer: one that hangs is found out long before its body would have ended."""
_LONGEST_REASON = 64 * 1024


class KubernetesApi:
    """Asks one API server. Credentials are read anew for each request: they are rotated on disk."""

    def __init__(self, kubeconfig: Path | None = None) -> None:
        """Use a kubeconfig's current context, or without one the service account of this pod."""
        self._kubeconfig = kubeconfig

    @contextlib.asynccontextmanager
    async def get(
        self, path: str, query: Mapping[str, str], limit_s: float
    ) -> AsyncIterator[AsyncIterator[bytes]]:
        """Get a path; give the body in parts, as they come.

        Raises `RefusedError` for an answer other than 200, `SilentError` when the body has not ended after
        `limit_s` seconds, and `KubernetesError` when nobody answers or the connection breaks.
        """
        limits = aiohttp.ClientTimeout(total=limit_s, sock_connect=_CONNECT_S)
        async with contextlib.AsyncExitStack() as stack:
            try:
                async with asyncio.timeout(_BEGIN_S):
                    client = await stack.enter_async_context(ApiClient(await self._configuration()))
                    answer = await stack.enter_async_context(await _ask(client, path, query, limits))
                    stack.callback(_abort, answer)
                    if answer.status != 200:
                        raise await _refusal(answer)
            except (aiohttp.ClientError, OSError) as error:  # a TimeoutError is an OSError
                raise KubernetesError(_words(error)) from error
            yield _parts(answer, limit_s)

    async def _configuration(self) -> Configuration:
        configuration = Configuration()
        try:
            # The client has types for its models only.
            if self._kubeconfig is None:
                load_incluster_config(configuration)  # type: ignore[no-untyped-call]
            else:
                await load_kube_config(  # type: ignore[no-untyped-call]
                    str(self._kubeconfig), client_configuration=configuration, persist_config=False
                )
        except ConfigException as error:
            raise KubernetesError(f"there are no credentials: {error}") from error
        except (yaml.YAMLError, AttributeError, KeyError, TypeError, ValueError) as error:
            # Whatever a file that is just being written makes its reader trip over.
            raise KubernetesError(f"{self._kubeconfig} is no kubeconfig: {error}") from error
        return configuration


async def _ask(
    client: ApiClient, path: str, query: Mapping[str, str], limits: aiohttp.ClientTimeout
) -> aiohttp.ClientResponse:
    method, url, headers, _, _ = await client.param_serialize(
        "GET",
        path,
        query_params=list(query.items()),
        header_params={"Accept": "application/json"},
        auth_settings=["BearerToken"],
    )
    answer = await client.call_api(method, url, header_params=headers, _request_timeout=limits)
    response: aiohttp.ClientResponse = answer.response
    return response


def _abort(answer: aiohttp.ClientResponse) -> None:
    """End a connection whose answer is not over: who has fallen silent takes no part in a polite end."""
    if answer.connection is not None and answer.connection.transport is not None:
        answer.connection.transport.abort()


async def _parts(answer: aiohttp.ClientResponse, limit_s: float) -> AsyncIterator[bytes]:
    try:
        async for part in answer.content.iter_any():
            yield part
    except TimeoutError:
        raise SilentError(f"the answer did not end within {limit_s:g} s") from None
    except (aiohttp.ClientError, OSError) as error:
        raise KubernetesError(_words(error)) from error


async def _refusal(answer: aiohttp.ClientResponse) -> RefusedError:
    """Return what the API server says in its `Status`, or whatever stands between it and us."""
    body = await answer.content.read(_LONGEST_REASON)
    try:
        message = orjson.loads(body)["message"]
    except (orjson.JSONDecodeError, KeyError, TypeError):
        message = answer.reason or "no reason given"
    return RefusedError(answer.status, str(message))


def _words(error: Exception) -> str:
    if isinstance(error, TimeoutError):
        return "the API server does not answer"
    if isinstance(error, aiohttp.ClientConnectorError):  # its own words differ each time
        return f"no connection to {error.host}:{error.port}: {error.os_error.strerror}"
    return str(error) or type(error).__name__

"""What went wrong between this server and a model hub, in sentences that name the place and the remedy.

`explain` has one sentence for each kind of failure; for an HTTP answer the kind is its error class, then its
status. No sentence holds the token, a query string (signed addresses have secrets there) or a body.
"""

import errno
import re
from collections.abc import Callable, Mapping
from dataclasses import dataclass, field
from functools import singledispatch
from urllib.parse import urlsplit

from httpx2 import HTTPError, InvalidURL, TransportError
from huggingface_hub.errors import (
    DisabledRepoError,
    FileMetadataError,
    GatedRepoError,
    HfHubHTTPError,
    HFValidationError,
    LocalEntryNotFoundError,
    OfflineModeIsEnabled,
    RepositoryNotFoundError,
    RevisionNotFoundError,
)

from rerank_server.sources.interface import SourceError

HUB_FAILURES = (HTTPError, InvalidURL, OSError, ValueError, RuntimeError, TypeError, KeyError)
"""What huggingface_hub raises. The last two: it builds its types from whatever JSON an endpoint answers."""

_RATE_LIMIT_RESET = re.compile(r";\s*r\s*=\s*0\s*;\s*t\s*=\s*(\d+)")
"""Nothing remaining, and the seconds until that changes (draft-ietf-httpapi-ratelimit-headers-09)."""

_WHERE_TO_SET_IT = "(spec.source.huggingFace.tokenSecret, or HF_TOKEN where a server is started by hand)"


@dataclass(frozen=True)
class HubRequest:
    """A model on a hub, and with what right it is asked for."""

    repo: str
    revision: str
    endpoint: str
    """The hub's address, as `https://hub.example.org`."""
    token: str | None = field(repr=False)

    @property
    def hub(self) -> str:
        """Return the hub's address without what a URL may hold of secrets."""
        parts = urlsplit(self.endpoint)
        return f"{parts.scheme}://{parts.netloc.rpartition('@')[2]}{parts.path}"

    @property
    def model(self) -> str:
        """Return what is asked for, in words."""
        return f"{self.repo} at revision {self.revision}"

    @property
    def token_used(self) -> str:
        """Return which token was used, in words."""
        return "the given token does not open it" if self.token else "no token was given"


@singledispatch
def explain(error: Exception, request: HubRequest) -> SourceError:
    """Turn one of `HUB_FAILURES` into the error for the user."""
    return SourceError(
        f"{request.hub} does not answer as a model hub does ({_detail(error)}): check HF_ENDPOINT, and that "
        "no proxy answers in the hub's place.",
        transient=True,
    )


@explain.register
def _not_cached(error: LocalEntryNotFoundError, request: HubRequest) -> SourceError:
    """Look into huggingface_hub's wrapper, which says that a file is not in the cache either."""
    cause = error.__cause__
    return explain(cause if isinstance(cause, HUB_FAILURES) else FileMetadataError(str(error)), request)


@explain.register
def _offline(_: OfflineModeIsEnabled, request: HubRequest) -> SourceError:
    return SourceError(
        f"{request.model} is not whole in the cache, and HF_HUB_OFFLINE forbids to ask the hub: unset it for "
        "one start, or copy the model into the cache."
    )


@explain.register(TransportError)
@explain.register(InvalidURL)
@explain.register(ConnectionError)
@explain.register(TimeoutError)
def _unreachable(error: Exception, request: HubRequest) -> SourceError:
    return SourceError(
        f"The hub {request.hub} cannot be reached ({_detail(error)}): check the network, the proxy "
        "(HTTPS_PROXY) and HF_ENDPOINT.",
        transient=True,
    )


@explain.register
def _bad_name(_: HFValidationError, request: HubRequest) -> SourceError:
    return SourceError(
        f"`{request.repo}` is not a repository's name: write it as on the hub, `owner/name` or `name`."
    )


@explain.register
def _not_a_hub(error: FileMetadataError, request: HubRequest) -> SourceError:
    return explain.dispatch(Exception)(error, request)


@explain.register
def _disk(error: OSError, request: HubRequest) -> SourceError:
    place = f" at {error.filename}" if error.filename else ""
    if error.errno in {errno.ENOSPC, errno.EDQUOT}:
        return SourceError(
            f"The disk is full while {request.model} is downloaded{place}: free some space, or give the "
            "cache a larger volume."
        )
    if error.errno in {errno.EACCES, errno.EPERM, errno.EROFS, errno.ENOTDIR}:
        return SourceError(
            f"The cache cannot be written ({error.strerror}{place}): let the server's user write there, or "
            "choose another directory (--cache-dir)."
        )
    return SourceError(
        f"The download of {request.model} from {request.hub} broke off ({_detail(error)}): check the network "
        "and the cache's disk.",
        transient=True,
    )


@explain.register
def _transfer(error: RuntimeError, request: HubRequest) -> SourceError:
    return SourceError(
        f"The transfer of {request.model} failed ({_detail(error)}): if this lasts, HF_HUB_DISABLE_XET=1 "
        "makes it use plain HTTP.",
        transient=True,
    )


@explain.register
def _gated(_: GatedRepoError, request: HubRequest) -> SourceError:
    return SourceError(
        f"The repository {request.repo} on {request.hub} is gated and {request.token_used}: ask for access "
        f"at {request.hub}/{request.repo} and give a token of the account that has it {_WHERE_TO_SET_IT}."
    )


@explain.register
def _no_revision(_: RevisionNotFoundError, request: HubRequest) -> SourceError:
    return SourceError(
        f"The repository {request.repo} on {request.hub} has no revision `{request.revision}`: name a "
        "branch, a tag or a commit of it."
    )


@explain.register
def _disabled(_: DisabledRepoError, request: HubRequest) -> SourceError:
    return SourceError(
        f"The hub {request.hub} has disabled the repository {request.repo}: use another model."
    )


@explain.register(RepositoryNotFoundError)
def _no_repository(_: HfHubHTTPError, request: HubRequest) -> SourceError:
    if request.token:
        return SourceError(
            f"The hub {request.hub} shows no repository {request.repo} to the given token: check the "
            f"spelling, and that the token may read it {_WHERE_TO_SET_IT}."
        )
    return SourceError(
        f"The hub {request.hub} has no public repository {request.repo} and no token was given: check the "
        f"spelling; a private or gated repository needs a token {_WHERE_TO_SET_IT}."
    )


@explain.register
def _answer(error: HfHubHTTPError, request: HubRequest) -> SourceError:
    """Explain an answer that no error class of its own tells apart."""
    return _BY_STATUS.get(error.response.status_code, _other_status)(error, request)


def _unauthorized(error: HfHubHTTPError, request: HubRequest) -> SourceError:
    if not request.token:
        return _no_repository(error, request)
    return SourceError(
        f"The hub {request.hub} refused the given token for {request.repo}: check that it is complete and "
        f"not revoked {_WHERE_TO_SET_IT}."
    )


def _forbidden(_: HfHubHTTPError, request: HubRequest) -> SourceError:
    return SourceError(
        f"The hub {request.hub} forbids to read {request.repo} and {request.token_used}: give a token that "
        f"may read this repository {_WHERE_TO_SET_IT}."
    )


def _no_file(_: HfHubHTTPError, request: HubRequest) -> SourceError:
    return SourceError(
        f"The hub {request.hub} has no such page or file of {request.model}: check HF_ENDPOINT, or name "
        "another revision."
    )


def _too_often(error: HfHubHTTPError, request: HubRequest) -> SourceError:
    advice = "wait" if request.token else f"a token of one's own has a higher limit {_WHERE_TO_SET_IT}"
    return SourceError(
        f"The hub {request.hub} is asked too often from here (429) for {request.repo}: {advice}.",
        transient=True,
        retry_after=_retry_after(error.response.headers),
    )


def _other_status(error: HfHubHTTPError, request: HubRequest) -> SourceError:
    status = error.response.status_code
    return SourceError(
        f"The hub {request.hub} answered {status} for {request.model}: if this lasts, see the hub's status "
        "page and check HF_ENDPOINT.",
        transient=status >= 500 or status == 408,
        retry_after=_retry_after(error.response.headers),
    )


_BY_STATUS: dict[int, Callable[[HfHubHTTPError, HubRequest], SourceError]] = {
    401: _unauthorized,
    403: _forbidden,
    404: _no_file,
    429: _too_often,
}


def _detail(error: Exception) -> str:
    """Return the first line of an error; its class's name where it says nothing."""
    if isinstance(error, OSError) and error.strerror:
        return error.strerror
    return str(error).partition("\n")[0].rstrip(".") or type(error).__name__


def _retry_after(headers: Mapping[str, str]) -> float | None:
    """Return the seconds to wait: `Retry-After` in seconds, else the `RateLimit` header's reset."""
    value = headers.get("Retry-After", "").strip()
    if value.isdigit():
        return float(value)
    reset = _RATE_LIMIT_RESET.search(headers.get("RateLimit", ""))
    return float(reset[1]) if reset else None

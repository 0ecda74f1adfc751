"""What callers read when Envoy itself answers: the error body of the API that was asked, whatever went wrong.

The mappers are tried in order and the first that fits wins. Upstream responses pass untouched; Envoy's own
texts, which name upstream addresses, never reach a caller.
"""

import json
import re
from collections.abc import Sequence
from pathlib import Path
from typing import Any

from rerank_api.error_shapes import REGIONS, Region, Shaped, native
from rerank_api.errors import ErrorCode
from rerank_api.faces import FACE_PATHS, MODELS_PATH
from rerank_gateway.auth import CHALLENGE, NOT_GRANTED, UNKNOWN_KEY
from rerank_gateway.bounds import RETRY_AFTER_S
from rerank_gateway.budgets import Kind
from rerank_gateway.clusters import CLUSTER_HEADER, HOST_PREFIX
from rerank_gateway.limits import RATE_LIMITED, owing
from rerank_gateway.paths import PLAYGROUND_PREFIX, PROXY_PREFIX, nothing_at
from rerank_gateway.route_filter import MISSING_MODEL, too_large

_MODEL = "%REQ(X-RERANK-MODEL?:AUTHORITY)%"
"""What the request names, else the host that has a model of its own."""
_INTERNAL = "The gateway could not answer: try again, and tell its operator the header x-request-id."

_CEL_FILTER = "type.googleapis.com/envoy.extensions.access_loggers.filters.cel.v3.ExpressionFilter"

Json = dict[str, Any]


def local_reply_config(
    max_body_bytes: int, receive_timeout_s: float, request_timeout_s: float, hold_socket: Path
) -> Json:
    """Return Envoy's LocalReplyConfig for the listener.

    It has mappers only: a format above them would wrap the replies of the Lua filter and of the routes again.
    """
    return {
        "mappers": [
            _as_written(),
            _health("health_check_ok", 200, "ok"),
            _health("health_check_failed", 503, "draining"),
            *_unknown_key(),
            *_too_fast(),
            *_mappers(
                _details(f"rbac_access_denied_matched_policy[{NOT_GRANTED}]"),
                ErrorCode.MODEL_FORBIDDEN,
                f"This key may not use the model `{_MODEL}`: GET {MODELS_PATH} lists those that it may use.",
                param="model",
            ),
            _mapper(
                _all(_of_the_agent(), _flags("UF", "UC", "UH", "UT", "UR", "LR", "UPE")),
                ErrorCode.GATEWAY_STARTING,
                "The gateway is starting, and does not know its models yet: try again in a moment.",
                retry_after=True,
            ),
            _mapper(
                _all(_flags("NC"), _path_prefix(PROXY_PREFIX)),
                ErrorCode.NOT_FOUND,
                f"Below {PROXY_PREFIX} only <model><path> is answered, with one of these paths: "
                f"{', '.join(sorted(FACE_PATHS))}.",
            ),
            *_mappers(
                _all(_flags("NC"), _header_prefix(CLUSTER_HEADER, HOST_PREFIX)),
                ErrorCode.MISSING_MODEL,
                MISSING_MODEL,
                param="model",
            ),
            # Envoy lets a request pass when a Lua filter fails.
            *_mappers(_all(_flags("NC"), _without("x-rerank-model")), ErrorCode.INTERNAL, _INTERNAL),
            *_mappers(
                _flags("NC"),
                ErrorCode.MODEL_NOT_FOUND,
                f"There is no model `{_MODEL}` here: GET {MODELS_PATH} lists the names.",
                param="model",
            ),
            *_mappers(
                _any(_flags("NR"), _status("EQ", 404)),
                ErrorCode.NOT_FOUND,
                nothing_at("%REQ(:METHOD)% %REQ(:PATH):256%"),
            ),
            *_mappers(
                _flags("UH"),
                ErrorCode.MODEL_NOT_READY,
                f"The model `{_MODEL}` has no ready replica: try again in a moment.",
                retry_after=True,
            ),
            *_mappers(
                _all(_at(hold_socket), _flags("UF", "UC", "UR", "LR", "UPE", "URX")),
                ErrorCode.MODEL_NOT_READY,
                f"The model `{_MODEL}` has no ready replica, and requests for it cannot be held just now: "
                "try again in a moment.",
                retry_after=True,
            ),
            *_mappers(
                _flags("UO", "OM"),
                ErrorCode.OVERLOADED,
                "More requests are under way than this gateway may hold: try again in a moment.",
                retry_after=True,
            ),
            *_mappers(
                _flags("UT", "DT"),
                ErrorCode.TIMEOUT,
                f"The model `{_MODEL}` did not answer within {request_timeout_s:g} s: "
                "send fewer or shorter documents in one request, or try again.",
            ),
            *_mappers(
                _flags("UF", "UC", "UR", "LR", "UPE", "URX"),
                ErrorCode.REPLICA_FAILED,
                f"A replica of the model `{_MODEL}` failed before it answered: try again.",
            ),
            *_mappers(_status("EQ", 413), ErrorCode.REQUEST_TOO_LARGE, too_large(max_body_bytes)),
            *_malformed(receive_timeout_s),
            *_mappers(_status("GE", 500), ErrorCode.INTERNAL, _INTERNAL, keeps_status=True),
        ]
    }


def _too_fast() -> list[Json]:
    """Return the mappers for who has used up what it may; `Retry-After` is added behind them."""
    return [
        *_early(
            _any(_details(RATE_LIMITED), _owes(Kind.REQUESTS)),
            ErrorCode.RATE_LIMIT_EXCEEDED,
            "This key's consumer has sent as many requests as it may in a minute: wait as long as the header "
            "Retry-After says.",
        ),
        *_early(
            _owes(Kind.TOKENS),
            ErrorCode.RATE_LIMIT_EXCEEDED,
            "This key's consumer has used as many tokens as it may in a minute: wait as long as the header "
            "Retry-After says.",
        ),
    ]


def _owes(kind: Kind) -> Json:
    refusal = f"rbac_access_denied_matched_policy[{owing(kind)}"
    return _expression(f'response.code_details.startsWith("{refusal}")')


def _unknown_key() -> list[Json]:
    """Return the mappers for who has no good key."""
    sentence = (
        "The request has no API key that is known here: send one key, as `Authorization: Bearer <key>` or as "
        "`X-API-Key: <key>`, and ask who runs this gateway for one."
    )
    challenge = [_header("www-authenticate", CHALLENGE)]
    refused = _details(f"rbac_access_denied_matched_policy[{UNKNOWN_KEY}]")
    return _early(refused, ErrorCode.INVALID_API_KEY, sentence, headers=challenge)


def _early(condition: Json, code: ErrorCode, message: str, *, headers: Sequence[Json] = ()) -> list[Json]:
    """Return the mappers as `_mappers` does, for refusals that see the path as it was sent."""
    return [
        *(
            _shaped(
                _all(_any(_in(region), _in_proxied(region)), condition),
                region.shape(code, message, None),
                headers=headers,
            )
            for region in REGIONS
        ),
        _shaped(condition, native(code, message), headers=headers),
    ]


def _malformed(receive_timeout_s: float) -> list[Json]:
    """Return the mappers for requests that broke HTTP itself; Envoy's status stays."""
    sentences = {
        408: f"The request was not received in full within {receive_timeout_s:g} s: send it faster.",
        426: "HTTP/1.0 is not spoken here: use HTTP/1.1 or HTTP/2.",
        431: "The request's headers are too large or too many: send fewer or shorter ones.",
    }
    refused = "The request is refused as malformed HTTP (%RESPONSE_CODE_DETAILS%): check the client."
    return [
        *(
            mapper
            for status, sentence in sentences.items()
            for mapper in _mappers(
                _status("EQ", status), ErrorCode.INVALID_REQUEST, sentence, keeps_status=True
            )
        ),
        *_mappers(_status("LE", 499), ErrorCode.INVALID_REQUEST, refused, keeps_status=True),
    ]


def _as_written() -> Json:
    """Return the mapper that lets bodies pass which are the error body already."""
    return {
        "filter": _details("lua_response", "direct_response"),
        "body_format_override": {
            "text_format_source": {"inline_string": "%LOCAL_REPLY_BODY%"},
            "content_type": "application/json",
        },
    }


def _health(details: str, status: int, word: str) -> Json:
    return {
        "filter": _details(details),
        "status_code": status,
        "body_format_override": {"json_format": {"status": word}},
    }


def _mappers(
    condition: Json,
    code: ErrorCode,
    message: str,
    *,
    param: str | None = None,
    keeps_status: bool = False,
    retry_after: bool = False,
) -> list[Json]:
    """Return a ResponseMapper for the paths of each API with errors of its own, and one for all others."""
    headers = [_header("retry-after", str(RETRY_AFTER_S))] if retry_after else []
    return [
        *(
            _shaped(
                _all(_in(region), condition),
                region.shape(code, message, param),
                keeps_status=keeps_status,
                headers=headers,
            )
            for region in REGIONS
        ),
        _shaped(condition, native(code, message, param), keeps_status=keeps_status, headers=headers),
    ]


def _mapper(condition: Json, code: ErrorCode, message: str, *, retry_after: bool = False) -> Json:
    """Return one ResponseMapper, in the one error body."""
    headers = [_header("retry-after", str(RETRY_AFTER_S))] if retry_after else []
    return _shaped(condition, native(code, message), headers=headers)


def _shaped(
    condition: Json, shaped: Shaped, *, keeps_status: bool = False, headers: Sequence[Json] = ()
) -> Json:
    """Return one ResponseMapper. The status is the one that goes with the code, or stays Envoy's."""
    mapper: Json = {"filter": condition}
    if not keeps_status:
        mapper["status_code"] = shaped.status
    if headers:
        mapper["headers_to_add"] = list(headers)
    mapper["body_format_override"] = {"json_format": shaped.body}
    return mapper


def _header(name: str, value: str) -> Json:
    return {"header": {"key": name, "value": value}}


def _in_proxied(region: Region) -> Json:
    """Hold for a path of an API behind a model's name, as it was sent."""
    behind = "|".join(re.escape(path) for path in region.paths)
    path = {"safe_regex": {"regex": f"{re.escape(PROXY_PREFIX)}.*(?:{behind})(?:[?].*)?"}}
    return {"header_filter": {"header": {"name": ":path", "string_match": path}}}


def _in(region: Region) -> Json:
    """Hold for the paths of an API, and for whatever is asked for below its prefix."""
    elsewhere = [_path_prefix(path) for path in region.paths if not path.startswith(region.prefix)]
    return _any(_path_prefix(region.prefix), *elsewhere) if elsewhere else _path_prefix(region.prefix)


def _details(*details: str) -> Json:
    """Hold for the answers to which Envoy gives one of these reasons."""
    among = ", ".join(f'"{reason}"' for reason in details)
    return _expression(f"response.code_details in [{among}]")


def _at(socket: Path) -> Json:
    """Hold for the answers to requests that were last sent to a unix socket."""
    return _expression(f"upstream.address == {json.dumps(str(socket))}")


def _expression(expression: str) -> Json:
    return {
        "extension_filter": {
            "name": "envoy.access_loggers.extension_filters.cel",
            "typed_config": {"@type": _CEL_FILTER, "expression": expression},
        }
    }


def _flags(*flags: str) -> Json:
    return {"response_flag_filter": {"flags": list(flags)}}


def _status(op: str, value: int) -> Json:
    comparison = {"op": op, "value": {"default_value": value, "runtime_key": "rerank.local_reply"}}
    return {"status_code_filter": {"comparison": comparison}}


def _path_prefix(prefix: str) -> Json:
    return _header_prefix(":path", prefix)


def _header_prefix(header: str, prefix: str) -> Json:
    return {"header_filter": {"header": {"name": header, "string_match": {"prefix": prefix}}}}


def _of_the_agent() -> Json:
    """Hold for the paths that the agent answers: the list of models, the playground and its files."""
    root = {"name": ":path", "string_match": {"safe_regex": {"regex": "/([?].*)?"}}}
    return _any(
        _path_prefix(MODELS_PATH), _path_prefix(PLAYGROUND_PREFIX), {"header_filter": {"header": root}}
    )


def _without(header: str) -> Json:
    return {"header_filter": {"header": {"name": header, "present_match": False}}}


def _any(*conditions: Json) -> Json:
    return {"or_filter": {"filters": list(conditions)}}


def _all(*conditions: Json) -> Json:
    return {"and_filter": {"filters": list(conditions)}}

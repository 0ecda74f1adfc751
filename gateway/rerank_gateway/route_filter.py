"""The Lua filter that finds a request's model: its code, and the sentences that it answers with."""

import json

from rerank_api.error_shapes import REGIONS, Shape, native
from rerank_api.errors import COMPRESSED, MORE_HEADERS, ErrorCode
from rerank_api.faces import FACE_PATHS
from rerank_api.names import MODEL_NAME_MAX_LENGTH
from rerank_gateway.clusters import CLUSTER_HEADER, HOST_PREFIX, NAME_PREFIX
from rerank_gateway.lua import LuaValue, chunk
from rerank_gateway.paths import PROXY_PREFIX

MODEL_HEADERS = ("X-GPUStack-Model", "X-Gateway-Model-Name")
"""Headers in which a caller may name the model; where one is there, the body is not read for it."""

_NAME_RULE = (
    f"a model's name has 1 to {MODEL_NAME_MAX_LENGTH} letters, digits and the signs . _ - : @ /, begins and "
    "ends with a letter or digit, and none of its parts between slashes is empty or begins with a dot"
)
_WHERE = f"Name it in the body's `model`, or in the header {MODEL_HEADERS[0]}."

MISSING_MODEL = f"The request names no model. {_WHERE}"
"""The sentence for a request that names no model, on a host that has none either."""


def too_large(max_body_bytes: int) -> str:
    """Return the sentence for a body above the limit, in bytes."""
    return (
        f"The request body is larger than {max_body_bytes} bytes, the limit of this gateway: "
        "send fewer or shorter documents in one request."
    )


def lua_code(max_body_bytes: int) -> str:
    """Return the filter's whole source: the scanner, the settings and the glue in one chunk."""
    settings: LuaValue = {
        "face_paths": tuple(sorted(FACE_PATHS, key=len, reverse=True)),
        "proxy_prefix": PROXY_PREFIX,
        "model_headers": tuple(header.lower() for header in MODEL_HEADERS),
        "cluster_header": CLUSTER_HEADER,
        "name_prefix": NAME_PREFIX,
        "host_prefix": HOST_PREFIX,
        "max_name_bytes": MODEL_NAME_MAX_LENGTH,
        "max_body_bytes": max_body_bytes,
        "replies": {
            **{region.name: _replies(max_body_bytes, region.shape) for region in REGIONS},
            "native": _replies(max_body_bytes, native),
        },
        "regions": {path: region.name for region in REGIONS for path in region.paths},
    }
    return chunk({"scan": "scan.lua"}, settings, "route.lua")


def _replies(max_body_bytes: int, shape: Shape) -> dict[str, LuaValue]:
    """Return what is said of each problem, in one shape."""

    def reply(code: ErrorCode, message: str, param: str | None = None) -> LuaValue:
        shaped = shape(code, message, param)
        return {
            "status": str(shaped.status),
            "headers": dict(MORE_HEADERS.get(code, {})),
            "body": json.dumps(shaped.body),
        }

    headers = " or ".join(MODEL_HEADERS)
    return {
        "invalid_json": reply(
            ErrorCode.INVALID_JSON, "The request body is not valid JSON at byte {at}, counted from 0."
        ),
        "no_body": reply(ErrorCode.INVALID_JSON, "The request has no body: send a JSON object."),
        "not_object": reply(
            ErrorCode.MISSING_MODEL,
            f"The request body is no JSON object, so it has no `model`. {_WHERE}",
            "model",
        ),
        "null": reply(ErrorCode.MISSING_MODEL, f"`model` is null. {_WHERE}", "model"),
        "not_string": reply(ErrorCode.MISSING_MODEL, f"`model` is not a string: {_NAME_RULE}.", "model"),
        "empty": reply(ErrorCode.MISSING_MODEL, f"`model` is an empty string: {_NAME_RULE}.", "model"),
        "bad_name": reply(
            ErrorCode.MISSING_MODEL, f"`model` cannot be a model's name: {_NAME_RULE}.", "model"
        ),
        "bad_header": reply(
            ErrorCode.MISSING_MODEL, f"The header {headers} does not hold a model's name: {_NAME_RULE}."
        ),
        "bad_path": reply(
            ErrorCode.MISSING_MODEL,
            f"The path {PROXY_PREFIX}<model>{FACE_PATHS[0]} does not hold a model's name: {_NAME_RULE}; "
            "percent-encoding is allowed.",
        ),
        "names_differ": reply(
            ErrorCode.INVALID_REQUEST,
            f"The request names two different models in {', '.join(MODEL_HEADERS)} or its path: name one.",
        ),
        "several_hosts": reply(
            ErrorCode.INVALID_REQUEST,
            "The request has several headers `Host`, or a comma in one: name one host.",
        ),
        "encoded": reply(ErrorCode.UNSUPPORTED_MEDIA_TYPE, COMPRESSED),
        "too_large": reply(ErrorCode.REQUEST_TOO_LARGE, too_large(max_body_bytes)),
    }

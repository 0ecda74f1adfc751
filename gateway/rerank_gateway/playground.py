"""The playground at `/`: a page that asks this gateway's own API from a browser.

Its files are static and lie in `playground/`. The page may load and ask nothing but its own origin, runs no
script but its own files, and cannot be put into another page's frame: where a caller types an API key, a text
that is shown must never become code.
"""

import hashlib
from importlib import resources

from starlette.requests import Request
from starlette.responses import Response
from starlette.routing import Route

from rerank_gateway.paths import PLAYGROUND_FILES

MEDIA_TYPES = {
    "css": "text/css",
    "html": "text/html",
    "js": "text/javascript",
    "svg": "image/svg+xml",
}

CONTENT_SECURITY_POLICY = "; ".join(
    (
        "default-src 'none'",
        "script-src 'self'",
        "style-src 'self'",
        "img-src 'self'",
        "connect-src 'self'",
        "base-uri 'none'",
        "form-action 'none'",  # without its script the form sends nothing, the key least of all
        "frame-ancestors 'none'",
        "require-trusted-types-for 'script'",  # so that innerHTML is an error,
        "trusted-types 'none'",  # and no script can make a policy that trusts something
    )
)

HEADERS = {
    "Cache-Control": "no-cache",  # a new version of the gateway shows at once; else 304 by the ETag
    "Content-Security-Policy": CONTENT_SECURITY_POLICY,
    "Referrer-Policy": "no-referrer",
    "X-Content-Type-Options": "nosniff",
    "X-Frame-Options": "DENY",
}


def routes() -> list[Route]:
    """Read the files, once, and return a route for each."""
    return [_route(path, name) for path, name in PLAYGROUND_FILES.items()]


def _route(path: str, name: str) -> Route:
    content = resources.files("rerank_gateway").joinpath("playground", name).read_bytes()
    media_type = MEDIA_TYPES[name.rpartition(".")[2]]
    etag = f'"{hashlib.sha256(content).hexdigest()[:32]}"'
    headers = {**HEADERS, "ETag": etag}

    async def file(request: Request) -> Response:
        if etag in _known(request):
            return Response(status_code=304, headers=headers)
        return Response(content, headers=headers, media_type=media_type)

    return Route(path, file)


def _known(request: Request) -> set[str]:
    """Return the versions that the browser has (RFC 9110, 13.1.2: compared weakly)."""
    return {
        each.strip().removeprefix("W/")
        for header in request.headers.getlist("if-none-match")
        for each in header.split(",")
    }

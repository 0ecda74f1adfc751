"""`aiohttp_proxy.py PORT UPSTREAM`: a proxy as one would write it: parse the body, pick, send it on."""

import json
import sys
from collections.abc import AsyncIterator

from aiohttp import ClientSession, ClientTimeout, web

SESSION = web.AppKey("session", ClientSession)
UPSTREAMS = web.AppKey("upstreams", dict[str, str])


async def forward(request: web.Request) -> web.Response:
    """Send the request to the upstream of its model."""
    body = await request.read()
    upstream = request.app[UPSTREAMS].get(json.loads(body)["model"])
    if upstream is None:
        raise web.HTTPNotFound
    headers = {"Content-Type": request.content_type}
    async with request.app[SESSION].post(upstream + request.path, data=body, headers=headers) as answer:
        return web.Response(status=answer.status, body=await answer.read(), content_type=answer.content_type)


async def healthy(_: web.Request) -> web.Response:
    """Say that it runs."""
    return web.Response()


async def session(app: web.Application) -> AsyncIterator[None]:
    """Keep one pool of connections while the app runs."""
    async with ClientSession(timeout=ClientTimeout(total=60)) as opened:
        app[SESSION] = opened
        yield


if __name__ == "__main__":
    app = web.Application(client_max_size=1 << 24)
    app[UPSTREAMS] = {"instant": f"http://127.0.0.1:{sys.argv[2]}"}
    app.cleanup_ctx.append(session)
    app.add_routes([web.get("/healthz", healthy), web.post("/{path:.*}", forward)])
    web.run_app(app, host="127.0.0.1", port=int(sys.argv[1]), print=None, access_log=None)

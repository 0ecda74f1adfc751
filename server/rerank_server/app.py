"""The HTTP side of a server: faces, probes, status, metrics. It answers from the first moment on."""

import asyncio
import contextlib
from collections.abc import AsyncIterator

from fastapi import FastAPI, Response
from fastapi.responses import PlainTextResponse
from prometheus_client import CONTENT_TYPE_LATEST, generate_latest

from rerank_api.status import ServerState
from rerank_server.answers import add_error_answers, json_response
from rerank_server.faces.about import add_descriptions
from rerank_server.faces.routes import add_faces
from rerank_server.lifecycle import Lifecycle
from rerank_server.metrics import Metrics


def create_app(lifecycle: Lifecycle, metrics: Metrics) -> FastAPI:
    """Build the application around one model's lifecycle, which it starts and ends."""

    @contextlib.asynccontextmanager
    async def lifespan(_: FastAPI) -> AsyncIterator[None]:
        bring_up = asyncio.create_task(lifecycle.run())
        yield
        bring_up.cancel()
        with contextlib.suppress(asyncio.CancelledError):
            await bring_up
        lifecycle.close()

    metrics.follow(lambda: lifecycle.state, lambda: lifecycle.load, lambda: lifecycle.workers)
    app = FastAPI(
        title="Rerank server",
        lifespan=lifespan,
        openapi_url=None,
        # It would tell what exceptions say, which may be a caller's text; `tracing` makes our own spans.
        telemetry={"tracing": False, "metrics": False, "logs": False, "auto_configure": False},
    )
    add_error_answers(app)
    _add_operations(app, lifecycle, metrics)
    add_faces(app, lifecycle, metrics)
    add_descriptions(app, lifecycle)
    return app


def _add_operations(app: FastAPI, lifecycle: Lifecycle, metrics: Metrics) -> None:
    @app.get("/livez", summary="200 while the process can answer at all", response_class=PlainTextResponse)
    async def livez() -> Response:
        return Response("alive\n", media_type="text/plain")

    @app.get("/readyz", summary="200 when this server takes traffic", response_class=PlainTextResponse)
    async def readyz() -> Response:
        ready = lifecycle.state is ServerState.READY
        return Response(f"{lifecycle.state.value}\n", 200 if ready else 503, media_type="text/plain")

    @app.get("/status", summary="How far this server is, in words and numbers")
    async def status() -> Response:
        return json_response(lifecycle.status().model_dump(mode="json", by_alias=True))

    @app.post("/verify", summary="Compare the scores once more with what they must be")
    async def verify() -> Response:
        report = await lifecycle.verify_again()
        return json_response(report.model_dump(mode="json", by_alias=True))

    @app.get("/metrics", summary="Prometheus metrics", response_class=PlainTextResponse)
    async def prometheus() -> Response:
        return Response(generate_latest(metrics.registry), media_type=CONTENT_TYPE_LATEST)

"""Every face on its paths: read the body, rank, write the answer, count it."""

import dataclasses
import time
from typing import Protocol

from fastapi import FastAPI, Request, Response
from starlette.requests import ClientDisconnect

from rerank_api.errors import ApiError
from rerank_api.faces import MODEL_HEADER
from rerank_server.answers import json_response
from rerank_server.body import read_json
from rerank_server.faces import jina
from rerank_server.lifecycle import Lifecycle
from rerank_server.metrics import Metrics
from rerank_server.ranking import Ranking, RankRequest
from rerank_server.serving import ClientGoneError, rank, unless_gone

CLIENT_CLOSED_REQUEST = 499
"""nginx's number for a caller that hung up; it is only ever counted, nobody is left to receive it."""


class Face(Protocol):
    """One dialect: where it is served, and how it is read and written."""

    PATHS: tuple[str, ...]

    def read(self, body: object) -> RankRequest: ...
    def write(self, request: RankRequest, ranking: Ranking) -> dict[str, object]: ...


def add_faces(app: FastAPI, lifecycle: Lifecycle, metrics: Metrics) -> None:
    """Serve every face."""
    _add_face(app, lifecycle, metrics, "jina", jina)


def _add_face(app: FastAPI, lifecycle: Lifecycle, metrics: Metrics, name: str, face: Face) -> None:
    async def rerank(http: Request) -> Response:
        started = time.perf_counter()
        status = 500
        try:
            request = face.read(await read_json(http, lifecycle.settings.max_body_bytes))
            if routed_by := http.headers.get(MODEL_HEADER):
                request = dataclasses.replace(request, model=routed_by)
            ranking = await unless_gone(http, rank(lifecycle, request))
            metrics.ranked(name, len(request.documents), ranking.tokens)
            response = json_response(face.write(request, ranking))
            status = response.status_code
        except ApiError as error:
            status = error.status
            raise
        except (ClientGoneError, ClientDisconnect):
            status = CLIENT_CLOSED_REQUEST
            return Response(status_code=status)
        finally:
            metrics.answered(name, status, time.perf_counter() - started)
        return response

    for path in face.PATHS:
        app.add_api_route(path, rerank, methods=["POST"], summary=f"Rank documents ({name})")

"""Which face a request is for: its path, else the header `Rerank-API`, else the shape of its body. Pure."""

from collections.abc import Mapping

from rerank_api.errors import ApiError, ErrorCode
from rerank_api.faces import API_HEADER
from rerank_server.faces.cohere_v1 import COHERE_V1
from rerank_server.faces.cohere_v2 import COHERE_V2
from rerank_server.faces.infinity import INFINITY
from rerank_server.faces.interface import Face
from rerank_server.faces.jina import JINA
from rerank_server.faces.tei import TEI
from rerank_server.faces.vllm_rerank import VLLM_RERANK
from rerank_server.faces.vllm_score import VLLM_SCORE
from rerank_server.faces.voyage import VOYAGE

FACES = (JINA, COHERE_V1, COHERE_V2, VOYAGE, TEI, VLLM_RERANK, VLLM_SCORE, INFINITY)

_RERANK = {face.name: face for face in (JINA, COHERE_V1, VOYAGE, TEI, VLLM_RERANK, INFINITY)}
SHARED: Mapping[str, Mapping[str, Face]] = {
    "/rerank": _RERANK,
    "/v1/rerank": _RERANK,
    "/v2/rerank": {"cohere": COHERE_V2, "vllm": VLLM_RERANK},
    "/score": {"vllm": VLLM_SCORE},
    "/v1/score": {"vllm": VLLM_SCORE},
}
"""Paths on which the header chooses, and what it may say there."""

BY_PATH: Mapping[str, Face] = {path: face for face in FACES for path in face.paths}
"""Who answers on a path where nothing chooses."""

_BY_PREFIX = {face.name: face for face in (VOYAGE, TEI, VLLM_RERANK, INFINITY, COHERE_V2)}


def face_at(path: str) -> Face:
    """Return the face in whose shape a path's errors are, whether there is something at the path or not."""
    return BY_PATH.get(path) or _BY_PREFIX.get(path.split("/", 2)[1] if "/" in path else "", JINA)


def chosen_face(path: str, header: str | None) -> Face:
    """Return the face of a request, as far as path and header tell, or raise `ApiError`."""
    choices = SHARED.get(path)
    if header is None or choices is None:
        return BY_PATH[path]
    face = choices.get(header.strip().lower())
    if face is None:
        raise ApiError(
            ErrorCode.INVALID_REQUEST,
            f"The header {API_HEADER} is none of those that {path} answers: {', '.join(choices)}. "
            "Name one, or leave the header out.",
        )
    return face


def told_by_shape(path: str, header: str | None, face: Face, body: object) -> Face:
    """Return the face that a body is of by its shape alone, where nothing else chose: `texts` are TEI's."""
    chosen = header is not None or path not in SHARED
    if not chosen and face is JINA and isinstance(body, dict) and "texts" in body and "documents" not in body:
        return TEI
    return face


def may_answer(path: str) -> tuple[Face, ...]:
    """Return the faces that a path may answer in, the one by default first."""
    default = BY_PATH[path]
    others = [face for face in SHARED.get(path, {}).values() if face is not default]
    return (default, *others)

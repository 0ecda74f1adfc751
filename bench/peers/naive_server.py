"""The endpoint that teams write first: FastAPI around sentence-transformers, at its defaults.

Arguments: the kind of model (`cross-encoder` or `embedding`), its directory, the port.
"""

import sys

import uvicorn
from fastapi import FastAPI
from pydantic import BaseModel
from sentence_transformers import CrossEncoder, SentenceTransformer, util


class RerankRequest(BaseModel):
    """The fields of the request that the endpoint uses."""

    query: str
    documents: list[str]


def build(kind: str, directory: str) -> FastAPI:
    """Return the application."""
    app = FastAPI()
    model = CrossEncoder(directory) if kind == "cross-encoder" else SentenceTransformer(directory)

    def scores(request: RerankRequest) -> list[float]:
        if isinstance(model, CrossEncoder):
            return [float(s) for s in model.predict([(request.query, text) for text in request.documents])]
        query, documents = model.encode(request.query), model.encode(request.documents)
        return [float(s) for s in util.cos_sim(query, documents)[0]]

    @app.post("/v1/rerank")
    def rerank(request: RerankRequest) -> dict[str, list[dict[str, float]]]:
        ranked = sorted(enumerate(scores(request)), key=lambda pair: -pair[1])
        return {"results": [{"index": index, "relevance_score": score} for index, score in ranked]}

    @app.get("/readyz")
    def readyz() -> str:
        return "ready"

    return app


if __name__ == "__main__":
    uvicorn.run(build(sys.argv[1], sys.argv[2]), port=int(sys.argv[3]), log_level="warning")

"""The public paths besides those of the faces. What is not named here or there never leaves Envoy."""

from rerank_api.faces import MODELS_PATH, RERANK_PATH

HEALTH_PATH = "/healthz"
"""Answered by Envoy itself with 200 while it takes requests."""

DEMAND_PATH = "/demand"
"""Of the agent's own socket alone, no public path: how many requests wait for which model."""

PROXY_PREFIX = "/model/proxy/"
"""`/model/proxy/<model name><face path>` names the model in the path."""

PLAYGROUND_PREFIX = "/playground/"
PLAYGROUND_FILES = {
    "/": "index.html",
    **{
        f"{PLAYGROUND_PREFIX}{name}": name
        for name in (
            "api.js",
            "icon.svg",
            "main.js",
            "models.js",
            "ranking.js",
            "request.js",
            "style.css",
        )
    },
}
"""Where each file of the playground is, by GET; the agent answers with what it has in its package."""


def nothing_at(asked: str) -> str:
    """Return what is said to who asks for a path, `GET /v1`, that is none of these."""
    return f"There is nothing at {asked}: POST {RERANK_PATH} ranks, and GET {MODELS_PATH} lists the models."

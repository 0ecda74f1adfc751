"""What callers, gateway and servers share of HTTP: paths, the header between them, the largest body."""

RERANK_PATH = "/v1/rerank"
JINA_PATHS = (RERANK_PATH, "/rerank")
"""Jina's rerank API, the native face."""

MODELS_PATH = "/v1/models"
"""The list of models, by GET; below it one path a model. The gateway's agent answers."""

MAX_BODY_BYTES = 10 * 1024 * 1024
"""The largest request body; a larger one is answered with 413."""

MODEL_HEADER = "x-rerank-model"
"""The public name that the gateway has routed by; it drops what callers send under this name."""

FACE_PATHS = JINA_PATHS
"""The paths of all faces, an allow-list: the gateway lets no other through to model servers."""

"""The paths on which model servers answer callers: an allow-list, the gateway lets no other through."""

JINA_PATHS = ("/v1/rerank", "/rerank")
"""Jina's rerank API, the native face."""

MODEL_HEADER = "x-rerank-model"
"""The public name that the gateway has routed by; it drops what callers send under this name."""

FACE_PATHS = JINA_PATHS
"""The paths of all faces."""

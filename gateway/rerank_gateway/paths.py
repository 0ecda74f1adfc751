"""The public paths: an allow-list. What is not named here never leaves Envoy."""

FACE_PATHS = ("/v1/rerank", "/rerank")
"""What a model server answers to callers, by POST only. Its other paths stay private to the cluster."""

MODELS_PATH = "/v1/models"
"""The list of models, by GET; below it one path a model. The gateway's agent answers."""

HEALTH_PATH = "/healthz"
"""Answered by Envoy itself with 200 while it takes requests."""

PROXY_PREFIX = "/model/proxy/"
"""`/model/proxy/<model name><face path>` names the model in the path."""

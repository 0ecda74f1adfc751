"""The public paths besides those of the faces. What is not named here or there never leaves Envoy."""

HEALTH_PATH = "/healthz"
"""Answered by Envoy itself with 200 while it takes requests."""

PROXY_PREFIX = "/model/proxy/"
"""`/model/proxy/<model name><face path>` names the model in the path."""

"""What callers, gateway and servers share of HTTP: paths, the headers between them, the largest body."""

RERANK_PATH = "/v1/rerank"
JINA_PATHS = (RERANK_PATH, "/rerank", "/jina/v1/rerank")
"""Jina's rerank API, the native face."""

COHERE_V1_PATHS = ("/cohere/v1/rerank",)
COHERE_V2_PATHS = ("/v2/rerank", "/cohere/v2/rerank")
VOYAGE_PATHS = ("/voyage/v1/rerank",)
TEI_PATHS = ("/tei/rerank",)
VLLM_RERANK_PATHS = ("/vllm/rerank", "/vllm/v1/rerank", "/vllm/v2/rerank")
VLLM_SCORE_PATHS = ("/score", "/v1/score", "/vllm/score", "/vllm/v1/score")
INFINITY_PATHS = ("/infinity/rerank",)

API_HEADER = "rerank-api"
"""Chooses the face on a path that several share: `cohere`, `voyage`, `tei`, `vllm`, `infinity`, `jina`.

Not `x-rerank-…`: such headers are the gateway's own, and it drops them from what callers send.
"""

MODELS_PATH = "/v1/models"
"""The list of models, by GET; below it one path a model. The gateway's agent answers."""

MAX_BODY_BYTES = 10 * 1024 * 1024
"""The largest request body; a larger one is answered with 413."""

MODEL_HEADER = "x-rerank-model"
"""The public name that the gateway has routed by; it drops what callers send under this name."""

TOKENS_HEADER = "x-rerank-tokens"
"""How many token ids the model ran for an answer. A server tells the gateway, which tells no caller."""

DOCUMENTS_HEADER = "x-rerank-documents"
"""How many documents an answer ranks, told as `TOKENS_HEADER` is."""

FACE_PATHS = (
    *JINA_PATHS,
    *COHERE_V1_PATHS,
    *COHERE_V2_PATHS,
    *VOYAGE_PATHS,
    *TEI_PATHS,
    *VLLM_RERANK_PATHS,
    *VLLM_SCORE_PATHS,
    *INFINITY_PATHS,
)
"""The paths of all faces, an allow-list: the gateway lets no other through to model servers."""

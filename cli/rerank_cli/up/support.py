"""What the local runner acts on in a manifest. All else that a user sets is refused, never ignored."""

from collections.abc import Iterable, Iterator

from rerank_api.manifests import Document
from rerank_api.problems import Problem
from rerank_api.rerank_consumer import RerankConsumer
from rerank_api.rerank_model import RerankModel
from rerank_api.support import refusals

LAYER = "the local runner"

ACTED_ON = frozenset(
    {
        "spec.names",
        "spec.replicas",
        "spec.scoring",
        "spec.source.file",
        "spec.source.hostPath",
        "spec.source.huggingFace.repo",
        "spec.source.huggingFace.revision",
        "spec.source.package",
        "spec.verify",
        "spec.weight",
    }
)

ACTED_ON_OF_CONSUMERS = frozenset({"spec.keySecret", "spec.limits", "spec.models"})

SENTENCES = {
    "spec.source.huggingFace.tokenSecret": (
        "the local runner has no Secrets: remove it, and put the token into the environment variable HF_TOKEN"
    ),
    "spec.source.s3": "the local runner does not act on this field: download the model and give source.file",
    "spec.source.oci": "the local runner does not act on this field: unpack the image and give source.file",
    "spec.source.pvc": "the local runner has no volumes: give the folder on this machine as source.file",
    "spec.autoscaling": "the local runner starts as many servers as spec.replicas says: give that instead",
    "spec.cache": "the local runner keeps downloads where the environment variable HF_HOME says: remove it",
}


def refused(documents: Iterable[Document]) -> Iterator[Problem]:
    """Yield a problem for everything that is set and not acted on."""
    for document in documents:
        if isinstance(document.resource, RerankModel):
            yield from refusals(document, ACTED_ON, LAYER, SENTENCES)
        elif isinstance(document.resource, RerankConsumer):
            yield from refusals(document, ACTED_ON_OF_CONSUMERS, LAYER)

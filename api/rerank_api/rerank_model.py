"""RerankModel: one model, where it comes from, how it scores, and how many replicas answer."""

from typing import Annotated, ClassVar, Literal

from pydantic import AwareDatetime, Field

from rerank_api.names import RESOURCE_NAME_MAX_LENGTH, RESOURCE_NAME_PATTERN
from rerank_api.pod import Cache, PodTemplate, Resources
from rerank_api.resource import API_VERSION, ApiModel, Duration, ObjectMeta, PublicName
from rerank_api.rules import Rule, Ruled, above_zero, between, pattern_rule
from rerank_api.source import Source
from rerank_api.status import ConditionType, ModelState

MAX_REPLICAS = 1000
MAX_WEIGHT = 1000

Replicas = Annotated[int, Ruled(between(0, MAX_REPLICAS, 2))]


class Scoring(ApiModel):
    """How texts become scores."""

    family: Annotated[
        str,
        Ruled(
            pattern_rule(
                "^[a-z0-9](?:[a-z0-9-]*[a-z0-9])?$",
                "is not the name of a family: use lower-case letters, digits and -, e.g. auto",
            )
        ),
    ] = Field(
        default="auto",
        max_length=63,
        description="How the model is prompted and read; auto tells it from the model's own files.",
    )
    activation: Literal["none", "sigmoid"] = Field(
        default="none",
        description="none answers raw logits, sigmoid maps them to 0..1. The order is the same.",
    )
    instruction: str | None = Field(
        default=None,
        min_length=1,
        max_length=4096,
        description="Task for models that take one, in place of the model's own default.",
    )
    max_length: Annotated[int, Ruled(between(8, 1048576, 512))] | None = Field(
        default=None,
        description="Most tokens of a query and a document together; by default what the model was made for.",
    )
    dtype: Literal["auto", "float32", "bfloat16", "float16"] = Field(
        default="auto",
        description="Precision of the weights; auto is bfloat16 on a GPU and float32 on a CPU.",
    )
    truncate: Literal["document", "error"] = Field(
        default="document",
        description="What happens to a document that is too long: document cuts its end, error answers 422.",
    )


class Golden(ApiModel):
    """A query with documents and the scores that they must get."""

    rules: ClassVar[tuple[Rule, ...]] = (
        Rule(
            "self.documents.size() == self.scores.size()",
            "Give one score for each document, in the same order, "
            "e.g. documents: [Mars is red., Venus is hot.] with scores: [9.69, -6.53]",
            field="scores",
        ),
    )

    query: str = Field(min_length=1, max_length=16384, description="The query.")
    documents: tuple[Annotated[str, Field(max_length=65536)], ...] = Field(
        min_length=1, max_length=64, description="The documents to score."
    )
    scores: tuple[float, ...] = Field(
        min_length=1,
        max_length=64,
        description="The score that each document must get, in the same order and as the model answers it, "
        "after its activation.",
    )
    tolerance: Annotated[float, Ruled(above_zero(0.01))] = Field(
        default=0.01, description="Largest difference from an expected score that still passes."
    )


class Verify(ApiModel):
    """The proof that a replica scores as it should, before it takes traffic."""

    goldens: tuple[Golden, ...] = Field(
        default=(), max_length=32, description="Known scores that every replica has to reproduce."
    )
    required: bool = Field(
        default=True, description="Whether a replica whose scores deviate is kept from traffic."
    )


class Autoscaling(ApiModel):
    """How many replicas run, by how much work waits."""

    rules: ClassVar[tuple[Rule, ...]] = (
        Rule(
            "self.minReplicas <= self.maxReplicas",
            "Make minReplicas no larger than maxReplicas, e.g. minReplicas: 0 and maxReplicas: 8",
            field="minReplicas",
        ),
    )

    min_replicas: Replicas = Field(
        default=1, description="Fewest replicas. At 0 the model sleeps when idle, and a request wakes it."
    )
    max_replicas: Annotated[int, Ruled(between(1, MAX_REPLICAS, 8))] = Field(description="Most replicas.")
    target_queue_seconds: Annotated[float, Ruled(above_zero(0.5))] = Field(
        default=0.5,
        description="Seconds of work that may wait in a replica's queue before another is started.",
    )
    idle_after: Duration = Field(
        default="10m", description="Time without a request after which a model may go to zero, e.g. 10m."
    )


class Ingress(ApiModel):
    """A host of the model's own, on top of the gateway's."""

    host: Annotated[
        str,
        Ruled(
            pattern_rule(
                "^[a-z0-9](?:[a-z0-9-]*[a-z0-9])?(?:[.][a-z0-9](?:[a-z0-9-]*[a-z0-9])?)*$",
                "is not a host name: write lower-case labels joined by dots, e.g. bge.example.com",
            )
        ),
    ] = Field(
        max_length=253,
        description="Host name whose requests reach this model where they name none, e.g. bge.example.com.",
    )


class RerankModelSpec(ApiModel):
    """What a user wants of a model."""

    rules: ClassVar[tuple[Rule, ...]] = (
        Rule(
            "!(has(self.replicas) && has(self.autoscaling))",
            "Give replicas or autoscaling, not both: remove replicas, "
            "and say e.g. autoscaling: {minReplicas: 2, maxReplicas: 8}",
            field="replicas",
        ),
    )

    source: Source = Field(description="Where the model's files come from: exactly one of the fields.")
    names: Annotated[
        tuple[PublicName, ...],
        Ruled(
            Rule(
                "self.all(name, self.exists_one(other, other == name))",
                "Give each name once, e.g. names: [bge, BAAI/bge-reranker-v2-m3]",
            )
        ),
    ] = Field(
        default=(),
        max_length=32,
        description="Names that clients send as `model`; the name of this object by default. They may hold "
        "letters, digits and . _ - : @ /.",
    )
    weight: Annotated[int, Ruled(between(0, MAX_WEIGHT, 100))] | None = Field(
        default=None,
        description="Offers to share its names with models of its namespace that claim them and say a weight "
        "too, and is its part of their requests, 0 to 1000: 95 beside 5 is a canary. Its own name stays its "
        "own.",
    )
    scoring: Scoring = Field(default=Scoring(), description="How texts become scores.")
    verify: Verify = Field(
        default=Verify(), description="Proof that a replica scores as it should, before it takes traffic."
    )
    replicas: Replicas | None = Field(
        default=None, description="Number of replicas, 1 by default. Excludes autoscaling."
    )
    autoscaling: Autoscaling | None = Field(
        default=None, description="Replicas by how much work waits, in place of a fixed number."
    )
    profile: str | None = Field(
        default=None,
        min_length=1,
        max_length=63,
        description="Name of one of the chart's profiles, e.g. nvidia-h100: it sets resources, selectors, "
        "tolerations, runtime class and image.",
    )
    resources: Resources | None = Field(
        default=None, description="What a replica asks for and may use, over the profile's."
    )
    cache: Cache | None = Field(default=None, description="Where downloaded files are kept.")
    ingress: Ingress | None = Field(
        default=None, description="A host of the model's own, on top of the gateway's."
    )
    template: PodTemplate | None = Field(default=None, description="What is added to the pods.")

    @property
    def replica_range(self) -> tuple[int, int]:
        """The fewest and the most replicas; the same number twice without autoscaling."""
        if self.autoscaling is not None:
            return self.autoscaling.min_replicas, self.autoscaling.max_replicas
        fixed = 1 if self.replicas is None else self.replicas
        return fixed, fixed


class Condition(ApiModel):
    """One thing that is or is not so; Kubernetes' own shape of a condition."""

    type: ConditionType = Field(description="What it is about.")
    status: Literal["True", "False", "Unknown"] = Field(description="Whether it is so.")
    observed_generation: int | None = Field(
        default=None, ge=0, description="The metadata.generation that this was said about."
    )
    last_transition_time: AwareDatetime = Field(description="When the status last changed.")
    reason: str = Field(min_length=1, max_length=1024, description="Why, in one word for programs.")
    message: str = Field(max_length=32768, description="Why, in a sentence for people.")


class VerificationResult(ApiModel):
    """What the comparison of computed with expected scores found."""

    checked: int = Field(ge=0, description="How many scores were compared.")
    max_deviation: float = Field(description="The largest absolute difference, in units of the score.")
    passed: bool = Field(description="Whether every score was within its tolerance.")


class NameStatus(ApiModel):
    """How one public name stands."""

    name: str = Field(max_length=253, description="The public name.")
    accepted: bool = Field(description="Whether clients reach this model under it.")
    message: str | None = Field(
        default=None, max_length=1024, description="Why not, and what to do; or who shares it."
    )


class RerankModelStatus(ApiModel):
    """How a model stands; written by the operator alone."""

    conditions: Annotated[
        tuple[Condition, ...],
        Field(json_schema_extra={"x-kubernetes-list-type": "map", "x-kubernetes-list-map-keys": ["type"]}),
    ] = Field(default=(), max_length=16, description="Accepted, Available, Verified and Ready.")
    state: ModelState | None = Field(default=None, description="How the model stands, in one word.")
    message: str | None = Field(
        default=None, max_length=32768, description="What is going on, or what is wrong and what to do."
    )
    replicas: int | None = Field(default=None, ge=0, description="Replicas that exist.")
    ready_replicas: int | None = Field(default=None, ge=0, description="Replicas that take traffic.")
    selector: str | None = Field(
        default=None, max_length=1024, description="Label selector of the pods, for the scale subresource."
    )
    revision: str | None = Field(default=None, max_length=200, description="Revision that the replicas run.")
    engine: str | None = Field(default=None, max_length=200, description="Engine that the replicas run on.")
    progress_percent: int | None = Field(
        default=None, ge=0, le=100, description="How much of the state's work is done, where that is known."
    )
    family: str | None = Field(
        default=None, max_length=200, description="How the model is prompted and read."
    )
    max_length: int | None = Field(
        default=None, ge=1, description="Tokens that a query and a document, or one text, may have."
    )
    score_scale: str | None = Field(
        default=None,
        max_length=200,
        description="What scores are: logit, probability, cosine, dot-product, max-sim or unit.",
    )
    verification: VerificationResult | None = Field(
        default=None, description="What the comparison with the goldens found."
    )
    names: Annotated[
        tuple[NameStatus, ...],
        Field(json_schema_extra={"x-kubernetes-list-type": "map", "x-kubernetes-list-map-keys": ["name"]}),
    ] = Field(default=(), max_length=32, description="How each public name stands.")
    served_names: str | None = Field(
        default=None, max_length=8192, description="The accepted names, joined by commas; the NAMES column."
    )
    gpu: str | None = Field(
        default=None,
        max_length=200,
        description="What a replica holds, e.g. 1 nvidia.com/gpu; the GPU column.",
    )
    url: str | None = Field(default=None, max_length=2048, description="Where clients reach the model.")


_NAME_ADVICE = (
    f"begin with a lower-case letter, then at most {RESOURCE_NAME_MAX_LENGTH - 1} lower-case letters, digits "
    "and -, e.g. bge-reranker-v2-m3; other names belong in spec.names"
)


class RerankModel(ApiModel):
    """A reranking model to serve: where it comes from, how it scores, and how many replicas answer."""

    rules: ClassVar[tuple[Rule, ...]] = (
        Rule(
            f"self.metadata.name.size() <= {RESOURCE_NAME_MAX_LENGTH} && "
            f"self.metadata.name.matches('{RESOURCE_NAME_PATTERN}')",
            f"This cannot name a Service: {_NAME_ADVICE}",
            field="metadata.name",
            wording=f'"\'" + self.metadata.name + "\' cannot name a Service: {_NAME_ADVICE}"',
        ),
    )

    api_version: Literal["rerank.dev/v1alpha1"] = API_VERSION
    kind: Literal["RerankModel"] = "RerankModel"
    metadata: ObjectMeta
    spec: RerankModelSpec = Field(description="What is wanted of the model.")
    status: RerankModelStatus | None = Field(default=None, description="How the model stands.")

    @property
    def public_names(self) -> tuple[str, ...]:
        """The names that clients may send as `model`."""
        return self.spec.names or (self.metadata.name,)

"""RerankConsumer: who may call which models, and how fast."""

from typing import Annotated, ClassVar, Literal

from pydantic import Field

from rerank_api.names import (
    CONSUMER_NAME_MAX_LENGTH,
    CONSUMER_NAME_PATTERN,
    MODEL_NAME_MAX_LENGTH,
    MODEL_NAME_PATTERN,
)
from rerank_api.resource import API_VERSION, ApiModel, ObjectMeta, SecretReference
from rerank_api.rules import Rule, Ruled, between, text_rule

ALL_MODELS = "*"

_NAME_ADVICE = (
    f"use at most {CONSUMER_NAME_MAX_LENGTH} lower-case letters, digits and the signs - and . with a letter "
    "or digit at both ends, e.g. search"
)

Grant = Annotated[
    str,
    Field(max_length=MODEL_NAME_MAX_LENGTH),
    Ruled(
        text_rule(
            f"self == '*' || self.matches('{MODEL_NAME_PATTERN}')",
            "is not a model name: write a public name of a model, e.g. bge-reranker-v2-m3, or * for all",
        )
    ),
]

MAX_PER_MINUTE = 1_000_000_000
PerMinute = Annotated[int, Ruled(between(1, MAX_PER_MINUTE, 600))]


class Limits(ApiModel):
    """How fast a consumer may call, over all of its models together."""

    requests_per_minute: PerMinute | None = Field(
        default=None, description="Most requests a minute; no limit by default."
    )
    tokens_per_minute: PerMinute | None = Field(
        default=None,
        description="Most tokens a minute, counted as in the answers' usage; no limit by default.",
    )


class RerankConsumerSpec(ApiModel):
    """Who a consumer is and what it may do."""

    key_secret: SecretReference = Field(
        description="Secret with the consumer's API keys, or their sha256 digests, in the same namespace."
    )
    models: Annotated[
        tuple[Grant, ...],
        Ruled(
            Rule(
                "self.all(name, self.exists_one(other, other == name))",
                "Give each name once, e.g. models: [bge-reranker-v2-m3]",
            ),
            Rule("!('*' in self) || self.size() == 1", "Write '*' alone: it stands for all models"),
        ),
    ] = Field(
        min_length=1,
        max_length=256,
        description="Public names of the models that the consumer may call, or '*' alone for all.",
    )
    limits: Limits = Field(default=Limits(), description="How fast the consumer may call.")


class RerankConsumer(ApiModel):
    """A caller of the gateway: its key, the models that it may call, and how fast."""

    rules: ClassVar[tuple[Rule, ...]] = (
        Rule(
            f"self.metadata.name.size() <= {CONSUMER_NAME_MAX_LENGTH} && "
            f"self.metadata.name.matches('{CONSUMER_NAME_PATTERN}')",
            f"This cannot name a consumer: {_NAME_ADVICE}",
            field="metadata.name",
            wording=f'"\'" + self.metadata.name + "\' cannot name a consumer: {_NAME_ADVICE}"',
        ),
    )

    api_version: Literal["rerank.dev/v1alpha1"] = API_VERSION
    kind: Literal["RerankConsumer"] = "RerankConsumer"
    metadata: ObjectMeta
    spec: RerankConsumerSpec = Field(description="Who the consumer is and what it may do.")

    def may_call(self, name: str) -> bool:
        """Say whether the consumer may call the model of this public name."""
        return ALL_MODELS in self.spec.models or name in self.spec.models

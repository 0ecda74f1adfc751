"""What both custom resources have in common: their group, their metadata and how strictly they are read."""

from collections.abc import Mapping
from typing import Annotated, ClassVar, Final

from pydantic import ConfigDict, Field, GetJsonSchemaHandler, JsonValue
from pydantic.json_schema import JsonSchemaValue
from pydantic_core import CoreSchema

from rerank_api.names import MODEL_NAME_MAX_LENGTH, MODEL_NAME_PATTERN
from rerank_api.rules import Rule, Ruled, pattern_rule, text_rule, with_rules
from rerank_api.status import CamelModel

GROUP: Final = "rerank.dev"
VERSION: Final = "v1alpha1"
API_VERSION: Final = "rerank.dev/v1alpha1"


class ApiModel(CamelModel):
    """A part of a custom resource: frozen, camelCase, and closed to fields that it does not know."""

    model_config = ConfigDict(extra="forbid")

    rules: ClassVar[tuple[Rule, ...]] = ()
    """What must hold between this part's fields."""

    @classmethod
    def __get_pydantic_json_schema__(
        cls, core_schema: CoreSchema, handler: GetJsonSchemaHandler, /
    ) -> JsonSchemaValue:
        """Add the rules to the schema that a CustomResourceDefinition is made from."""
        schema = handler.resolve_ref_schema(handler(core_schema))
        return with_rules(schema, cls.rules)


class ObjectMeta(ApiModel):
    """Kubernetes' own metadata; the fields that only a cluster fills in are accepted and left alone."""

    name: str = Field(min_length=1, max_length=253)
    namespace: str | None = None
    generate_name: str | None = None
    labels: Mapping[str, str] = Field(default_factory=dict)
    annotations: Mapping[str, str] = Field(default_factory=dict)
    uid: str | None = None
    generation: int | None = None
    resource_version: str | None = None
    creation_timestamp: str | None = None
    deletion_timestamp: str | None = None
    deletion_grace_period_seconds: int | None = None
    finalizers: tuple[str, ...] = ()
    owner_references: tuple[Mapping[str, JsonValue], ...] = ()
    managed_fields: tuple[Mapping[str, JsonValue], ...] = ()
    self_link: str | None = None


class SecretReference(ApiModel):
    """A Secret in the same namespace."""

    name: str = Field(min_length=1, max_length=253, description="Name of a Secret in the same namespace.")


PublicName = Annotated[
    str,
    Field(max_length=MODEL_NAME_MAX_LENGTH),
    Ruled(
        pattern_rule(
            MODEL_NAME_PATTERN,
            "is not a model name: use letters, digits and . _ - : @ / with a letter or digit at both ends, "
            "e.g. BAAI/bge-reranker-v2-m3",
        )
    ),
]

Duration = Annotated[
    str,
    Field(min_length=1, max_length=32),
    Ruled(
        pattern_rule(
            "^(?:[0-9]+(?:[.][0-9]+)?(?:ms|s|m|h))+$", "is not a duration: write e.g. 90s, 10m or 1h30m"
        )
    ),
]

AbsolutePath = Annotated[
    str,
    Field(max_length=1024),
    Ruled(text_rule("self.startsWith('/')", "is not an absolute path: begin it with /, e.g. /models/bge")),
]

InnerPath = Annotated[
    str,
    Field(max_length=1024),
    Ruled(
        text_rule(
            "!self.startsWith('/') && !self.matches('(^|/)[.][.](/|$)')",
            "leaves the volume: write a path inside it, without a leading / and without .., e.g. models/bge",
        )
    ),
]

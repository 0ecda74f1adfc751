"""What a platform engineer may say about a model's pods, in Kubernetes' own words."""

import re
from collections.abc import Mapping
from typing import Annotated, ClassVar, Literal

from pydantic import BeforeValidator, ConfigDict, Field, JsonValue
from pydantic_core import PydanticCustomError

from rerank_api.resource import AbsolutePath, ApiModel
from rerank_api.rules import Rule, exactly_one

QUANTITY_PATTERN = "^[+-]?(?:[0-9]+(?:[.][0-9]*)?|[.][0-9]+)(?:[KMGTPE]i|[numkMGTPE]|[eE][+-]?[0-9]+)?$"
"""Kubernetes' resource.Quantity, as its documentation gives the grammar."""


_QUANTITY = re.compile(QUANTITY_PATTERN)


def _is_quantity(value: object) -> object:
    if isinstance(value, str) and _QUANTITY.fullmatch(value):
        return value
    if isinstance(value, int) and not isinstance(value, bool):
        return value
    raise PydanticCustomError("quantity", "not a quantity")


Quantity = Annotated[
    int | str,
    BeforeValidator(_is_quantity),
    Field(json_schema_extra={"x-kubernetes-int-or-string": True, "pattern": QUANTITY_PATTERN}),
]

FreeForm = Annotated[
    Mapping[str, JsonValue], Field(json_schema_extra={"x-kubernetes-preserve-unknown-fields": True})
]
"""A part that Kubernetes itself checks when the pod is made; any fields may stand in it."""

Named = Field(json_schema_extra={"x-kubernetes-list-type": "map", "x-kubernetes-list-map-keys": ["name"]})
"""A list whose items are told apart by `name`, so that two writers may each own items of it."""

Labels = Annotated[Mapping[str, str], Field(max_length=64)]


class ClaimReference(ApiModel):
    """One of the pod's resource claims."""

    name: str = Field(min_length=1, max_length=63, description="Name of an entry of template.resourceClaims.")
    request: str | None = Field(default=None, max_length=63, description="One request of the claim.")


class Resources(ApiModel):
    """What a replica asks for and may use."""

    limits: Mapping[str, Quantity] = Field(
        default_factory=dict,
        description="What a replica may use at most, e.g. nvidia.com/gpu: 1, memory: 16Gi.",
    )
    requests: Mapping[str, Quantity] = Field(
        default_factory=dict, description="What a replica is promised, e.g. cpu: 2, memory: 8Gi."
    )
    claims: Annotated[tuple[ClaimReference, ...], Named] = Field(
        default=(), max_length=16, description="Devices that the container gets from template.resourceClaims."
    )


class EmptyDir(ApiModel):
    """Scratch space that lives and dies with the pod."""

    size_limit: Quantity | None = Field(
        default=None, description="Space that the download may take, e.g. 20Gi."
    )
    medium: Literal["Memory"] | None = Field(
        default=None, description="Memory keeps it in RAM; by default on disk."
    )


class Cache(ApiModel):
    """Where downloaded files are kept: exactly one of the fields is set."""

    rules: ClassVar[tuple[Rule, ...]] = (
        exactly_one(
            ("claim", "hostPath", "emptyDir"),
            "Give exactly one of claim, hostPath and emptyDir, e.g. cache: {claim: models}",
        ),
    )

    claim: str | None = Field(
        default=None,
        min_length=1,
        max_length=253,
        description="Name of a PersistentVolumeClaim in the same namespace; replicas share it.",
    )
    host_path: AbsolutePath | None = Field(
        default=None,
        description="Folder of the node's own disk; pods on one node share it, e.g. /var/cache/rerank.",
    )
    empty_dir: EmptyDir | None = Field(
        default=None, description="Scratch space of the pod; every new pod downloads again."
    )


class Toleration(ApiModel):
    """A taint that the pods bear."""

    key: str | None = Field(default=None, max_length=317, description="The taint's key; none means all keys.")
    operator: Literal["Exists", "Equal"] | None = Field(
        default=None, description="Exists ignores the value; Equal, the default, compares it."
    )
    value: str | None = Field(default=None, max_length=63, description="The taint's value.")
    effect: Literal["NoSchedule", "PreferNoSchedule", "NoExecute"] | None = Field(
        default=None, description="The taint's effect; none means all effects."
    )
    toleration_seconds: int | None = Field(
        default=None, description="How long a NoExecute taint is borne, in seconds; forever by default."
    )


class ResourceClaim(ApiModel):
    """A device that dynamic resource allocation hands to the pods."""

    rules: ClassVar[tuple[Rule, ...]] = (
        exactly_one(
            ("resourceClaimName", "resourceClaimTemplateName"),
            "Give exactly one of resourceClaimName and resourceClaimTemplateName, "
            "e.g. {name: gpu, resourceClaimTemplateName: one-gpu}",
        ),
    )

    name: str = Field(min_length=1, max_length=63, description="What resources.claims calls the device.")
    resource_claim_name: str | None = Field(
        default=None, min_length=1, max_length=253, description="A ResourceClaim that all pods share."
    )
    resource_claim_template_name: str | None = Field(
        default=None,
        min_length=1,
        max_length=253,
        description="A template; each pod gets a claim of its own.",
    )


class EnvironmentVariable(ApiModel):
    """A variable of the server's environment."""

    name: str = Field(min_length=1, max_length=253, description="Name of the variable, e.g. HF_ENDPOINT.")
    value: str | None = Field(default=None, max_length=32768, description="Its value.")
    value_from: FreeForm | None = Field(
        default=None, description="Where its value comes from: secretKeyRef, configMapKeyRef, fieldRef …"
    )


class VolumeMount(ApiModel):
    """Where the server sees a volume."""

    name: str = Field(min_length=1, max_length=63, description="Name of an entry of template.volumes.")
    mount_path: str = Field(min_length=1, max_length=1024, description="Path in the container.")
    sub_path: str | None = Field(default=None, max_length=1024, description="Folder in the volume.")
    read_only: bool = Field(default=False, description="Whether the server may only read it.")


class ImagePullSecret(ApiModel):
    """A Secret with a registry's credentials."""

    name: str = Field(min_length=1, max_length=253, description="Name of a Secret in the same namespace.")


class Volume(ApiModel):
    """A volume of the pods: a name, and Kubernetes' own description of it."""

    model_config = ConfigDict(extra="allow", json_schema_extra={"x-kubernetes-preserve-unknown-fields": True})

    name: str = Field(min_length=1, max_length=63, description="What volumeMounts call the volume.")


class PodTemplate(ApiModel):
    """What is added to the pods that the operator builds; the model's profile comes first, this wins."""

    labels: Labels = Field(default_factory=dict, description="Labels of the pods.")
    annotations: Labels = Field(default_factory=dict, description="Annotations of the pods.")
    image: str | None = Field(
        default=None, min_length=1, max_length=512, description="Image of the server in place of the chart's."
    )
    image_pull_policy: Literal["Always", "IfNotPresent", "Never"] | None = Field(
        default=None, description="When the image is pulled."
    )
    image_pull_secrets: Annotated[tuple[ImagePullSecret, ...], Named] = Field(
        default=(), max_length=16, description="Secrets with the registry's credentials."
    )
    service_account_name: str | None = Field(
        default=None, min_length=1, max_length=253, description="Service account that the pods run as."
    )
    runtime_class_name: str | None = Field(
        default=None, min_length=1, max_length=253, description="Container runtime, e.g. nvidia."
    )
    priority_class_name: str | None = Field(
        default=None, min_length=1, max_length=253, description="Priority of the pods."
    )
    scheduler_name: str | None = Field(
        default=None, min_length=1, max_length=253, description="Scheduler that places the pods."
    )
    node_selector: Labels = Field(default_factory=dict, description="Labels that a node must have.")
    tolerations: tuple[Toleration, ...] = Field(
        default=(), max_length=64, description="Taints that the pods bear, e.g. of GPU nodes."
    )
    affinity: FreeForm | None = Field(
        default=None, description="Which nodes and neighbours the pods want: Kubernetes' pod.spec.affinity."
    )
    topology_spread_constraints: tuple[FreeForm, ...] = Field(
        default=(), max_length=16, description="How replicas spread: Kubernetes' topologySpreadConstraints."
    )
    resource_claims: Annotated[tuple[ResourceClaim, ...], Named] = Field(
        default=(), max_length=16, description="Devices from dynamic resource allocation."
    )
    env: Annotated[tuple[EnvironmentVariable, ...], Named] = Field(
        default=(), max_length=128, description="Variables of the server's environment."
    )
    env_from: tuple[FreeForm, ...] = Field(
        default=(), max_length=16, description="ConfigMaps and Secrets whose keys all become variables."
    )
    volumes: Annotated[tuple[Volume, ...], Named] = Field(
        default=(), max_length=64, description="Volumes of the pods: Kubernetes' pod.spec.volumes."
    )
    volume_mounts: tuple[VolumeMount, ...] = Field(
        default=(), max_length=64, description="Where the server sees them."
    )
    pod_security_context: FreeForm | None = Field(
        default=None, description="Kubernetes' pod.spec.securityContext."
    )
    security_context: FreeForm | None = Field(
        default=None, description="Kubernetes' securityContext of the server's container."
    )
    termination_grace_period_seconds: int | None = Field(
        default=None, ge=0, description="Seconds that a pod has to finish its requests when it is stopped."
    )

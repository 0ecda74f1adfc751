"""What the operator is told from outside: the chart writes it as one YAML file."""

import re
from collections.abc import Mapping
from pathlib import Path
from typing import Literal, Self

import yaml
from pydantic import ConfigDict, Field, JsonValue, ValidationError, model_validator

from rerank_api.pod import EnvironmentVariable, ImagePullSecret, PodTemplate, Resources
from rerank_api.status import CamelModel
from rerank_operator.errors import SettingsError


class Part(CamelModel):
    """A part of the settings: closed, so that a misspelt value is refused and not ignored."""

    model_config = ConfigDict(extra="forbid")


class Rollout(Part):
    """How replicas are replaced: Kubernetes' `rollingUpdate`, as numbers or percentages."""

    max_surge: int | str = 1
    max_unavailable: int | str = 0


class ServerSettings(Part):
    """What every model's pods have, unless its profile or the model says otherwise."""

    image: str = Field(min_length=1)
    image_pull_policy: Literal["Always", "IfNotPresent", "Never"] = "IfNotPresent"
    image_pull_secrets: tuple[ImagePullSecret, ...] = ()
    resources: Resources = Resources()
    env: tuple[EnvironmentVariable, ...] = ()
    rollout: Rollout = Rollout()


class GatewaySettings(Part):
    """Where the gateway is: models with a host of their own are wired to it."""

    namespace: str = Field(min_length=1)
    service: str = Field(min_length=1)
    port: int = Field(default=80, ge=1, le=65535)
    scheme: Literal["http", "https"] = "http"
    """What is spoken at that port."""
    url: str = Field(min_length=1)
    """Base URL for clients inside the cluster, as `http://rerank-gateway.rerank.svc`."""


class ParentReference(Part):
    """A Gateway (gateway.networking.k8s.io) that a host's HTTPRoute is attached to."""

    name: str = Field(min_length=1)
    namespace: str | None = None
    section_name: str | None = None
    port: int | None = Field(default=None, ge=1, le=65535)


class IngressSettings(Part):
    """How `spec.ingress.host` becomes reachable."""

    kind: Literal["Ingress", "HTTPRoute"] = "Ingress"
    class_name: str | None = None
    annotations: Mapping[str, str] = Field(default_factory=dict)
    tls_secret: str | None = None
    """Secret with the certificate for every host; without one the hosts answer plain HTTP."""
    parent_refs: tuple[ParentReference, ...] = ()
    timeout: str | None = "310s"
    """Of HTTPRoutes: longer than the gateway's own, which is 300 s where nothing else is set.

    None leaves it to the controller, often 15 s.
    """

    @model_validator(mode="after")
    def _routes_have_parents(self) -> Self:
        if self.kind == "HTTPRoute" and not self.parent_refs:
            raise ValueError("an HTTPRoute is attached to a Gateway: name one in parentRefs")
        return self


class Profile(Part):
    """A named set of resources and pod settings that a model picks with `spec.profile`."""

    resources: Resources = Resources()
    template: PodTemplate = PodTemplate()


class Settings(Part):
    """Everything that the operator does not learn from the API server."""

    namespaces: tuple[str, ...] = ()
    """Namespaces to watch; none means all."""
    server: ServerSettings
    gateway: GatewaySettings
    ingress: IngressSettings = IngressSettings()
    profiles: Mapping[str, Profile] = Field(default_factory=dict)


def read(path: Path) -> Settings:
    """Read a settings file. Raises `SettingsError` with every value that is wrong, and where it stands."""
    try:
        return parse(path.read_text(encoding="utf-8"))
    except (OSError, UnicodeDecodeError) as error:
        raise SettingsError(f"the settings {path} cannot be read: {error}") from error
    except SettingsError as error:
        raise SettingsError(f"the settings {path} are wrong: {error}") from None


def parse(text: str) -> Settings:
    """Read the text of a settings file. Raises `SettingsError`."""
    try:
        content: JsonValue = yaml.safe_load(text)
    except yaml.YAMLError as error:
        raise SettingsError(f"no YAML: {' '.join(str(error).split())}") from None
    try:
        return Settings.model_validate(content, by_alias=True, by_name=False)
    except ValidationError as error:
        raise SettingsError("; ".join(_sentences(error))) from None


def _sentences(error: ValidationError) -> list[str]:
    return [
        f"{'.'.join(map(str, one['loc'])) or 'the file'}: {re.sub('^Value error, ', '', one['msg'])}"
        for one in error.errors(include_url=False, include_context=False, include_input=False)
    ]

"""Whether a model can be built at all, and what it is once its profile and the chart's defaults are in."""

import json
from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any

from rerank_api.manifests import Document, read_text
from rerank_api.pod import PodTemplate, Resources, VolumeMount
from rerank_api.problems import ManifestError, Problem
from rerank_api.rerank_model import RerankModel
from rerank_api.source import FileSource, Source
from rerank_api.support import refusals
from rerank_operator.keys import Key, Manifest
from rerank_operator.settings import Profile, Settings

LAYER = "the operator"

MAX_MANIFEST_BYTES = 200 * 1024
"""Kubernetes takes 256 KiB of annotations, and a pod's manifest travels in one."""

ACTED_ON = frozenset(
    {
        "spec.cache",
        "spec.ingress",
        "spec.names",
        "spec.profile",
        "spec.replicas",
        "spec.resources",
        "spec.scoring",
        "spec.source.hostPath",
        "spec.source.huggingFace",
        "spec.source.package",
        "spec.source.pvc",
        "spec.template",
        "spec.verify",
        "spec.weight",
    }
)

SENTENCES = {
    "spec.source.file": (
        "a folder of one machine is for the local runner: give hostPath or pvc, which pods can mount"
    ),
    "spec.source.s3": (
        "the operator does not act on this source yet: copy the model to a volume and give source.pvc"
    ),
    "spec.source.oci": (
        "the operator does not act on this source yet: copy the model to a volume and give source.pvc"
    ),
    "spec.autoscaling": "the operator runs as many replicas as spec.replicas says: give that instead",
}


@dataclass(frozen=True)
class Model:
    """A model that can be built: what the user wrote, over the profile, over the chart's defaults."""

    key: Key
    uid: str
    manifest: RerankModel
    resources: Resources
    template: PodTemplate

    @property
    def replicas(self) -> int:
        """Return how many replicas shall run."""
        return self.manifest.spec.replica_range[0]


@dataclass(frozen=True)
class Refused:
    """A model that cannot be built, and what its author has to change."""

    message: str


Verdict = Model | Refused


def accept(raw: Manifest, settings: Settings) -> Verdict:
    """Read a model as the API server has it: its fields, then what only this cluster can know."""
    metadata = raw["metadata"]
    # Only what the author wrote: the rest of the metadata and the status say nothing about what to build.
    written = {
        "apiVersion": raw["apiVersion"],
        "kind": raw["kind"],
        "metadata": {"name": metadata["name"], "namespace": metadata["namespace"]},
        "spec": raw.get("spec", {}),
    }
    try:
        [document] = read_text(json.dumps(written), "")
    except ManifestError as error:
        return Refused(_sentence(error.problems))
    problems = refusals(document, ACTED_ON, LAYER, SENTENCES)
    if problems:
        return Refused(_sentence(problems))
    return _with_profile(document, Key(metadata["namespace"], metadata["name"]), metadata["uid"], settings)


def _with_profile(document: Document, key: Key, uid: str, settings: Settings) -> Verdict:
    model = document.resource
    assert isinstance(model, RerankModel)  # noqa: S101  # the watch is for RerankModels alone
    profile = Profile()
    if model.spec.profile is not None:
        found = settings.profiles.get(model.spec.profile)
        if found is None:
            return Refused(_unknown_profile(model.spec.profile, settings.profiles))
        profile = found
    if len(server_manifest(model).encode()) > MAX_MANIFEST_BYTES:
        return Refused(
            f"spec.verify.goldens: the manifest is larger than {MAX_MANIFEST_BYTES // 1024} KiB, and has to "
            "travel with each pod: give fewer or shorter goldens."
        )
    return Model(
        key=key,
        uid=uid,
        manifest=model,
        resources=_layered(model.spec.resources, profile.resources, settings.server.resources),
        template=_merged(profile.template, model.spec.template or PodTemplate()),
    )


def server_manifest(model: RerankModel) -> str:
    """Return the manifest for one server: what does not concern a single server is left out, so that a change
    to it replaces no pod."""
    spec = model.spec.model_copy(
        update={
            "source": _inside_the_pod(model.spec.source), "replicas": None, "resources": None,
            "profile": None, "cache": None, "ingress": None, "template": None, "weight": None,
        }
    )  # fmt: skip
    content = {
        "apiVersion": model.api_version,
        "kind": model.kind,
        "metadata": {"name": model.metadata.name},
        "spec": spec.model_dump(mode="json", by_alias=True, exclude_none=True, exclude_defaults=True),
    }
    return json.dumps(content, sort_keys=True, ensure_ascii=False, separators=(",", ":"))


def mounted(path: str) -> str:
    """Return where a pod sees a folder of its node: apart from its own, which may have the same name."""
    return f"/host{path}"


def _inside_the_pod(source: Source) -> Source:
    """Return the source as a server in a pod finds it."""
    if source.host_path is None:
        return source
    return Source(file=FileSource(path=mounted(source.host_path.path)))


def _layered(*layers: Resources | None) -> Resources:
    """Join what several layers say, the first being the strongest.

    Each resource is settled by the first layer that mentions it, limit and request together: a limit of one
    layer under the request of another would make a pod that no API server takes.
    """
    limits: dict[str, int | str] = {}
    requests: dict[str, int | str] = {}
    settled: set[str] = set()
    given = [layer for layer in layers if layer is not None]
    for layer in given:
        limits |= {name: value for name, value in layer.limits.items() if name not in settled}
        requests |= {name: value for name, value in layer.requests.items() if name not in settled}
        settled |= layer.limits.keys() | layer.requests.keys()
    claims = next((layer.claims for layer in given if layer.claims), ())
    return Resources(limits=limits, requests=requests, claims=claims)


def _merged(profile: PodTemplate, model: PodTemplate) -> PodTemplate:
    """Lay the model's own template over the profile's: maps join, lists join, the rest is replaced."""
    # Both were read. Together a list may be longer than a manifest may write it.
    return PodTemplate.model_construct(
        **{field: _over(getattr(profile, field), getattr(model, field)) for field in PodTemplate.model_fields}
    )


def _over(below: object, above: object) -> Any:
    if isinstance(below, Mapping) and isinstance(above, Mapping):
        return {**below, **above}
    if isinstance(below, tuple) and isinstance(above, tuple):
        replaced = {_identity(one) for one in above} - {None}
        return (*(one for one in below if _identity(one) not in replaced), *above)
    return below if above is None else above


def _identity(item: object) -> str | None:
    """Return what tells an item of a list apart; None where each stands for itself, as tolerations do."""
    if isinstance(item, VolumeMount):
        return item.mount_path  # one volume may be mounted at several places
    name = getattr(item, "name", None)
    return name if isinstance(name, str) else None


def _unknown_profile(name: str, profiles: Mapping[str, Profile]) -> str:
    known = f"it has {', '.join(sorted(profiles))}" if profiles else "it has none"
    return (
        f"spec.profile: the chart has no profile {name!r} ({known}): name one of those, remove the field and "
        "give spec.resources, or add the profile to the chart's values."
    )


def _sentence(problems: tuple[Problem, ...]) -> str:
    told = "; ".join(_told(one) for one in problems)
    return told if told.endswith("?") else f"{told}."


def _told(problem: Problem) -> str:
    message = problem.message.removesuffix(".")
    return f"{problem.field}: {message}" if problem.field else message

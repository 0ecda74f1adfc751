"""One namespace of a cluster, asked with kubectl."""

import json
import subprocess
import time
from collections.abc import Callable
from dataclasses import dataclass
from typing import Any, TypeVar

import httpx
import yaml

from tests.cluster.onenode.cluster import Cluster
from tests.cluster.onenode.errors import OneNodeError

BUILT = "deployments,replicasets,pods,services,endpointslices,poddisruptionbudgets,ingresses"
"""All that may be built for a model, as kubectl takes kinds."""
READY_S = 600.0
"""Enough for a server on two slow and busy cores to import torch, and for the longest pause of the kubelet
before it tries an image again, which is five minutes. kubectl itself gives up later."""

UNSEEN = (OneNodeError, httpx.HTTPError, json.JSONDecodeError, subprocess.TimeoutExpired)
"""What a look may end with that is too early, or meets a machine with too much to do: it is no result."""

Result = TypeVar("Result")


class WaitError(AssertionError):
    """Something did not become so in time."""


@dataclass(frozen=True)
class Kube:
    """kubectl in one namespace."""

    cluster: Cluster
    namespace: str

    def create(self) -> None:
        """Make the namespace, and wait until pods can be made in it: they need its default ServiceAccount."""
        self.cluster.kubectl("create", "namespace", self.namespace)
        eventually(lambda: self.find("serviceaccount", "default"), f"a ServiceAccount in {self.namespace}")

    def __call__(self, *arguments: str, given: str | None = None) -> str:
        """Return what kubectl says; raises `OneNodeError` with its words if it fails."""
        return self.cluster.kubectl("--namespace", self.namespace, *arguments, given=given)

    def apply(self, *manifests: dict[str, Any]) -> None:
        """Apply as a user does."""
        self("apply", "--filename", "-", given=yaml.safe_dump_all(manifests))

    def find(self, kind: str, name: str) -> dict[str, Any] | None:
        """Return an object; None where there is none."""
        text = self("get", kind, name, "--output", "json", "--ignore-not-found")
        return json.loads(text) if text.strip() else None

    def get(self, kind: str, name: str) -> dict[str, Any]:
        """Return an object that has to be there."""
        found = self.find(kind, name)
        assert found is not None, f"there is no {kind} {name} in {self.namespace}"
        return found

    def all(self, kinds: str, selector: str | None = None) -> list[dict[str, Any]]:
        """Return all objects of some kinds, joined by commas."""
        chosen = [] if selector is None else ["--selector", selector]
        return list(json.loads(self("get", kinds, *chosen, "--output", "json"))["items"])

    def patch(self, kind: str, name: str, patch: dict[str, Any]) -> None:
        """Change some fields, as another hand does."""
        self("patch", kind, name, "--type", "merge", "--patch", json.dumps(patch))

    def status(self, model: str) -> dict[str, Any]:
        """Return a model's status; empty where there is none yet."""
        found = self.find("rerankmodel", model)
        return {} if found is None else dict(found.get("status") or {})

    def condition(self, model: str, wanted: str) -> dict[str, Any]:
        """Return one of a model's conditions; empty where it was not said yet."""
        conditions = self.status(model).get("conditions", ())
        return next((one for one in conditions if one["type"] == wanted), {})

    def ready(self, model: str, seconds: float = READY_S) -> dict[str, Any]:
        """Wait as the README says, and return the status that ended the wait."""
        wanted = ("--for=condition=Ready", f"--timeout={seconds:.0f}s", "--output", "json")
        try:
            told = self("wait", f"rerankmodel/{model}", *wanted)
        except (OneNodeError, subprocess.TimeoutExpired) as error:
            raise WaitError(f"{error}; its status: {json.dumps(self.status(model), indent=1)}") from None
        return dict(json.loads(told)["status"])

    def says(
        self, model: str, reason: str, words: str = "", *, pods: int | None = None, seconds: float = READY_S
    ) -> dict[str, Any]:
        """Wait until a model's Ready condition has a reason, for the present manifest; return the status.

        The first words with a reason may be of what passes, as of a node that is not ready for a moment: so
        those that are meant are waited for too, and so many `pods`, which another controller counts.
        """

        def said() -> dict[str, Any] | None:
            found = self.get("rerankmodel", model)
            status = dict(found.get("status") or {})
            now = found["metadata"]["generation"]
            conditions = [one for one in status.get("conditions", ()) if one["type"] == "Ready"]
            reasons = [one["reason"] for one in conditions if one.get("observedGeneration") == now]
            is_counted = pods is None or status.get("replicas") == pods
            is_said = reasons == [reason] and words in status["message"] and is_counted
            return status if is_said else None

        what = f"{model} to say {reason}: {words}"
        return eventually(said, what, lambda: self.status(model), seconds)

    def pods(self, model: str) -> list[dict[str, Any]]:
        """Return a model's pods, those that are ending included."""
        return self.all("pods", f"rerank.dev/model={model}")

    def pod(self, model: str) -> dict[str, Any]:
        """Return the pod of a model of one replica, once what it replaces has begun to end."""

        def only() -> dict[str, Any] | None:
            found = [pod for pod in self.pods(model) if "deletionTimestamp" not in pod["metadata"]]
            found = [pod for pod in found if pod["status"]["phase"] != "Failed"]  # its node sent it away
            return found[0] if len(found) == 1 else None

        return eventually(only, f"{model} to have one pod", lambda: self.pods(model), READY_S)

    def events(self, model: str) -> list[dict[str, Any]]:
        """Return the events about a model, the oldest first."""
        found = [event for event in self.all("events") if event["involvedObject"]["name"] == model]
        found = [event for event in found if event["involvedObject"]["kind"] == "RerankModel"]
        return sorted(found, key=lambda event: event.get("eventTime") or "")


def eventually(
    look: Callable[[], Result | None],
    what: str,
    else_show: Callable[[], object] | None = None,
    seconds: float = 300.0,
    every: float = 0.25,
) -> Result:
    """Look until there is something to see, and return it. A look that fails sees nothing."""
    give_up = time.monotonic() + seconds
    while True:
        seen, failure = _looked(look)
        if seen:
            return seen
        if time.monotonic() > give_up:
            shown = "" if else_show is None else f"; now: {_shown(else_show)}"
            raise WaitError(f"waited {seconds:.0f} s for {what}{shown}") from failure
        time.sleep(every)


def _looked(look: Callable[[], Result | None]) -> tuple[Result | None, Exception | None]:
    try:
        return look(), None
    except UNSEEN as error:
        return None, error


def _shown(show: Callable[[], object]) -> str:
    try:
        return json.dumps(show(), indent=1, default=str)
    except UNSEEN as error:
        return repr(error)

"""A reconciler with everything around it, for tests that play a story."""

import asyncio
from collections.abc import Callable
from datetime import datetime, timedelta
from typing import Any

from rerank_api.rerank_model import RerankModelStatus
from rerank_api.status import ConditionType
from rerank_operator.keys import Key
from rerank_operator.observed import FINGERPRINT
from rerank_operator.reconcile import Reconciler
from rerank_operator.settings import Settings
from rerank_operator.world import World
from tests.operator.given import GATEWAY, KEY, NOW, Manifest, model, pod, settings
from tests.operator.in_memory import InMemoryCluster, ToldReports

GATEWAY_SERVICE: Manifest = {
    "apiVersion": "v1",
    "kind": "Service",
    "metadata": {"name": "rerank-gateway", "namespace": "rerank"},
    "spec": {"clusterIP": GATEWAY},
}
HOST = {"ingress": {"host": "bge.example.com"}}


class Stage:
    """A reconciler with everything around it; the watches tell at once what the cluster is made to hold."""

    def __init__(self, by: Settings | None = None) -> None:
        self.world = World()
        self.cluster = InMemoryCluster()
        self.reports = ToldReports()
        self.now = NOW
        self.reconciler = Reconciler(
            self.world, self.cluster, self.reports, by or settings(), "rerank-operator-1", self._now
        )

    def _now(self) -> datetime:
        return self.now

    def has(self, *manifests: Manifest) -> "Stage":
        """Have the cluster hold objects, and the watches tell them."""
        for manifest in manifests:
            self.world.put(self.cluster.put(manifest))
        return self

    def loses(self, kind: str, place: Key = KEY) -> None:
        """Have somebody delete an object, and the watch tell it."""
        self.world.remove(self.cluster.take(kind, place))

    def live(self, kind: str, place: Key = KEY) -> Manifest:
        return self.cluster.objects[kind, place]

    def edit(self, kind: str, change: Callable[[Manifest], object]) -> None:
        """Have somebody change an object, and the watch tell it."""
        manifest = self.live(kind)
        change(manifest)
        self.has(manifest)

    def run(self, key: Key = KEY, *, later: float = 0.0) -> list[str]:
        """Reconcile; return what was done."""
        self.now += timedelta(seconds=later)
        while self.cluster.deleted:
            self.world.remove(self.cluster.deleted.pop())
        before = len(self.cluster.calls)
        self.again = asyncio.run(self.reconciler.reconcile(key))
        return self.cluster.calls[before:]

    def status(self, place: Key = KEY) -> RerankModelStatus:
        return RerankModelStatus.model_validate(
            self.live("RerankModel", place)["status"], by_alias=True, by_name=False
        )

    def said(self, of: ConditionType, place: Key = KEY) -> tuple[str, str, str]:
        """Return the status, the reason and the message of a condition."""
        [found] = [one for one in self.status(place).conditions if one.type is of]
        return found.status, found.reason, found.message

    def pod(self, name: str = "bge-1", **fields: Any) -> Manifest:
        """Return a pod of the template as it is in the cluster."""
        template = self.live("Deployment")["spec"]["template"]["metadata"]["annotations"]
        made = fields.pop("made", pod)
        return made(name, fingerprint=template[FINGERPRINT], **fields)  # type: ignore[no-any-return]


def stage(by: Settings | None = None, **spec: Any) -> Stage:
    """Return a stage with a model on it, and the gateway."""
    return Stage(by).has(model(**spec), GATEWAY_SERVICE)

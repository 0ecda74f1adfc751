"""What Envoy is told of limits: it changes with the limits and the debts, and with nothing else."""

from dataclasses import replace

from rerank_api.keys import digest_of
from rerank_api.status import ModelState
from rerank_gateway import resources, snapshot
from rerank_gateway.budgets import Debt
from rerank_gateway.models import Consumer, ServedModel, View

APP = Consumer("app", (digest_of("a"),), ("*",), 5, 100)


def told(view):
    return snapshot.build(view).resources[resources.EXTENSION_TYPE]


def test_neither_a_key_nor_a_model_nor_a_consumer_without_a_limit_fills_a_bucket():
    before = told(View(consumers=(APP,)))
    model = ServedModel("bge", "rag/bge", ModelState.READY, "", hosts=("bge.test",))
    others = (replace(APP, digests=(digest_of("b"),), models=("bge",)), Consumer("free", (), ("*",)))
    after = told(View((model,), others))
    assert snapshot.changed(before, after) == {"keys", "grants"}
    assert "requests" in snapshot.changed(
        before, told(View(consumers=(replace(APP, requests_per_minute=6),)))
    )


def test_a_debt_changes_one_resource():
    owed = snapshot.build(View(consumers=(APP,)))
    refused = snapshot.refusing(owed, {"app": Debt(100, 7)})
    kind = resources.EXTENSION_TYPE
    assert snapshot.changed(owed.resources[kind], refused.resources[kind]) == {"debts"}
    assert b"owes_tokens_7_100" in refused.resources[kind]["debts"].body
    assert snapshot.refusing(refused, {}).resources == owed.resources

"""Tokens a minute: buckets that may be in debt, and the ledger beside them."""

import pytest

from rerank_api.status import ModelState
from rerank_gateway.budgets import Budgets, Debt
from rerank_gateway.metering import Account, Ledger, Use
from rerank_gateway.models import ServedModel

LIMITS = {"app": 600, "other": 60}
"""Ten a second, and one."""


@pytest.mark.parametrize(
    ("charges", "now", "owing"),
    [
        pytest.param([], 0, {}, id="nothing used"),
        pytest.param([(0, "app", 600)], 0, {}, id="all used, nothing owed"),
        pytest.param([(0, "app", 601)], 0, {"app": Debt(600, 1)}, id="one too many"),
        pytest.param([(0, "app", 700)], 9.9, {"app": Debt(600, 10)}, id="nearly paid"),
        pytest.param([(0, "app", 700)], 10, {}, id="paid"),
        pytest.param([(0, "app", 700), (10, "app", 1)], 10, {"app": Debt(600, 11)}, id="at nought again"),
        pytest.param([(0, "app", 1), (1000, "app", 601)], 1000, {"app": Debt(600, 1001)}, id="no hoarding"),
        pytest.param([(0, "app", 700), (5, "app", 100)], 5, {"app": Debt(600, 20)}, id="answers under way"),
        pytest.param([(0, "app", 700)], -50, {"app": Debt(600, -40)}, id="a clock set back pays nothing"),
        pytest.param([(0, "other", 120), (0, "app", 1)], 0, {"other": Debt(60, 60)}, id="each for itself"),
        pytest.param([(0, "free", 10_000)], 0, {}, id="no limit"),
    ],
)
def test_who_owes_tokens_waits_until_they_are_paid(charges, now, owing):
    budgets = Budgets()
    for at, consumer, tokens in charges:
        budgets.charge(consumer, tokens, LIMITS, at)
    assert budgets.owing(LIMITS, now) == owing


def test_a_limit_that_goes_forgives_and_a_bucket_that_is_full_is_forgotten():
    budgets = Budgets()
    budgets.charge("app", 700, LIMITS, 0)
    assert budgets.next_paid(LIMITS, 0) == 10
    budgets.charge("other", 1, LIMITS, 0)
    assert set(budgets.owing({"other": 60}, 0)) == set()
    assert set(budgets.buckets) == {"other"}
    assert budgets.owing(LIMITS, 1) == {}
    assert not budgets.buckets
    assert budgets.next_paid(LIMITS, 1) is None


def test_the_ledger_has_known_consumers_and_served_names_only():
    model = ServedModel("bge", "rag/bge", ModelState.READY, "")
    ledger = Ledger()
    for use in (
        Use("app", "bge", 200, 3, 40),
        Use("app", "bge", 200, 1, 2),
        Use("app", "", 200, 2, 10, "BGE.test:80"),
        Use("app", "made-up", 404),
        Use("unknown_key", "bge", 401),
        Use("app", "bge", 0),
        Use("app", "bge", 200, 1, 1, sent=True),
    ):
        ledger.add(use, {"app"}, {"bge": model}, {"bge.test": model})
    assert ledger.requests() == {
        Account("", "bge", "4xx"): 1,
        Account("app", "", "4xx"): 1,
        Account("app", "bge", "2xx"): 3,
        Account("app", "bge", "2xx", model.model): 1,
        Account("app", "bge", "none"): 1,
    }
    assert (("app", "bge", ""), 6, 52) in set(ledger.used())

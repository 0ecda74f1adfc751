"""What has changed between two views, and who keeps what is claimed."""

import pytest

from rerank_api.status import ModelState
from rerank_gateway.claims import Claims, Contest, difference
from rerank_gateway.models import ServedModel

A, B, C, D = (ServedModel("n", name, ModelState.READY, "", created=1) for name in "abcd")


@pytest.mark.parametrize(
    ("before", "after", "gone", "came"),
    [
        pytest.param((), (A, B), [], [A, B], id="the first view"),
        pytest.param((A, B), (A, B), [], [], id="nothing"),
        pytest.param((A, B, C), (A, D, C), [B], [D], id="one in the middle is told anew"),
        pytest.param((A, B), (A, B, C), [], [C], id="one more at the end"),
        pytest.param((A, C), (A, B, C), [], [B], id="one more in the middle"),
        pytest.param((A, B, C), (B, C), [A], [], id="the first has gone"),
        pytest.param((A, B, C), (A, B), [C], [], id="the last has gone"),
        pytest.param((A, B, C), (C, A, B), [], [], id="another order"),
        pytest.param((A, B), (C, D), [A, B], [C, D], id="all of them"),
        pytest.param((A, B), (), [A, B], [], id="nothing is left"),
    ],
)
def test_what_has_gone_and_what_has_come(before, after, gone, came):
    assert difference(before, after) == (gone, came)


def test_a_model_that_is_told_anew_without_a_change_takes_its_own_place():
    again = ServedModel("n", "a", ModelState.READY, "", created=1)
    assert again == A
    gone, came = difference((A, B), (again, B))
    assert [(id(old), id(new)) for old, new in zip(gone, came, strict=True)] == [(id(A), id(again))]
    claims = Claims.none("name").after((), [("n", A), ("n", B)]).after([("n", A)], [("n", again)])
    assert claims.claimants == {"n": (again, B)}
    assert claims.contests == {"n": Contest("n", "a", ("b",))}


def test_who_claimed_in_vain_has_the_name_once_the_oldest_goes():
    contested = Claims.none("host").after((), [("h", A), ("h", B)])
    assert contested.in_order() == (Contest("h", "a", ("b",), "host"),)
    settled = contested.after([("h", A)], ())
    assert settled.winners == {"h": B}
    assert settled.in_order() == ()
    assert settled.after([("h", B)], ()).winners == {}
    assert contested.winners == {"h": A}, "what was decided before stays as it was"


def test_without_a_change_the_claims_are_the_same_object():
    claims = Claims.none("name").after((), [("n", A)])
    assert claims.after((), ()) is claims

"""Who answers under a public name that several models claim, and what the others are told."""

import dataclasses

import pytest
from hypothesis import given
from hypothesis import strategies as st

from rerank_api.name_sharing import Claim, advice, holders, share
from rerank_api.names import seniority

NAME = "bge"


def claim(model: str, weight: int | None = None, *, age: int = 0, namespace: str = "rag") -> Claim:
    """Return a claim; the older a model, the larger its age."""
    return Claim(seniority(100 - age, namespace, model), namespace, model, weight)


@pytest.mark.parametrize(
    ("claims", "found"),
    [
        pytest.param([], [], id="nobody"),
        pytest.param([claim("a")], ["rag/a"], id="one"),
        pytest.param([claim("a"), claim("b", age=1)], ["rag/b"], id="no weights: the oldest"),
        pytest.param([claim("b"), claim("a")], ["rag/a"], id="no weights, of one age: the first"),
        pytest.param([claim("a", 95), claim("b", 5)], ["rag/a", "rag/b"], id="both say a weight"),
        pytest.param([claim("a", 5), claim("b", 5, age=1)], ["rag/b", "rag/a"], id="the oldest comes first"),
        pytest.param([claim("a", 95, age=1), claim("b")], ["rag/a"], id="the younger says none"),
        pytest.param([claim("a", age=1), claim("b", 5)], ["rag/a"], id="the older says none"),
        pytest.param([claim("a", 0), claim("b", 0)], ["rag/a", "rag/b"], id="0 is a weight"),
        pytest.param(
            [claim("a", 95, age=1), claim("b", 5, namespace="web")], ["rag/a"], id="in different namespaces"
        ),
        pytest.param(
            [claim("a", 95, age=3), claim("b", age=2), claim("c", 5, age=1), claim("d", 5, namespace="web")],
            ["rag/a", "rag/c"],
            id="who does not share does not end the split of those who do",
        ),
        pytest.param(
            [claim("a", 95, age=1), claim("b", 5), claim("x", age=2, namespace="web")],
            ["web/x"],
            id="an older one that does not share keeps it",
        ),
        pytest.param([claim(NAME, 95, age=1), claim("b", 5)], ["rag/bge"], id="the own name of the oldest"),
        pytest.param(
            [claim("a", 95, age=2), claim(NAME, 5, age=1), claim("c", 5)],
            ["rag/a", "rag/c"],
            id="the own name of a younger one",
        ),
        pytest.param(
            [claim("a", 95, namespace=""), claim("b", 5, namespace="")], ["a", "b"], id="no namespaces"
        ),
    ],
)
def test_a_name_is_the_oldest_models_and_of_whom_it_shares_it_with(
    claims: list[Claim], found: list[str]
) -> None:
    assert [str(one) for one in holders(NAME, claims)] == found


@pytest.mark.parametrize(
    ("holder", "weight"),
    [
        pytest.param(claim("a", 95), 95, id="as it says"),
        pytest.param(claim("a", 0), 0, id="none at 0, also alone"),
        pytest.param(claim("a"), 1, id="all where it says none"),
        pytest.param(claim(NAME, 0), 1, id="all under its own name"),
    ],
)
def test_a_holder_has_its_weights_part(holder: Claim, weight: int) -> None:
    assert share(NAME, holder) == weight


@pytest.mark.parametrize(
    ("loser", "oldest", "told"),
    [
        pytest.param(
            claim("b"),
            claim("a"),
            "choose another in spec.names, remove it there, or set spec.weight on both to share it",
            id="neither says a weight",
        ),
        pytest.param(
            claim("b"),
            claim("a", 95),
            "choose another in spec.names, remove it there, or set spec.weight here too to share it",
            id="only the older does",
        ),
        pytest.param(
            claim("b", 5),
            claim("a"),
            "choose another in spec.names, remove it there, or set spec.weight on rag/a too to share it",
            id="only the younger does",
        ),
        pytest.param(
            claim("b", 5),
            claim("a", 95, namespace="web"),
            "choose another in spec.names, or remove it there; only models of one namespace share a name",
            id="in another namespace",
        ),
        *(
            pytest.param(
                loser,
                oldest,
                "choose another in spec.names, or remove it there; `bge` is a model's own name "
                "(metadata.name), and such are not shared",
                id=whose,
            )
            for whose, loser, oldest in (
                ("the older's own name", claim("b", 5), claim(NAME, 95)),
                ("the younger's own name", claim(NAME, 5), claim("b", 95)),
            )
        ),
    ],
)
def test_who_does_not_get_a_name_is_told_what_to_do(loser: Claim, oldest: Claim, told: str) -> None:
    assert advice(NAME, loser, oldest) == told


CLAIMS = st.lists(
    st.builds(
        claim,
        st.sampled_from([NAME, "a", "b", "c"]),
        st.sampled_from([None, 0, 5]),
        age=st.integers(0, 2),
        namespace=st.sampled_from(["rag", "web"]),
    ),
    unique_by=lambda one: (one.namespace, one.model),
)


@given(CLAIMS, st.randoms())
def test_whom_a_name_belongs_to_does_not_depend_on_the_order_of_claims(
    claims: list[Claim], dice: object
) -> None:
    shuffled = claims.copy()
    dice.shuffle(shuffled)  # type: ignore[attr-defined]
    assert holders(NAME, shuffled) == holders(NAME, claims)


@given(CLAIMS)
def test_only_weighted_models_of_one_namespace_share_and_never_an_own_name(claims: list[Claim]) -> None:
    found = holders(NAME, claims)
    assert (min(claims, key=lambda one: one.seniority) if claims else None) == (found[0] if found else None)
    if len(found) > 1:
        assert len({one.namespace for one in found}) == 1
        assert all(one.weight is not None and one.model != NAME for one in found)


@given(CLAIMS, st.sampled_from([None, 0, 5]), st.sampled_from(["rag", "web"]))
def test_a_newcomer_takes_a_name_from_nobody(claims: list[Claim], weight: int | None, namespace: str) -> None:
    newcomer = dataclasses.replace(claim("new", weight, namespace=namespace), seniority=(101, "", "new"))
    assert set(holders(NAME, claims)) <= set(holders(NAME, [*claims, newcomer]))


@given(CLAIMS)
def test_what_is_advised_works(claims: list[Claim]) -> None:
    """Whoever is told to set a weight shares the name once it is set."""
    found = holders(NAME, claims)
    for loser in (one for one in claims if one not in found):
        if "to share it" in advice(NAME, loser, found[0]):
            given_weight = [
                dataclasses.replace(one, weight=5) if one in {loser, found[0]} else one for one in claims
            ]
            assert dataclasses.replace(loser, weight=5) in holders(NAME, given_weight)

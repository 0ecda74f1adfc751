import re

import pytest
from cel_expr_python import cel
from hypothesis import given, settings
from hypothesis import strategies as st

from rerank_api.names import (
    MODEL_NAME_PATTERN,
    RESOURCE_NAME_PATTERN,
    is_model_name,
    is_resource_name,
    seniority,
)


@pytest.mark.parametrize(
    "name",
    [
        pytest.param("a", id="one letter"),
        pytest.param("7", id="one digit"),
        pytest.param("BAAI/bge-reranker-v2-m3", id="owner and name"),
        pytest.param("bge:v2@prod", id="tag and alias"),
        pytest.param("a/b/c", id="three segments"),
        pytest.param("a/_b", id="a segment that begins with an underscore"),
        pytest.param("a...b", id="dots inside"),
        pytest.param("a" * 253, id="the longest"),
    ],
)
def test_clients_may_ask_for_a_model_under_this_name(name: str) -> None:
    assert is_model_name(name)


@pytest.mark.parametrize(
    "name",
    [
        pytest.param("", id="empty"),
        pytest.param("a" * 254, id="too long"),
        pytest.param("-a", id="begins with a dash"),
        pytest.param("a/", id="ends with a slash"),
        pytest.param("/a", id="begins with a slash"),
        pytest.param("a.", id="ends with a dot"),
        pytest.param("a//b", id="empty segment"),
        pytest.param("a/../b", id="a path's way up"),
        pytest.param("a/./b", id="a path's here"),
        pytest.param("a b", id="space"),
        pytest.param("a\n", id="line break at the end"),
        pytest.param("é", id="accented letter"),
        pytest.param("٣", id="a digit of another script"),
        pytest.param("a?b", id="query mark"),
    ],
)
def test_no_model_may_have_this_name(name: str) -> None:
    assert not is_model_name(name)


@pytest.mark.parametrize(
    ("name", "fits"),
    [
        pytest.param("bge-reranker-v2-m3", True, id="as usual"),
        pytest.param("a" * 63, True, id="the longest"),
        pytest.param("a" * 64, False, id="too long"),
        pytest.param("1e3", False, id="begins with a digit"),
        pytest.param("bge.v2", False, id="dot"),
        pytest.param("Bge", False, id="capital"),
        pytest.param("bge-", False, id="ends with a dash"),
        pytest.param("bge\n", False, id="line break at the end"),
    ],
)
def test_a_resource_name_is_a_dns_label(name: str, fits: bool) -> None:
    assert is_resource_name(name) is fits


_CEL = cel.NewEnv(variables={"self": cel.Type.DYN})
_MODEL_NAME = _CEL.compile(f"self.matches('{MODEL_NAME_PATTERN}') && self.size() <= 253")
_RESOURCE_NAME = _CEL.compile(f"self.matches('{RESOURCE_NAME_PATTERN}') && self.size() <= 63")


@settings(deadline=None)
@given(st.from_regex(re.compile(MODEL_NAME_PATTERN, re.ASCII)) | st.text("aA0._-:@/ \n", max_size=12))
def test_cel_and_python_agree_on_every_model_name(name: str) -> None:
    assert _MODEL_NAME.eval(data={"self": name}).value() is is_model_name(name)


@settings(deadline=None)
@given(st.from_regex(re.compile(RESOURCE_NAME_PATTERN, re.ASCII)) | st.text("aA0.-\n", max_size=12))
def test_cel_and_python_agree_on_every_resource_name(name: str) -> None:
    assert _RESOURCE_NAME.eval(data={"self": name}).value() is is_resource_name(name)


def test_the_oldest_keeps_a_contested_name_then_the_first_by_namespace_then_by_name():
    claims = [
        ("2026-01-01T00:00:01Z", "a", "a"),
        ("2026-01-01T00:00:00Z", "a-b", "a"),
        ("2026-01-01T00:00:00Z", "a", "z"),
        ("2025-12-31T23:59:59Z", "z", "z"),
        ("2026-01-01T00:00:00Z", "a", "b"),
    ]
    assert sorted(claims, key=lambda claim: seniority(*claim)) == [
        claims[3], claims[4], claims[2], claims[1], claims[0],
    ]  # fmt: skip

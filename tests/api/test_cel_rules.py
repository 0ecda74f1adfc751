from collections.abc import Callable, Iterator
from typing import Any

import pytest

from rerank_api.cel import KEYWORDS, RuleError, Violation, violations
from rerank_api.manifests import read_text
from rerank_api.problems import ManifestError
from rerank_api.rerank_consumer import RerankConsumer
from rerank_api.rerank_model import RerankModel
from rerank_api.rules import KEYWORD
from rerank_api.schema import Schema, structural_schema
from tests.support.broken_manifests import BROKEN_CONSUMERS, BROKEN_MODELS, SOURCE

ModelWith = Callable[..., str]


def the_problem(text: str) -> tuple[str, str]:
    """Field and message of the one problem in a text."""
    with pytest.raises(ManifestError) as caught:
        read_text(text, "m.yaml")
    (problem,) = caught.value.problems
    return problem.field, problem.message


@pytest.mark.parametrize(("lines", "field", "message"), BROKEN_MODELS)
def test_a_model_that_breaks_a_rule_is_told_what_to_write(
    model_with: ModelWith, lines: list[str], field: str, message: str
) -> None:
    assert the_problem(model_with(*lines)) == (field, message)


@pytest.mark.parametrize("name", ["1e3x", "Bge", "bge.v2", "a" * 64, "bge-"])
def test_a_model_whose_name_cannot_name_a_service_is_told_how_to_name_it(
    model_with: ModelWith, name: str
) -> None:
    field, message = the_problem(model_with(SOURCE, name=name))
    assert field == "metadata.name"
    assert message.startswith(f"'{name}' cannot name a Service: begin with a lower-case letter")
    assert message.endswith("e.g. bge-reranker-v2-m3; other names belong in spec.names")


@pytest.mark.parametrize("name", ["Search", "a_b", "-a", "a-", "a/b"])
def test_a_consumer_whose_name_cannot_name_one_is_told_how_to_name_it(name: str) -> None:
    field, message = the_problem(
        f"apiVersion: rerank.dev/v1alpha1\nkind: RerankConsumer\nmetadata: {{name: {name}}}\n"
        "spec: {keySecret: {name: k}, models: [a]}\n"
    )
    assert field == "metadata.name"
    assert message.startswith(f"'{name}' cannot name a consumer: use at most 253 lower-case letters")


@pytest.mark.parametrize(("line", "field", "message"), BROKEN_CONSUMERS)
def test_a_consumer_that_breaks_a_rule_is_told_what_to_write(line: str, field: str, message: str) -> None:
    models = "" if line.startswith("models") else "  models: [a]\n"
    text = (
        "apiVersion: rerank.dev/v1alpha1\nkind: RerankConsumer\nmetadata: {name: c}\n"
        f"spec:\n  keySecret: {{name: k}}\n{models}  {line}\n"
    )
    assert the_problem(text) == (field, message)


def rules_in(schema: Schema) -> Iterator[dict[str, str]]:
    """All rules of a schema."""
    yield from schema.get(KEYWORD, ())
    for child in schema.get("properties", {}).values():
        yield from rules_in(child)
    for keyword in ("items", "additionalProperties"):
        if keyword in schema:
            yield from rules_in(schema[keyword])


def test_every_rule_is_broken_by_a_case_above() -> None:
    messages = {case.values[2] for case in (*BROKEN_MODELS, *BROKEN_CONSUMERS)}
    for resource in (RerankModel, RerankConsumer):
        for rule in rules_in(structural_schema(resource)):
            advice = rule["message"].removeprefix("This ")
            assert advice.startswith(("cannot name a Service", "cannot name a consumer")) or any(
                str(message).endswith(advice) for message in messages
            ), rule


def test_every_message_is_one_line_with_a_remedy() -> None:
    for resource in (RerankModel, RerankConsumer):
        for rule in rules_in(structural_schema(resource)):
            assert "\n" not in rule["message"]
            assert len(rule["message"]) < 2048
            assert ": " in rule["message"] or "e.g." in rule["message"]
            # An API server cannot bound the length of a number as text, and refuses the whole definition.
            assert "string(" not in rule.get("messageExpression", "")


def schema_with(rule: str, **extra: str) -> Schema:
    """A schema of an object with one rule."""
    properties = {name: {"type": "integer"} for name in ("a", "in", "namespace")}
    return {
        "type": "object",
        "properties": properties,
        KEYWORD: [{"rule": rule, "message": "No.", **extra}],
    }


@pytest.mark.parametrize(
    ("rule", "value", "broken"),
    [
        pytest.param("self.a > 1", {"a": 1}, True, id="false"),
        pytest.param("self.a > 1", {"a": 2}, False, id="true"),
        pytest.param("self.__in__ > 1", {"in": 1}, True, id="a field that is a keyword"),
        pytest.param("has(self.__namespace__)", {"namespace": 1}, False, id="another one"),
    ],
)
def test_a_rule_sees_the_value_as_an_api_server_shows_it(rule: str, value: Any, broken: bool) -> None:
    assert list(violations(schema_with(rule), value)) == ([Violation((), "No.")] if broken else [])


def test_a_rule_that_fails_is_an_error_and_no_verdict() -> None:
    with pytest.raises(RuleError, match=r"self\.a > 1 at the root"):
        list(violations(schema_with("self.a > 1"), {"a": "text"}))


@pytest.mark.parametrize(
    "faulty",
    [
        pytest.param(("a",), id="in the field that the rule reads"),
        pytest.param(("a", "b"), id="deeper"),
        pytest.param((), id="in the whole"),
    ],
)
def test_a_rule_about_a_value_known_to_be_faulty_is_passed_over(faulty: tuple[str, ...]) -> None:
    assert not list(violations(schema_with("self.a > 1"), {"a": "text"}, frozenset({faulty})))


def test_a_fault_beside_what_a_rule_reads_hides_nothing() -> None:
    schema = schema_with("self.a > 1", fieldPath=".a")
    assert list(violations(schema, {"a": 1, "in": "x"}, frozenset({("in",)}))) == [Violation(("a",), "No.")]


@pytest.mark.parametrize(
    "wording",
    [
        pytest.param("self.absent", id="not there"),
        pytest.param("''", id="empty"),
        pytest.param("'two\\nlines'", id="two lines"),
        pytest.param("self.a", id="no text"),
    ],
)
def test_the_fixed_message_stands_in_for_a_wording_that_gives_no_line(wording: str) -> None:
    schema = schema_with("self.a > 1", messageExpression=wording)
    assert [violation.message for violation in violations(schema, {"a": 1})] == ["No."]


def test_a_key_of_a_map_is_never_escaped() -> None:
    schema: Schema = {
        "type": "object",
        "additionalProperties": {"type": "integer"},
        KEYWORD: [{"rule": "'in' in self", "message": "No."}],
    }
    assert not list(violations(schema, {"in": 1}))
    assert {"in", "package", "namespace"} <= KEYWORDS

import json
import math

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from rerank_api.fields import Path, parse, show
from rerank_api.scalars import Value, is_surprising, resolve
from rerank_api.tree import find, plain
from rerank_api.yaml_text import dump_yaml
from rerank_api.yaml_tree import compose

TEXT = st.text(st.characters(codec="utf-8", exclude_characters="\x00"), max_size=20)

JSON_VALUES = st.recursive(
    st.none()
    | st.booleans()
    | st.integers(-(2**63), 2**63 - 1)
    | st.floats(allow_nan=False, allow_infinity=False)
    | TEXT
    | st.sampled_from(
        ["on", "y", "1e3", "0x1f", "1_000", "010", "~", "2024-01-01", "<<", "- a", "a: b", "#"]
    ),
    lambda values: st.lists(values, max_size=4) | st.dictionaries(TEXT, values, max_size=4),
    max_leaves=12,
)


@pytest.mark.parametrize(
    ("text", "value"),
    [
        pytest.param("", None, id="nothing"),
        pytest.param("~", None, id="tilde"),
        pytest.param("on", True, id="on"),
        pytest.param("y", True, id="a lone y"),
        pytest.param("No", False, id="No"),
        pytest.param("0644", 420, id="octal as file modes have it"),
        pytest.param("0o17", 15, id="octal of newer YAML"),
        pytest.param("0x1F", 31, id="hexadecimal"),
        pytest.param("-0b11", -3, id="negative binary"),
        pytest.param("1_000", 1000, id="underscores"),
        pytest.param("+7", 7, id="plus sign"),
        pytest.param("08", 8.0, id="no octal digit"),
        pytest.param("1e3", 1000.0, id="exponent without a dot"),
        pytest.param("9530e12", 9530e12, id="a commit that looks like a number"),
        pytest.param("1e999", "1e999", id="too large for a number"),
        pytest.param("9223372036854775808", 9223372036854775808.0, id="too large for an integer"),
        pytest.param("2024-01-01", "2024-01-01", id="date"),
        pytest.param("12:30:00", "12:30:00", id="base sixty of old YAML"),
        pytest.param("1.2.3", "1.2.3", id="version"),
        pytest.param("-", "-", id="lone dash"),
    ],
)
def test_an_unquoted_scalar_means_what_kubectl_takes_it_for(text: str, value: Value) -> None:
    assert resolve(text) == value
    assert type(resolve(text)) is type(value)


@pytest.mark.parametrize(
    ("text", "surprising"),
    [
        pytest.param("true", False, id="true"),
        pytest.param("False", False, id="False"),
        pytest.param("yes", True, id="yes"),
        pytest.param("12", False, id="integer"),
        pytest.param("-0.5", False, id="fraction"),
        pytest.param("1e-3", False, id="exponent"),
        pytest.param("010", True, id="octal"),
        pytest.param("1_0", True, id="underscore"),
        pytest.param("bge", False, id="text"),
    ],
)
def test_what_looks_like_something_else_is_surprising(text: str, surprising: bool) -> None:
    assert is_surprising(text) is surprising


@settings(deadline=None)
@given(JSON_VALUES)
def test_reading_written_yaml_gives_the_same_value(value: object) -> None:
    composed = compose(dump_yaml({"value": value}))
    assert composed.faults == ()
    assert plain(composed.documents[0]) == {"value": value}


@settings(deadline=None)
@given(JSON_VALUES, st.sampled_from([None, 2, "\t"]), st.booleans())
def test_reading_json_gives_the_same_value(value: object, indent: int | str | None, ascii_only: bool) -> None:
    text = json.dumps({"value": value}, indent=indent, ensure_ascii=ascii_only)
    if "\x7f" in text or any("\x80" <= character <= "\x9f" for character in text):
        return  # raw control characters: JSON takes them, YAML does not
    composed = compose(text)
    assert composed.faults == ()
    assert plain(composed.documents[0]) == {"value": value}


@pytest.mark.parametrize(
    ("text", "line", "words"),
    [
        pytest.param("a: 1\nb: c: d\n", 2, "second ': '", id="a colon too many"),
        pytest.param("a:\n\t- b\n", 2, "tab", id="tab as indentation"),
        pytest.param("a: [1\nb: 2\n", 2, "not valid YAML", id="open bracket"),
        pytest.param("a: 'b\n", 2, "not valid YAML", id="open quote"),
        pytest.param("é: 1\nb: \x01\n", 2, "control character", id="control character"),
        pytest.param("a: 1\nb: \ud800\n", 2, "UTF-8", id="half a character"),
        pytest.param('a: 1\nb: "\\ud800"\n', 2, "character", id="half a character, escaped"),
        pytest.param("a: 1\nb: 2\na: 3\n", 3, "first in line 1", id="field twice"),
        pytest.param("a: *b\n", 1, "refers to nothing", id="alias of nothing"),
        pytest.param("a: &b\n  c: [*b]\n", 2, "part of", id="alias of itself"),
        pytest.param("a: 1\n[b]: 2\n", 2, "name of a field", id="list as a key"),
        pytest.param("a: 1\non: 2\n", 2, "in quotes", id="truth value as a key"),
        pytest.param('a: 1\nb: "\\0"\n', 2, "zero character", id="zero character"),
        pytest.param('a: 1\n"\\0": 2\n', 2, "zero character", id="zero character in a key"),
        pytest.param("a: 1\nb: .inf\n", 2, "finite", id="infinity"),
        pytest.param("a: 1\nb: !secret c\n", 2, "!secret", id="tag"),
        pytest.param("a: 1\nb: !!binary aGk=\n", 2, "!!binary", id="binary"),
        pytest.param("<<: 1\n", 1, "<<", id="merge of a number"),
        pytest.param("%YAML 3.0\n---\na: 1\n", 1, "not valid YAML", id="YAML of the future"),
    ],
)
def test_a_faulty_text_is_refused_with_its_line(text: str, line: int, words: str) -> None:
    (fault, *_) = compose(text).faults
    assert fault.line == line
    assert words in fault.message


def _laughs(width: int, levels: int) -> str:
    lines = ["a0: &a0 [lol]"]
    lines += [f"a{n}: &a{n} [{', '.join([f'*a{n - 1}'] * width)}]" for n in range(1, levels)]
    return "\n".join(lines)


@pytest.mark.parametrize(
    ("text", "words"),
    [
        pytest.param(_laughs(10, 10), "values", id="a billion laughs"),
        pytest.param(_laughs(1, 100), "deeper", id="a long chain of aliases"),
        pytest.param("[" * 200_000, "deeper", id="brackets without end"),
        pytest.param("{a: " * 200_000, "deeper", id="braces without end"),
        pytest.param("- " * 100_000, "deeper", id="dashes without end"),
        pytest.param("[" + "1," * 100_001 + "]", "values", id="a list without end"),
        pytest.param(
            "a: &a {"
            + ",".join(f"k{n}: 1" for n in range(1000))
            + "}\n"
            + "\n".join(f"b{n}: {{<<: *a}}" for n in range(100)),
            "values",
            id="merges without end",
        ),
    ],
)
def test_a_bomb_is_refused_before_it_unfolds(text: str, words: str) -> None:
    (fault,) = compose(text).faults
    assert words in fault.message


def test_aliases_and_merges_work_within_bounds() -> None:
    text = (
        "base: &base {a: 1, b: 2}\nother: &other {b: 3, c: 4}\n"
        "both: {<<: [*base, *other], d: 5}\none: {a: 0, <<: *base}\n"
    )
    composed = compose(text)
    assert composed.faults == ()
    values = plain(composed.documents[0])
    assert values["both"] == {"a": 1, "b": 2, "c": 4, "d": 5}
    assert values["one"] == {"a": 0, "b": 2}


def test_anchors_end_with_their_document() -> None:
    composed = compose("a: &x 1\n---\nb: *x\n")
    assert [fault.line for fault in composed.faults] == [3]


def test_empty_documents_are_left_out() -> None:
    composed = compose("---\n# nothing\n---\na: 1\n---\n")
    assert [plain(document) for document in composed.documents] == [{"a": 1}]


@pytest.mark.parametrize(
    ("path", "line"),
    [
        pytest.param((), 1, id="the document"),
        pytest.param(("a",), 1, id="a field"),
        pytest.param(("a", "b"), 2, id="a field in a field"),
        pytest.param(("a", "b", 1), 4, id="an item"),
        pytest.param(("a", "b", 7), 2, id="an item that is not there"),
        pytest.param(("a", "c"), 1, id="a field that is not there"),
        pytest.param(("a", "b", 1, "c"), 4, id="a field of a scalar"),
    ],
)
def test_a_path_leads_to_the_line_of_the_field_or_of_its_holder(path: Path, line: int) -> None:
    assert find(compose("a:\n  b:\n    - 1\n    - 2\n").documents[0], path)[0] == line


@given(st.lists(st.text(max_size=6) | st.integers(0, 9), max_size=5))
def test_a_path_that_was_written_is_read_back(steps: list[str | int]) -> None:
    assert parse(show(tuple(steps))) == tuple(steps)


@pytest.mark.parametrize("text", ["a..b", "[x]", 'a["b', "a.", "."])
def test_what_is_no_path_is_refused(text: str) -> None:
    with pytest.raises(ValueError, match="is no path to a field"):
        parse(text)


@given(st.text(max_size=12))
def test_every_unquoted_text_means_something_json_can_hold(text: str) -> None:
    value = resolve(text)
    assert not isinstance(value, float) or math.isfinite(value)

"""The scanner and the model servers' parser agree on every body, valid or not."""

import json
import os
from collections import Counter
from collections.abc import Callable, Iterator

import hypothesis
import pytest
from hypothesis import strategies as st

from rerank_api.names import is_model_name

Verdict = tuple[str, str | None]
Scan = Callable[[bytes], Verdict]

NIGHTLY = os.environ.get("RERANK_NIGHTLY") == "1"
"""Set for ten times as many bodies, where `make test` would take too long."""
FUZZED_BODIES = 100_000
SEEDS = range(20261123, 20261123 + (10 if NIGHTLY else 1))

json_values = st.recursive(
    st.none() | st.booleans() | st.integers() | st.floats(allow_nan=False, allow_infinity=False) | st.text(),
    lambda inner: (
        st.lists(inner, max_size=4)
        | st.dictionaries(st.text(max_size=8) | st.just("model"), inner, max_size=4)
    ),
    max_leaves=12,
)


@pytest.mark.parametrize(
    ("body", "expected"),
    [
        pytest.param(b'{"model":"m"}', ("model", "m"), id="the least"),
        pytest.param(b' \t\r\n{ "model" : "m" } \n', ("model", "m"), id="white space everywhere"),
        pytest.param(b'{"model":"a","model":"b"}', ("model", "b"), id="the last duplicate wins"),
        pytest.param(b'{"model":"a","model":null}', ("null", None), id="also when it is null"),
        pytest.param(b'{"model":1,"model":"b"}', ("model", "b"), id="also after another type"),
        pytest.param(b'{"\\u006dodel":"m"}', ("model", "m"), id="escaped key"),
        pytest.param(b'{"\\u006D\\u006F\\u0064\\u0065\\u006C":"m"}', ("model", "m"), id="fully escaped key"),
        pytest.param(b'{"model":"a","mode\\u006c":"b"}', ("model", "b"), id="duplicate in another spelling"),
        pytest.param(b'{"model\\u0000":"m"}', ("missing", None), id="key with NUL"),
        pytest.param(b'{"model\x00":"m"}', ("invalid_json", None), id="key with a raw NUL"),
        pytest.param(b'{"Model":"m"}', ("missing", None), id="keys have a case"),
        pytest.param(
            b'{"query":"model","x":{"model":"m"}}', ("missing", None), id="only deeper or as a value"
        ),
        pytest.param(b'{"x":[{"model":"in"}],"model":"top"}', ("model", "top"), id="deeper before the top"),
        pytest.param(b'{"model":"top","x":{"model":"in"}}', ("model", "top"), id="deeper after the top"),
        pytest.param(b'[{"model":"m"}]', ("not_object", None), id="inside a list"),
        pytest.param(b'{"model":{"model":"m"}}', ("not_string", None), id="an object"),
        pytest.param(b'{"model":["m"]}', ("not_string", None), id="a list"),
        pytest.param(b'{"model":7}', ("not_string", None), id="a number"),
        pytest.param(b'{"model":-7}', ("not_string", None), id="a negative number"),
        pytest.param(b'{"model":true}', ("not_string", None), id="true"),
        pytest.param(b'{"model":null}', ("null", None), id="null"),
        pytest.param(b'{"model":""}', ("model", ""), id="empty"),
        pytest.param(b'{"model":"\\u0000"}', ("model", "\0"), id="NUL in the value"),
        pytest.param(
            b'{"model":"\\"\\\\\\/\\b\\f\\n\\r\\t"}', ("model", '"\\/\b\f\n\r\t'), id="short escapes"
        ),
        pytest.param(
            b'{"model":"\\u00e9\\u5927\\ud83d\\ude00"}', ("model", "é大😀"), id="escapes of 2, 3, 4 bytes"
        ),
        pytest.param(
            b'{"model":"\\u0031\\u0041F\\nab12"}', ("model", "1AF\nab12"), id="digits after escapes"
        ),
        pytest.param(b'{"model":"\\ud83dx\\ude00"}', ("invalid_json", None), id="surrogates apart"),
        pytest.param(b'{"model":"\\ude00\\ud83d"}', ("invalid_json", None), id="surrogates swapped"),
        pytest.param(b'{"model":"\\ud83d"}', ("invalid_json", None), id="lone surrogate"),
        pytest.param(b'{"model":"\\u00g0"}', ("invalid_json", None), id="no hexadecimal digit"),
        pytest.param(b'{"model":"m",}', ("invalid_json", None), id="trailing comma"),
        pytest.param(b'{,"model":"m"}', ("invalid_json", None), id="leading comma"),
        pytest.param(b'{"model" "m"}', ("invalid_json", None), id="no colon"),
        pytest.param(b'{"model":"m"} x', ("invalid_json", None), id="trailing bytes"),
        pytest.param(b'{"model":"m"}{}', ("invalid_json", None), id="two documents"),
        pytest.param(b'{"model":"m"}\x00', ("invalid_json", None), id="trailing NUL"),
        pytest.param(b'{"model":"m"]', ("invalid_json", None), id="closed as a list"),
        pytest.param(b'["m"}', ("invalid_json", None), id="closed as an object"),
        pytest.param(b"{'model':'m'}", ("invalid_json", None), id="single quotes"),
        pytest.param(b'{model:"m"}', ("invalid_json", None), id="key without quotes"),
        pytest.param(b'\xef\xbb\xbf{"model":"m"}', ("invalid_json", None), id="byte order mark"),
        pytest.param('{"model":"m"}'.encode("utf-16-le"), ("invalid_json", None), id="UTF-16"),
        pytest.param('{"model":"é"}'.encode("latin-1"), ("invalid_json", None), id="Latin-1"),
        pytest.param(b'{"model":"m"}\x0b', ("invalid_json", None), id="vertical tab is no white space"),
        pytest.param(b'{"model":"a\nb"}', ("invalid_json", None), id="raw line feed"),
        pytest.param(b'{"model":"a\x7fb"}', ("model", "a\x7fb"), id="raw DEL is no control here"),
        pytest.param(b'{"model":"m"/**/}', ("invalid_json", None), id="comment"),
        pytest.param(b"", ("invalid_json", None), id="nothing"),
        pytest.param(b" ", ("invalid_json", None), id="white space alone"),
        pytest.param(b'"', ("invalid_json", None), id="a quote"),
        pytest.param(b"{", ("invalid_json", None), id="a brace"),
        pytest.param(b"]", ("invalid_json", None), id="a closing bracket"),
        pytest.param(b'"model"', ("not_object", None), id="a string"),
        pytest.param(b"null", ("not_object", None), id="null alone"),
        pytest.param(b"1", ("not_object", None), id="a number alone"),
    ],
)
def test_a_body_is_read_as_orjson_reads_it(
    scan: Scan, orjson_verdict: Scan, body: bytes, expected: Verdict
) -> None:
    assert scan(body) == expected
    assert orjson_verdict(body) == expected


@pytest.mark.parametrize(
    ("body", "expected"),
    [
        pytest.param(b'{"a":"' + b"x" * 10_000_000 + b'","model":"m"}', ("model", "m"), id="long text"),
        pytest.param(b'{"model":"' + b"x" * 10_000_000 + b'"}', ("model", "x" * 10_000_000), id="long model"),
        pytest.param(b'{"a":"' + b"x" * 10_000_000, ("invalid_json", None), id="long text without an end"),
        pytest.param(b'{"a":[' + b"{}," * 3_000_000 + b'0],"model":"m"}', ("model", "m"), id="many values"),
        pytest.param(b"[" * 10_000_000, ("invalid_json", None), id="brackets only"),
        pytest.param(b" " * 10_000_000, ("invalid_json", None), id="white space only"),
        pytest.param(
            b'{"n":' + b"9" * 10_000_000 + b"}", ("invalid_json", None), id="a number beyond any double"
        ),
        pytest.param(
            b'{"n":0.' + b"0" * 10_000_000 + b'1e10000000,"model":"m"}',
            ("model", "m"),
            id="a small number at length",
        ),
        pytest.param(
            b'{"a":"' + "大熊猫".encode() * 1_100_000 + b'","model":"m"}',
            ("model", "m"),
            id="long Chinese text",
        ),
    ],
)
def test_a_body_of_ten_megabytes_is_read_as_orjson_reads_it(
    both_scans: tuple[Scan, Scan], orjson_verdict: Scan, body: bytes, expected: Verdict
) -> None:
    compiled, _ = both_scans
    assert compiled(body) == expected
    assert orjson_verdict(body) == expected


@pytest.mark.parametrize("depth", [1, 1023, 1024, 1025, 2000])
@pytest.mark.parametrize(
    ("opening", "closing"),
    [pytest.param(b"[", b"]", id="lists"), pytest.param(b'{"model":', b"}", id="objects")],
)
def test_the_deepest_nesting_is_the_same(
    scan: Scan, orjson_verdict: Scan, depth: int, opening: bytes, closing: bytes
) -> None:
    for inner in (b"1", b"[]", b"{}"):
        body = opening * depth + inner + closing * depth
        assert scan(body) == orjson_verdict(body)


def test_a_body_cut_at_any_byte_is_read_as_orjson_reads_it(scan: Scan, orjson_verdict: Scan) -> None:
    body = (
        '{"model": "bge\\u002dm3", "query": "大熊猫 😀 \\ud83d\\ude00?", "top_n": 3, '
        '"x": [-1.5e+3, true, false, null], '
        '"documents": ["hi", {"text": "a long line of plain text\\n"}], "return_documents": false}'
    ).encode()
    assert scan(body) == ("model", "bge-m3")
    for end in range(len(body)):
        assert scan(body[:end]) == orjson_verdict(body[:end]) == ("invalid_json", None)


def test_every_byte_in_every_place_of_a_text_is_read_as_orjson_reads_it(
    scan: Scan, orjson_verdict: Scan
) -> None:
    for place in range(9):
        for value in range(256):
            for after in (b'"}', b'\x80"}', b'\x80\x80"}', b'abcdefgh"}'):
                body = b'{"model":"' + b"x" * place + bytes((value,)) + after
                assert scan(body) == orjson_verdict(body), body


def test_every_utf8_lead_and_second_byte_is_read_as_orjson_reads_it(
    both_scans: tuple[Scan, Scan], orjson_verdict: Scan
) -> None:
    compiled, _ = both_scans
    for lead in range(0x80, 0x100):
        for second in range(0x70, 0x100):
            for tail in (b"", b"\x80", b"\xbf\xbf"):
                body = b'{"model":"' + bytes((lead, second)) + tail + b'"}'
                assert compiled(body) == orjson_verdict(body), body


@pytest.mark.parametrize("seed", SEEDS)
def test_a_hundred_thousand_made_and_mutated_bodies_are_read_as_orjson_reads_them(
    both_scans: tuple[Scan, Scan],
    orjson_verdict: Scan,
    json_bodies: Callable[[int, int], Iterator[tuple[str, bytes]]],
    seed: int,
) -> None:
    compiled, interpreted = both_scans
    seen: Counter[tuple[str, str]] = Counter()
    for number, (kind, body) in enumerate(json_bodies(seed, FUZZED_BODIES)):
        expected = orjson_verdict(body)
        assert compiled(body) == expected, (kind, body)
        if number % 10 == 0:
            assert interpreted(body) == expected, (kind, body)
        seen[kind, expected[0]] += 1
    print(f"{sum(seen.values())} bodies")
    for (kind, verdict), count in sorted(seen.items()):
        print(f"{kind:>16} {verdict:<12} {count}")
    kinds = {kind for kind, _ in seen}
    assert len(kinds) == 8
    for kind in kinds - {"valid", "respelled"}:
        assert seen[kind, "invalid_json"] >= 100, kind
    for kind in kinds - {"truncated"}:
        assert seen[kind, "model"] >= 100, kind
    for kind in ("valid", "respelled"):
        assert seen[kind, "invalid_json"] == 0, kind


@hypothesis.settings(max_examples=400, deadline=None, derandomize=True)
@hypothesis.given(value=json_values, ascii_only=st.booleans(), indent=st.sampled_from([None, 1]))
def test_any_json_value_is_read_as_orjson_reads_it(
    both_scans: tuple[Scan, Scan], orjson_verdict: Scan, value: object, ascii_only: bool, indent: int | None
) -> None:
    body = json.dumps(value, ensure_ascii=ascii_only, indent=indent).encode("utf-8", "surrogatepass")
    for scan in both_scans:
        assert scan(body) == orjson_verdict(body)


@hypothesis.settings(max_examples=400, deadline=None, derandomize=True)
@hypothesis.given(model=st.text(alphabet=st.characters(codec="utf-8")))
def test_any_model_comes_through_unchanged_however_it_is_escaped(
    both_scans: tuple[Scan, Scan], model: str
) -> None:
    for ascii_only in (True, False):
        body = json.dumps({"query": "q", "model": model}, ensure_ascii=ascii_only).encode()
        for scan in both_scans:
            assert scan(body) == ("model", model)


@pytest.mark.parametrize(
    ("body", "offset"),
    [
        pytest.param(b"", 0, id="nothing"),
        pytest.param(b'{"model":"m",}', 13, id="trailing comma"),
        pytest.param(b'{"model":"m"} x', 14, id="trailing bytes"),
        pytest.param(b'{"model":tru}', 9, id="half a literal"),
        pytest.param(b'{"model":"a\nb"}', 11, id="raw line feed"),
        pytest.param(b'{"model":"m","n":[1,01]}', 20, id="leading zero"),
        pytest.param(b'{"model":"m","n":1e999}', 17, id="too large a number"),
        pytest.param('{"model":"大熊\xe5"}'.encode()[:-2] + b'\xe5"}', 18, id="half a character"),
    ],
)
def test_an_error_is_told_with_its_byte(
    offset_of_error: Callable[[bytes], int | None], body: bytes, offset: int
) -> None:
    assert offset_of_error(body) == offset


@hypothesis.settings(max_examples=1500, deadline=None, derandomize=True)
@hypothesis.given(
    name=st.text(alphabet="aZ09._-:@/ é\n%", max_size=12)
    | st.from_regex(r"[A-Za-z0-9][A-Za-z0-9._:@/-]{0,30}", fullmatch=True)
    | st.text(max_size=6)
    | st.integers(250, 256).map(lambda length: "a" * length)
)
def test_the_gateway_and_the_manifests_have_the_same_grammar_of_names(
    lua_is_model_name: Callable[[str], bool], name: str
) -> None:
    assert lua_is_model_name(name) == is_model_name(name)

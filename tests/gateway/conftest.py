"""What the tests of the scanner and of the data path share: bodies of every kind, and orjson's verdict."""

import json
import random
from collections.abc import Callable, Iterator

import orjson
import pytest

Verdict = tuple[str, str | None]
"""What is wrong or "model", and the model as the parser reads it."""

KEYS = (
    "model",
    "Model",
    "models",
    "mode",
    "",
    "model\x00",
    "query",
    "documents",
    "top_n",
    "\u006dodel ",
    "é",
    "模型",
)
TEXTS = (
    "bge-reranker-v2-m3",
    "BAAI/bge:v2@prod",
    "",
    " ",
    "model",
    '"model"',
    '{"model": "inner"}',
    "a\\b/c",
    "tab\tline\nreturn\r\b\f",
    "\x00",
    "\x7f",
    "naïve café",
    "大熊猫是一种原产于中国的熊科动物。",
    "ꯍ힣",
    "😀🤦🏽‍♀️",
    "\ud7ff\ue000\uffff\U00010000\U0010ffff",
)
NUMBERS = (
    *("0", "-0", "1", "-1", "12", "0.5", "-0.0", "1e5", "1E+5", "1e-5", "1.25e10", "0e0", "0e999", "0.0e999"),
    *(
        "00",
        "01",
        "-01",
        "-",
        "+1",
        "1.",
        ".5",
        "-.5",
        "1e",
        "1e+",
        "1.e5",
        "0x10",
        "1_000",
        "1,",
        "1 2",
        "--1",
    ),
    *(
        "1e308",
        "1e309",
        "-1e309",
        "1e999",
        "1e-400",
        "0.1e309",
        "0.1e310",
        "17.9e307",
        "18e307",
        "1e00000000308",
    ),
    *("9" * 308, "9" * 309, "9" * 400, "-" + "9" * 400, "9" * 400 + "e-100", "0." + "0" * 400 + "1e709"),
    *("0." + "0" * 400 + "1e710", "1" + "0" * 400 + "e-92", "1" + "0" * 400 + "e-91", "1e" + "9" * 40),
    *("1e-" + "9" * 40, "0e" + "9" * 40, "0.0e-" + "9" * 40, "18446744073709551616", "-9223372036854775809"),
    *(str(2**1024 - 2**970 + d) for d in (-1, 0, 1)),
    str(2**1024 - 2**970 - 1) + "." + "9" * 30,
    *("NaN", "Infinity", "-Infinity", "nan", "inf"),
)
TOKENS = (
    *(
        b'"',
        b"\\",
        b"{",
        b"}",
        b"[",
        b"]",
        b",",
        b":",
        b" ",
        b"\n",
        b"\t",
        b"\r",
        b"\x0b",
        b"\x0c",
        b"\x00",
        b"/",
    ),
    *(
        b"true",
        b"false",
        b"null",
        b"True",
        b"nul",
        b'"model"',
        b'"model":',
        b',"model":"x"',
        b'"\\u006dodel":"y"',
    ),
    *(
        b"\\u",
        b"\\u12",
        b"\\ud800",
        b"\\udc00",
        b"\\ud83d\\ude00",
        b"\\uD83D\\uDE00",
        b"\\U0041",
        b"\\v",
        b"\\'",
    ),
    *(b"\xef\xbb\xbf", b"\x80", b"\xc0\x80", b"\xc1\xbf", b"\xe0\x80\x80", b"\xe0\x9f\xbf", b"\xed\xa0\x80"),
    *(
        b"\xed\x9f\xbf",
        b"\xf0\x80\x80\x80",
        b"\xf4\x8f\xbf\xbf",
        b"\xf4\x90\x80\x80",
        b"\xf5",
        b"\xff",
        b"\xfe\xff",
    ),
    *(
        b"\xe5\xa4",
        b"\xe5",
        b"\xf0\x9f\x98",
        "大".encode(),
        "é".encode(),
        "😀".encode(),
        b"\x7f",
        b"\x1f",
        b"//",
        b"/**/",
    ),
)
CLASSES = ("valid", "respelled", "duplicate keys", "numbers", "any bytes", "truncated", "mutated", "nested")


@pytest.fixture(scope="session")
def orjson_verdict() -> Callable[[bytes], Verdict]:
    """Return what the model servers' parser makes of a body."""
    return _verdict


@pytest.fixture(scope="session")
def json_bodies() -> Callable[[int, int], Iterator[tuple[str, bytes]]]:
    """Return a function of a seed and a count that yields bodies, each with the name of its class."""
    return _bodies


def _verdict(body: bytes) -> Verdict:
    try:
        value = orjson.loads(body)
    except orjson.JSONDecodeError:
        return "invalid_json", None
    if not isinstance(value, dict):
        return "not_object", None
    if "model" not in value:
        return "missing", None
    model = value["model"]
    if isinstance(model, str):
        return "model", model
    return ("null" if model is None else "not_string"), None


def _bodies(seed: int, count: int) -> Iterator[tuple[str, bytes]]:
    rng = random.Random(seed)
    makers = {
        "valid": _valid,
        "respelled": _respelled,
        "duplicate keys": _duplicates,
        "numbers": _numbers,
        "any bytes": _any_bytes,
        "truncated": _truncated,
        "mutated": _mutated,
        "nested": _nested,
    }
    weights = (10, 15, 10, 10, 10, 10, 30, 5)
    for _ in range(count):
        name = rng.choices(CLASSES, weights)[0]
        yield name, makers[name](rng)


def _text(rng: random.Random) -> str:
    return "".join(rng.choice(TEXTS) for _ in range(rng.choice((1, 1, 1, 2, 5))))


def _value(rng: random.Random, depth: int = 0) -> object:
    kind = rng.random()
    if depth > 2 or kind < 0.45:
        return _text(rng)
    if kind < 0.65:
        return rng.choice((None, True, False, 0, 1, -7, 0.25, 1e300, 2**63))
    if kind < 0.8:
        return [_value(rng, depth + 1) for _ in range(rng.randrange(4))]
    return {rng.choice(KEYS): _value(rng, depth + 1) for _ in range(rng.randrange(4))}


def _request(rng: random.Random) -> dict[str, object]:
    members = [(rng.choice(KEYS), _value(rng)) for _ in range(rng.randrange(4))]
    if rng.random() < 0.7:
        members.insert(rng.randint(0, len(members)), ("model", rng.choice(TEXTS)))
    return dict(members)


def _valid(rng: random.Random) -> bytes:
    return orjson.dumps(_request(rng) if rng.random() < 0.9 else _value(rng))


def _respelled(rng: random.Random) -> bytes:
    """The same value with other white space and other escapes."""
    return _spell(rng, _request(rng)).encode("utf-8", "surrogatepass")


def _spell(rng: random.Random, value: object) -> str:
    space = "".join(rng.choice(" \t\r\n") for _ in range(rng.choice((0, 0, 1, 3))))
    if isinstance(value, dict):
        members = (f"{_spell(rng, k)}:{_spell(rng, v)}" for k, v in value.items())
        return f"{space}{{{space}{','.join(members)}{space}}}{space}"
    if isinstance(value, list):
        return f"{space}[{','.join(_spell(rng, item) for item in value)}{space}]{space}"
    if isinstance(value, str) and rng.random() < 0.5:
        return f'{space}"{"".join(_spell_character(rng, c) for c in value)}"{space}'
    if isinstance(value, str):
        return space + json.dumps(value, ensure_ascii=rng.random() < 0.5) + space
    return f"{space}{json.dumps(value)}{space}"


def _spell_character(rng: random.Random, c: str) -> str:
    if rng.random() < 0.25:
        units = c.encode("utf-16-be")
        form = rng.choice(("\\u{:04x}", "\\u{:04X}"))
        return "".join(form.format(int.from_bytes(units[i : i + 2], "big")) for i in range(0, len(units), 2))
    if c == "/" and rng.random() < 0.5:
        return "\\/"
    return json.dumps(c, ensure_ascii=False)[1:-1]


def _duplicates(rng: random.Random) -> bytes:
    spelled = (
        "model",
        "\\u006dodel",
        "mod\\u0065l",
        "\\u006d\\u006f\\u0064\\u0065\\u006c",
        "model\\u0000",
        "Model",
    )
    values = ('"a"', '"b"', '""', "null", "1", "[]", '{"model":"c"}', '"\\u0061"', '"\\ud83d\\ude00"', '"x')
    weights = (9, 9, 2, 2, 2, 2, 2, 2, 2, 1)
    members = (f'"{rng.choice(spelled)}":{rng.choices(values, weights)[0]}' for _ in range(rng.randint(1, 5)))
    return f"{{{','.join(members)}}}".encode()


def _numbers(rng: random.Random) -> bytes:
    numbers = (
        rng.choice(NUMBERS) if rng.random() < 0.6 else _number(rng) for _ in range(rng.choice((1, 1, 2, 6)))
    )
    return f'{{"n":[{",".join(numbers)}],"model":"m"}}'.encode()


def _number(rng: random.Random) -> str:
    def digits(longest: int) -> str:
        return "".join(rng.choice("0123456789") for _ in range(rng.randint(0, longest)))

    whole = digits(rng.choice((1, 3, 20, 320)))
    fraction = rng.choice(("", "", "." + digits(rng.choice((2, 20, 320)))))
    exponent = rng.choice(("", "", f"{rng.choice('eE')}{rng.choice(('', '+', '-'))}{digits(3)}"))
    return rng.choice(("", "-")) + whole + fraction + exponent


def _any_bytes(rng: random.Random) -> bytes:
    """A string of bytes that may or may not be UTF-8, at every alignment to eight bytes."""
    parts = (rng.choice(TOKENS) if rng.random() < 0.2 else _character(rng) for _ in range(rng.randrange(14)))
    text = b"x" * rng.randrange(9) + b"".join(parts)
    return b'{"query":"' + text + b'","model":"m"}'


def _character(rng: random.Random) -> bytes:
    top = rng.choice((0x7F, 0x7FF, 0xFFFF, 0x10FFFF))
    return chr(rng.randint(0x20, top)).encode("utf-8", "surrogatepass")


def _truncated(rng: random.Random) -> bytes:
    body = _respelled(rng)
    return body[: rng.randint(0, len(body))]


def _mutated(rng: random.Random) -> bytes:
    body = bytearray(_respelled(rng) if rng.random() < 0.6 else _duplicates(rng))
    for _ in range(rng.choice((1, 1, 1, 2, 4))):
        at = rng.randint(0, len(body))
        what = rng.random()
        if what < 0.25:
            body[at : at + 1] = bytes((rng.randrange(256),))
        elif what < 0.45:
            del body[at : at + rng.randint(1, 3)]
        elif what < 0.9:
            body[at:at] = rng.choice(TOKENS)
        else:
            other = rng.randint(0, len(body))
            body[at:at] = body[min(at, other) : max(at, other)]
    return bytes(body)


def _nested(rng: random.Random) -> bytes:
    depth = rng.choice((1, 2, 5, 40, 1022, 1023, 1024, 1025))
    opened = rng.choice((b"[", b'{"model":', b'{"a":'))
    closed = b"]" if opened == b"[" else b"}"
    inner = rng.choice((b"1", b'"x"', b"[]", b"{}"))
    body = opened * depth + inner + closed * (depth - rng.choice((0, 0, 0, 1)))
    return body if rng.random() < 0.5 else b'{"model":"top","deep":' + body + b"}"

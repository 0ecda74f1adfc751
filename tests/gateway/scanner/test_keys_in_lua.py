"""The key filter's Lua in LuaJIT: the digest is SHA-256, and what counts as the one key of a request."""

import hashlib
from collections.abc import Callable
from typing import Any

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from lupa import luajit21

from rerank_gateway.lua import source

Digest = Callable[[bytes], bytes]
KeyOf = Callable[..., bytes | None]

HEADERS = b"""
local pairs_of = ...
local function all(name)
  local found = {}
  for i = 1, #pairs_of, 2 do
    if pairs_of[i] == name then found[#found + 1] = pairs_of[i + 1] end
  end
  return found
end
local headers = {}
function headers:get(name) return all(name)[1] end
function headers:getNumValues(name) return #all(name) end
function headers:getAtIndex(name, i) return all(name)[i + 1] end
return headers
"""
CALL = b"function(code, ...) return loadstring(code)(...) end"


def runtime(*, compiled: bool = True) -> Any:
    lua = luajit21.LuaRuntime(encoding=None, unpack_returned_tuples=True)
    if not compiled:
        lua.execute(b"jit.off()")
    return lua


@pytest.fixture(scope="session", params=["compiled", "interpreted"])
def sha256(request: pytest.FixtureRequest) -> Digest:
    return runtime(compiled=request.param == "compiled").execute(source("sha256.lua").encode())


@pytest.fixture(scope="session")
def key_of() -> KeyOf:
    """Return what the filter takes for a request's key, of headers given as name, value, name, value, …"""
    lua = runtime()
    found = lua.eval(CALL)(source("key.lua").encode(), None, lua.table_from({}))

    def key(*headers: str) -> str | None:
        made = lua.eval(CALL)(HEADERS, lua.table_from([text.encode() for text in headers]))
        value = found(made)
        return None if value is None else value.decode()

    return key


@settings(max_examples=1_000, deadline=None)
@given(text=st.binary(max_size=700))
def test_the_digest_of_any_bytes_is_sha_256(sha256: Digest, text: bytes) -> None:
    assert sha256(text).decode() == hashlib.sha256(text).hexdigest()


def test_the_digest_is_sha_256_at_every_length_around_each_block(sha256: Digest) -> None:
    for length in range(600):
        for filler in (b"\x00", b"\x80", b"\xff", b"k"):
            text = filler * length
            assert sha256(text).decode() == hashlib.sha256(text).hexdigest(), length


@pytest.mark.parametrize(
    ("headers", "key"),
    [
        pytest.param((), None, id="nothing"),
        pytest.param(("authorization", "Bearer k"), "k", id="Bearer"),
        pytest.param(("authorization", "bearer k"), "k", id="bearer in lower case"),
        pytest.param(("authorization", "bEaReR   k"), "k", id="bearer in any case, some spaces"),
        pytest.param(("x-api-key", "k"), "k", id="X-API-Key"),
        pytest.param(("x-api-key", "Bearer k"), "Bearer k", id="X-API-Key has no scheme"),
        pytest.param(("authorization", "Bearer k", "x-api-key", "k"), "k", id="the same key twice"),
        pytest.param(("x-api-key", "k", "x-api-key", "k"), "k", id="the same X-API-Key twice"),
        pytest.param(("authorization", "Bearer k", "x-api-key", "j"), None, id="two keys"),
        pytest.param(("x-api-key", "k", "x-api-key", "j"), None, id="two X-API-Keys"),
        pytest.param(("authorization", "Bearer k", "authorization", "Bearer k"), None, id="twice, equal"),
        pytest.param(("authorization", "Bearer k", "authorization", "Bearer j"), None, id="twice, different"),
        pytest.param(("authorization", "Basic k"), None, id="another scheme"),
        pytest.param(
            ("authorization", "Basic a2V5", "x-api-key", "k"), None, id="another scheme beside a key"
        ),
        pytest.param(("authorization", "Bearerk"), None, id="no space"),
        pytest.param(("authorization", "Bearer"), None, id="a scheme alone"),
        pytest.param(("authorization", "Bearer k j"), None, id="more than a key"),
        pytest.param(("authorization", "k"), None, id="no scheme"),
    ],
)
def test_a_request_has_one_key_or_none(key_of: KeyOf, headers: tuple[str, ...], key: str | None) -> None:
    assert key_of(*headers) == key

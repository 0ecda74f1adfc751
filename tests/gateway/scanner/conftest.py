"""The gateway's Lua in LuaJIT 2.1, which is also what Envoy embeds."""

from collections.abc import Callable
from typing import Any

import pytest
from lupa import luajit21

from rerank_gateway.lua import source

Scan = Callable[[bytes], tuple[str, str | None]]


@pytest.fixture(scope="session", params=["compiled", "interpreted"])
def scan(request: pytest.FixtureRequest) -> Scan:
    """Return the scanner's verdict on a body: "model" and the name, or what is wrong and None."""
    return _scanner(compiled=request.param == "compiled")


@pytest.fixture(scope="session")
def both_scans() -> tuple[Scan, Scan]:
    """Return the scanner as LuaJIT compiles it, and as its interpreter runs it."""
    return _scanner(compiled=True), _scanner(compiled=False)


@pytest.fixture(scope="session")
def offset_of_error() -> Callable[[bytes], int | None]:
    """Return a function that says at which byte a body stops to be JSON."""
    model = _load(compiled=True)[b"model"]

    def offset(body: bytes) -> int | None:
        result = model(body)
        return result[2] if isinstance(result, tuple) and len(result) == 3 else None

    return offset


@pytest.fixture(scope="session")
def lua_is_model_name() -> Callable[[str], bool]:
    """Return the grammar of names as the gateway's glue has it."""
    lua = _runtime(compiled=True)
    settings = lua.table_from({b"max_name_bytes": 253})
    is_name = lua.eval(b"function(code, ...) return loadstring(code)(...) end")(
        source("route.lua").encode(), None, settings
    )
    return lambda name: bool(is_name(name.encode()))


def _scanner(*, compiled: bool) -> Scan:
    model = _load(compiled=compiled)[b"model"]

    def scan(body: bytes) -> tuple[str, str | None]:
        result = model(body)
        if isinstance(result, bytes):
            return "model", result.decode("utf-8", "strict")
        return result[1].decode(), None

    return scan


def _load(*, compiled: bool) -> Any:
    return _runtime(compiled=compiled).execute(source("scan.lua").encode())


def _runtime(*, compiled: bool) -> Any:
    lua = luajit21.LuaRuntime(encoding=None, unpack_returned_tuples=True)
    if not compiled:
        lua.execute(b"jit.off()")
    return lua

"""Lua source for Envoy's filters, put together from the files of this package and from settings."""

from collections.abc import Mapping
from importlib import resources

LuaValue = str | int | tuple[str, ...] | dict[str, "LuaValue"]


def chunk(parts: Mapping[str, str], settings: LuaValue, glue: str) -> str:
    """Return one chunk: the parts by the name that the glue gives them, the settings, and the glue to Envoy.

    Parts and glue are files; the glue is called with the parts in order, then the settings. Envoy loads the
    chunk once for every worker thread.
    """
    loaded = "".join(f"local {name} = (function(...)\n{source(file)}end)()\n" for name, file in parts.items())
    return (
        f"{loaded}local settings = {lua_literal(settings)}\n"
        f"local function glue(...)\n{source(glue)}end\n"
        f"glue({', '.join((*parts, 'settings'))})\n"
    )


def source(name: str) -> str:
    """Return the text of a Lua file of this package."""
    return resources.files("rerank_gateway").joinpath(name).read_text(encoding="utf-8")


def lua_literal(value: LuaValue) -> str:
    """Write a value as Lua source. Text must be printable ASCII: it stands between double quotes."""
    match value:
        case str():
            if not (value.isascii() and value.isprintable()):
                raise ValueError(f"{value!r} cannot be written in Lua source: it is not printable ASCII")
            return '"' + value.replace("\\", "\\\\").replace('"', '\\"') + '"'
        case int():
            return str(value)
        case tuple():
            return "{" + ", ".join(lua_literal(item) for item in value) + "}"
        case dict():
            return "{" + ", ".join(f"[{lua_literal(k)}] = {lua_literal(v)}" for k, v in value.items()) + "}"

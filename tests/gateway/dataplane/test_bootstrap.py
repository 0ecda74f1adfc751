"""Envoy's static configuration: the golden file, what Envoy says of it, and what settings change."""

import dataclasses
import json
import os
import subprocess
from pathlib import Path
from typing import Any

import pytest

from rerank_api.faces import FACE_PATHS
from rerank_gateway import envoy_binary
from rerank_gateway.bootstrap import BootstrapSettings, arguments, bootstrap
from rerank_gateway.paths import PROXY_PREFIX
from rerank_gateway.tracing import Tracing

GOLDEN = Path(__file__).parent / "golden" / "bootstrap.json"
SETTINGS = BootstrapSettings("127.0.0.1", 8080, Path("/run/rerank"))


def manager(config: dict[str, Any]) -> dict[str, Any]:
    """Return the HTTP connection manager of a bootstrap."""
    return config["static_resources"]["listeners"][0]["filter_chains"][0]["filters"][0]["typed_config"]


def lua_filter(config: dict[str, Any]) -> dict[str, Any]:
    """Return the configuration of the Lua filter of a bootstrap."""
    return next(f["typed_config"] for f in manager(config)["http_filters"] if f["name"] == "lua")


def test_the_bootstrap_is_what_the_golden_file_says() -> None:
    config = bootstrap(SETTINGS)
    lua = lua_filter(config)
    assert lua["default_source_code"]["inline_string"].startswith("local scan = ")
    lua["default_source_code"]["inline_string"] = "(scan.lua, settings and route.lua)"
    text = json.dumps(config, indent=2) + "\n"
    if os.environ.get("UPDATE_GOLDEN"):
        GOLDEN.write_text(text)
    assert text == GOLDEN.read_text(), "run the test with UPDATE_GOLDEN=1 and look at the difference"


@pytest.mark.parametrize(
    "settings",
    [
        pytest.param(SETTINGS, id="the defaults"),
        pytest.param(
            BootstrapSettings(
                "::",
                8081,
                Path("/run/rerank"),
                max_body_bytes=1_000,
                request_timeout_s=3_000_000.5,
                receive_timeout_s=0.25,
                max_connections=7,
                concurrency=2,
                auth=True,
                access_log=Path("/dev/stdout"),
                metrics=("127.0.0.1", 8082),
                tracing=Tracing("http://collector:4318", sampling=0.1),
            ),
            id="all settings",
        ),
    ],
)
def test_the_real_envoy_accepts_the_bootstrap(settings: BootstrapSettings, tmp_path: Path) -> None:
    file = tmp_path / "envoy.json"
    file.write_text(json.dumps(bootstrap(settings)))
    command = [str(envoy_binary.find()), *arguments(settings, file), "--mode", "validate"]
    done = subprocess.run(command, capture_output=True, text=True, timeout=60, check=False)
    assert done.returncode == 0, done.stderr
    assert "deprecated" not in done.stderr


def test_nobody_is_asked_for_a_key_unless_that_is_set() -> None:
    def filters(settings: BootstrapSettings) -> list[str]:
        return [one["name"] for one in manager(bootstrap(settings))["http_filters"]]

    assert filters(SETTINGS) == ["health_check", "models", "lua", "usage", "router"]
    keyed = filters(dataclasses.replace(SETTINGS, auth=True))
    limits = ["waiting", "requests", "debts"]
    assert keyed == ["health_check", "key", "keys", "consumer", *limits, "lua", "grants", "usage", "router"]


def test_a_path_that_is_rewritten_meets_the_same_filters_on_both_of_its_routes() -> None:
    """Envoy turns filters off by the first route that matches, and by no later one."""
    config = bootstrap(dataclasses.replace(SETTINGS, auth=True))
    routes = manager(config)["route_config"]["virtual_hosts"][0]["routes"]
    told = {
        route["match"].get("path", route["match"].get("prefix")): route.get("typed_per_filter_config", {})
        for route in routes
        if "route" in route
    }
    assert [path for path in FACE_PATHS if told[path] != told[PROXY_PREFIX]] == []
    kinds = {each["@type"].rpartition(".")[2] for filters in told.values() for each in filters.values()}
    assert "FilterConfig" not in kinds, "it counts on the first route alone"


def test_building_twice_gives_equal_values_that_share_nothing() -> None:
    first, second = bootstrap(SETTINGS), bootstrap(SETTINGS)
    manager(first)["route_config"]["virtual_hosts"].clear()
    assert manager(second)["route_config"]["virtual_hosts"]


def test_settings_reach_what_they_are_for() -> None:
    settings = BootstrapSettings(
        "0.0.0.0",
        81,
        Path("/s"),
        max_body_bytes=123,
        request_timeout_s=4.5,
        receive_timeout_s=6.0,
        concurrency=3,
    )
    config = bootstrap(settings)
    http = manager(config)
    assert http["request_timeout"] == "6.000s"
    assert http["route_config"]["virtual_hosts"][0]["request_body_buffer_limit"] == 123
    lua = lua_filter(config)["default_source_code"]["inline_string"]
    assert '["max_body_bytes"] = 123' in lua
    assert config["static_resources"]["listeners"][0]["address"] == {
        "socket_address": {"address": "0.0.0.0", "port_value": 81}
    }
    assert arguments(settings, Path("/f"))[-2:] == ["--concurrency", "3"]
    assert "--concurrency" not in arguments(SETTINGS, Path("/f"))


def test_a_directory_too_deep_for_unix_sockets_is_refused_with_its_path() -> None:
    longest = "/" + "d" * (107 - len("/admin.sock") - 1)
    BootstrapSettings("127.0.0.1", 1, Path(longest))
    with pytest.raises(ValueError, match=f"{longest}d/admin.sock has 108 bytes.*107.*shorter"):
        BootstrapSettings("127.0.0.1", 1, Path(longest + "d"))


def test_the_binary_that_the_variable_names_goes_first(
    monkeypatch: pytest.MonkeyPatch, tmp_path: Path
) -> None:
    mine = tmp_path / "my-envoy"
    mine.write_text("#!/bin/sh\n")
    mine.chmod(0o755)
    monkeypatch.setenv("ENVOY", str(mine))
    assert envoy_binary.find() == mine


def test_a_variable_that_names_no_program_is_an_error_and_no_fallback(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    monkeypatch.setenv("ENVOY", "/nowhere/envoy")
    with pytest.raises(envoy_binary.EnvoyNotFoundError, match=r"ENVOY is '/nowhere/envoy'.*or unset it"):
        envoy_binary.find()


def test_the_binary_found_is_an_envoy_of_the_supported_line() -> None:
    done = subprocess.run([str(envoy_binary.find()), "--version"], capture_output=True, text=True, check=True)
    assert "/1.40." in done.stdout

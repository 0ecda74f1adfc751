"""Limits as arguments of `python -m rerank_gateway`: they reach Envoy's configuration, or are refused."""

import json
import re
from pathlib import Path
from typing import Any

import pytest

from rerank_gateway.__main__ import main
from rerank_gateway.bootstrap import BootstrapSettings, bootstrap
from rerank_gateway.bounds import Limits

WHERE = ("--listen", "127.0.0.1:8080", "--socket-dir", "/run/rerank")


def printed(capsys: pytest.CaptureFixture[str], *arguments: str) -> dict[str, Any]:
    assert main(["bootstrap", *WHERE, *arguments]) == 0
    return dict(json.loads(capsys.readouterr().out))


def test_without_arguments_the_limits_are_those_of_the_settings(capsys: pytest.CaptureFixture[str]) -> None:
    settings = BootstrapSettings("127.0.0.1", 8080, Path("/run/rerank"))
    assert printed(capsys) == bootstrap(settings)
    assert Limits() == Limits(
        settings.max_body_bytes,
        settings.request_timeout_s,
        settings.receive_timeout_s,
        settings.max_connections,
        settings.try_timeout_s,
    )


def test_each_argument_reaches_its_setting(capsys: pytest.CaptureFixture[str]) -> None:
    given = (
        "--max-body-bytes=1024",
        "--request-timeout-s=1.5",
        "--receive-timeout-s=2",
        "--try-timeout-s=0.5",
    )
    settings = BootstrapSettings(
        "127.0.0.1",
        8080,
        Path("/run/rerank"),
        max_body_bytes=1024,
        request_timeout_s=1.5,
        receive_timeout_s=2.0,
        max_connections=7,
        try_timeout_s=0.5,
    )
    more = ("--max-connections=7", "--try-timeout-s=0.5")
    assert printed(capsys, *given, *more) == bootstrap(settings)


@pytest.mark.parametrize(
    "argument",
    [
        "--max-body-bytes=0",
        "--max-body-bytes=10MiB",
        "--request-timeout-s=0",
        "--request-timeout-s=nan",
        "--request-timeout-s=inf",
        "--receive-timeout-s=-1",
        "--try-timeout-s=0",
        "--receive-timeout-s=60s",
        "--max-connections=1.5",
        "--max-connections=99999999999",
    ],
)
def test_nonsense_is_refused_with_what_would_do(argument: str, capsys: pytest.CaptureFixture[str]) -> None:
    with pytest.raises(SystemExit):
        main(["bootstrap", *WHERE, argument])
    assert re.search(
        rf"{argument.partition('=')[0]}: '.*' is not a (whole )?number .*from", capsys.readouterr().err
    )

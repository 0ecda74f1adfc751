"""The process: what it says, and its exit code, where it cannot go on."""

from pathlib import Path
from typing import Any

import pytest

from rerank_operator import __main__ as process
from rerank_operator.errors import OperatorError, RestoredError
from tests.operator.given import SETTINGS_TEXT


def arguments(folder: Path, content: str = SETTINGS_TEXT) -> list[str]:
    path = folder / "settings.yaml"
    path.write_text(content)
    return ["--settings", str(path)]


def test_wrong_settings_end_the_process_with_a_sentence(
    tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    given = arguments(tmp_path, "namespaces: 3")
    assert process.main(given) == 1
    told = capsys.readouterr().err
    assert told.startswith(f"The operator cannot go on: the settings {given[1]} are wrong: namespaces: ")
    assert "Traceback" not in told


RESTORED = RestoredError("the API server was restored")


@pytest.mark.parametrize(
    ("raised", "told"),
    [
        pytest.param(RESTORED, ["the API server was restored"], id="by itself"),
        pytest.param(ExceptionGroup("parts", [RESTORED]), ["the API server was restored"], id="from a part"),
        pytest.param(
            ExceptionGroup("parts", [OperatorError("one"), ExceptionGroup("more", [OperatorError("two")])]),
            ["one", "two"],
            id="from several",
        ),
    ],
)
def test_what_ends_the_operator_is_told_in_sentences(
    tmp_path: Path,
    capsys: pytest.CaptureFixture[str],
    monkeypatch: pytest.MonkeyPatch,
    raised: Exception,
    told: list[str],
) -> None:
    async def run(*_: Any) -> None:
        raise raised

    monkeypatch.setattr(process, "run", run)
    assert process.main(arguments(tmp_path)) == 1
    assert capsys.readouterr().err.splitlines() == [f"The operator cannot go on: {one}" for one in told]


def test_a_defect_is_not_told_as_if_it_were_foreseen(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    async def run(*_: Any) -> None:
        raise ExceptionGroup("parts", [KeyError("x")])

    monkeypatch.setattr(process, "run", run)
    with pytest.raises(ExceptionGroup):
        process.main(arguments(tmp_path))


def test_an_operator_that_is_told_to_stop_ends_well(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    async def run(*_: Any) -> None:
        pass

    monkeypatch.setattr(process, "run", run)
    assert process.main(arguments(tmp_path)) == 0

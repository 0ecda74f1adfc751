"""Start the quickstart, rank its example through the gateway, stop it: exit 0 if all went well, else 1.

Run by `make smoke`, on a machine that has nothing but this checkout and its virtual environment.
"""

import json
import os
import re
import signal
import subprocess
import sys
import threading
import time
import urllib.error
import urllib.request
from pathlib import Path
from typing import Any

ROOT = Path(__file__).resolve().parent.parent
RERANK = Path(sys.executable).with_name("rerank")
READY_S = 600.0
STOP_S = 120.0


class SmokeError(Exception):
    """Something is not as it should be."""


class Runner:
    """A `rerank up` with its output shown and kept."""

    def __init__(self) -> None:
        self.started = time.monotonic()
        command = [str(RERANK), "up", str(ROOT / "examples/quickstart.yaml"), "--listen", "127.0.0.1:0"]
        print("$", *command, flush=True)
        self.process = subprocess.Popen(command, stdout=subprocess.PIPE, stderr=subprocess.STDOUT, text=True)
        self._lines: list[str] = []
        self._reader = threading.Thread(target=self._read, daemon=True)
        self._reader.start()

    def wait_for(self, pattern: str) -> re.Match[str]:
        """Return the first match in the output; raise if none comes in time or the runner ends."""
        while time.monotonic() - self.started < READY_S:
            if found := re.search(pattern, "\n".join(self._lines)):
                return found
            if self.process.poll() is not None:
                raise SmokeError(
                    f"the runner ended with {self.process.returncode} before it said {pattern!r}"
                )
            time.sleep(0.1)
        raise SmokeError(f"the runner did not say {pattern!r} within {READY_S:.0f} s")

    def stop(self) -> int:
        """Ask it to drain; return its exit code."""
        self.process.send_signal(signal.SIGTERM)
        try:
            code = self.process.wait(STOP_S)
        except subprocess.TimeoutExpired:
            raise SmokeError(f"the runner did not end within {STOP_S:.0f} s of SIGTERM") from None
        self._reader.join(STOP_S)
        return code

    def _read(self) -> None:
        assert self.process.stdout is not None
        with self.process.stdout as lines:
            for line in lines:
                print("  ", line, end="", flush=True)
                self._lines.append(line.rstrip("\n"))


def descendants(pid: int) -> dict[int, str]:
    """Return the living processes that began below `pid`, with their commands."""
    table = subprocess.run(
        ["ps", "-eo", "pid=,ppid=,args="], capture_output=True, text=True, check=True
    ).stdout
    parents: dict[int, int] = {}
    commands: dict[int, str] = {}
    for line in table.splitlines():
        child, parent, command = line.split(None, 2)
        parents[int(child)], commands[int(child)] = int(parent), command
    found: set[int] = set()
    while more := {child for child, parent in parents.items() if parent in found | {pid}} - found:
        found |= more
    return {child: commands[child] for child in found if not commands[child].startswith("ps ")}


def is_alive(pid: int) -> bool:
    """Say whether there is a process of this id."""
    try:
        os.kill(pid, 0)
    except ProcessLookupError:
        return False
    return True


def rank(url: str, body: dict[str, Any]) -> dict[str, Any]:
    """Send the body through the gateway; return the answer to a 200."""
    request = urllib.request.Request(
        f"{url}/v1/rerank", json.dumps(body).encode(), {"Content-Type": "application/json"}
    )
    opener = urllib.request.build_opener(urllib.request.ProxyHandler({}))
    try:
        with opener.open(request, timeout=120) as answer:
            return dict(json.load(answer))
    except urllib.error.HTTPError as error:
        raise SmokeError(f"POST /v1/rerank: {error.code}: {error.read().decode()}") from None


def check_shape(answer: dict[str, Any], body: dict[str, Any]) -> None:
    """Raise unless the answer is a whole one in the Jina dialect, best first."""
    wrong = []
    if (answer.get("model"), answer.get("object")) != (body["model"], "list"):
        wrong.append("model and object")
    results = answer.get("results", [])
    if sorted(result["index"] for result in results) != list(range(len(body["documents"]))):
        wrong.append("an index for each document")
    for result in results:
        if result.get("document") != {"text": body["documents"][result["index"]]}:
            wrong.append(f"the document of index {result['index']}")
        if not isinstance(result.get("relevance_score"), float):
            wrong.append(f"the score of index {result['index']}")
    usage = answer.get("usage", {})
    if not all(
        isinstance(usage.get(key), int) and usage[key] > 0 for key in ("prompt_tokens", "total_tokens")
    ):
        wrong.append("usage")
    if wrong:
        raise SmokeError(f"the answer lacks {', '.join(wrong)}: {json.dumps(answer)}")


def check_order(texts: list[str]) -> None:
    """Raise unless the giant panda comes first and the greeting last."""
    if "giant panda" not in texts[0] or texts[-1] != "hi":
        raise SmokeError(f"the order is not what it should be: {texts}")


def smoke(runner: Runner) -> None:
    """Use a runner as its user would, from its start to its end."""
    url = runner.wait_for(r"http://127\.0\.0\.1:\d+").group()
    runner.wait_for(r"(?m)^all-minilm-l6-v2: Ready")
    print(f"Ready after {time.monotonic() - runner.started:.1f} s", flush=True)
    body = json.loads((ROOT / "examples/panda.json").read_text(encoding="utf-8"))
    answer = rank(url, body)
    print(json.dumps(answer, indent=1))
    check_shape(answer, body)
    check_order([result["document"]["text"] for result in answer["results"]])
    command = [str(RERANK), "query", body["query"], *body["documents"], "--url", url]
    shown = subprocess.run(command, capture_output=True, text=True, check=False)
    print("$ rerank query", repr(body["query"]), "…\n" + shown.stdout + shown.stderr, flush=True)
    if shown.returncode != 0 or not 0 <= shown.stdout.find("giant panda") < shown.stdout.find("it is a bear"):
        raise SmokeError("`rerank query` does not show the ranking")
    children = descendants(runner.process.pid)
    if len(children) < 3:
        raise SmokeError(f"a server, an agent and an Envoy should run, and there is: {children}")
    code = runner.stop()
    if code != 0:
        raise SmokeError(f"the runner ended with {code} after SIGTERM")
    if left := {pid: command for pid, command in children.items() if is_alive(pid)}:
        raise SmokeError(f"processes are left: {left}")


def main() -> int:
    """Return the exit code."""
    runner = Runner()
    try:
        smoke(runner)
    except SmokeError as error:
        print(f"FAILED: {error}", file=sys.stderr)
        return 1
    finally:
        if runner.process.poll() is None:
            runner.process.kill()
            runner.process.wait()
    print(f"OK in {time.monotonic() - runner.started:.1f} s")
    return 0


if __name__ == "__main__":
    sys.exit(main())

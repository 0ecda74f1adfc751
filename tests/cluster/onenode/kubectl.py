"""Asking a cluster with kubectl."""

import os
import subprocess
import tempfile
import time
from pathlib import Path

from tests.cluster.onenode.errors import OneNodeError

TIMEOUT_S = 700.0
"""More than any `--timeout` that kubectl is given: then it says itself what it waited for in vain."""
AWAY_S = 60.0
"""For so long an API server, or a kubelet behind it, that takes no connection is asked again."""
PAUSE_S = 1.0
_NOT_ASKED = ("Unable to connect to the server", "The connection to the server", "error dialing backend")
"""What kubectl says where nobody has got its request."""


def kubectl(kubeconfig: Path, binaries: Path, *arguments: str, given: str | None = None) -> str:
    """Return what kubectl says; raise OneNodeError with its words if it fails. ~/.kube stays as it is."""
    environment = {
        **os.environ,
        "KUBECONFIG": str(kubeconfig),
        "KUBECACHEDIR": str(Path(tempfile.gettempdir()) / f"rerank-kubectl-{os.getuid()}"),
    }
    give_up = time.monotonic() + AWAY_S
    while True:
        done = subprocess.run(
            [str(binaries / "kubectl"), *arguments],
            env=environment,
            input=given,
            capture_output=True,
            text=True,
            check=False,
            timeout=TIMEOUT_S,
        )
        if done.returncode == 0:
            return done.stdout
        was_asked = not any(words in done.stderr for words in _NOT_ASKED)
        if was_asked or time.monotonic() > give_up:
            raise OneNodeError(f"`kubectl {' '.join(arguments)}` failed: {done.stderr.strip()}")
        time.sleep(PAUSE_S)

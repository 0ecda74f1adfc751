"""`rerank up --tls-dir`: the gateway speaks TLS, and what cannot be served with is refused at once."""

import json
import os
import subprocess
import sys
from pathlib import Path
from typing import Any

import pytest

from rerank_cli.errors import StartError
from rerank_cli.up import command
from tests.support.certificates import make_pair, needs_openssl

pytestmark = needs_openssl
RERANK = Path(sys.executable).with_name("rerank")


@pytest.fixture
def certificate(tmp_path: Path) -> Path:
    """A directory with a certificate for the name `localhost`, and its key."""
    make_pair(tmp_path / "tls", "localhost", key=("-newkey", "rsa:2048"))
    return tmp_path / "tls"


def test_a_request_is_tried_and_others_are_answered_over_tls(
    tiny_folder: Path, certificate: Path, tmp_path: Path, start_runner: Any
) -> None:
    request = tmp_path / "request.json"
    request.write_text(json.dumps({"model": "tiny", "query": "a panda", "documents": ["a bear", "hi"]}))
    runner = start_runner(tiny_folder, "--tls-dir", "../tls", "--try", request, cwd=tiny_folder)
    runner.wait_for(r"^Again: curl -sS --insecure https://127\.0\.0\.1:\d+/v1/rerank")
    assert runner.url.startswith("https://")

    def ask(**environment: str) -> subprocess.CompletedProcess[str]:
        url = runner.url.replace("127.0.0.1", "localhost")
        asked = [RERANK, "query", "a panda", "a bear", "--model", "tiny", "--url", url]
        known = {name: value for name, value in os.environ.items() if name != "SSL_CERT_FILE"}
        return subprocess.run(
            asked, capture_output=True, text=True, check=False, timeout=120, env={**known, **environment}
        )

    trusting = ask(SSL_CERT_FILE=str(certificate / "tls.crt"))
    assert trusting.returncode == 0, trusting.stderr
    assert "CERTIFICATE_VERIFY_FAILED" in ask().stderr
    assert "SSL_CERT_FILE names cannot be read" in ask(SSL_CERT_FILE="/nowhere").stderr
    assert runner.end() == 0


def test_a_directory_without_a_key_is_refused_before_anything_is_started(
    tiny_folder: Path, certificate: Path
) -> None:
    (certificate / "tls.key").unlink()
    with pytest.raises(StartError, match=r"tls/tls\.key cannot be read \(No such file or directory\)"):
        command.up([tiny_folder], "127.0.0.1:0", None, None, tls_dir=certificate)

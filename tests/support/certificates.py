"""Certificates of their own, made by the openssl command."""

import shutil
import subprocess
from collections.abc import Sequence
from pathlib import Path

import pytest

ELLIPTIC = ("-newkey", "ec", "-pkeyopt", "ec_paramgen_curve:prime256v1")
LOOPBACK = "IP:127.0.0.1,DNS:localhost"

needs_openssl = pytest.mark.skipif(
    shutil.which("openssl") is None, reason="the openssl command makes the certificates"
)


def make_pair(directory: Path, name: str, *, key: Sequence[str] = ELLIPTIC, hosts: str = LOOPBACK) -> None:
    """Write a certificate for these hosts, good for two days, which says this name, and its key."""
    directory.mkdir(parents=True, exist_ok=True)
    files = ("-keyout", str(directory / "tls.key"), "-out", str(directory / "tls.crt"))
    subject = ("-subj", f"/CN={name}", "-addext", f"subjectAltName={hosts}")
    openssl("req", "-x509", *key, "-noenc", "-days", "2", *files, *subject)


def openssl(*arguments: str) -> None:
    subprocess.run(["openssl", *arguments], check=True, capture_output=True, timeout=60)

"""Certificates for tests, made by the openssl command as pairs in the files of a TLS Secret."""

import subprocess
from collections.abc import Sequence
from pathlib import Path

ECDSA = ("-newkey", "ec", "-pkeyopt", "ec_paramgen_curve:prime256v1")
LOOPBACK = "IP:127.0.0.1,DNS:localhost"


def make_pair(directory: Path, name: str, *, key: Sequence[str] = ECDSA, hosts: str = LOOPBACK) -> None:
    """Write a certificate that signs itself, says this name and is for these hosts, and its key."""
    directory.mkdir(parents=True, exist_ok=True)
    files = ("-keyout", str(directory / "tls.key"), "-out", str(directory / "tls.crt"))
    subject = ("-subj", f"/CN={name}", "-addext", f"subjectAltName={hosts}")
    command = ["openssl", "req", "-x509", *key, "-noenc", "-days", "2", *files, *subject]
    subprocess.run(command, check=True, capture_output=True, timeout=60)

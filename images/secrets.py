"""What a build needs to know of this machine, and no image may keep: how a package index is reached."""

import shlex
from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from pathlib import Path
from tempfile import TemporaryDirectory

# Not the ones that name files or directories of this machine, or say where packages are installed.
PASSED = (
    "PIP_DEFAULT_TIMEOUT",
    "PIP_EXTRA_INDEX_URL",
    "PIP_INDEX_URL",
    "PIP_PROXY",
    "PIP_RETRIES",
    "PIP_TRUSTED_HOST",
    "UV_CONCURRENT_DOWNLOADS",
    "UV_DEFAULT_INDEX",
    "UV_EXTRA_INDEX_URL",
    "UV_HTTP_RETRIES",
    "UV_HTTP_TIMEOUT",
    "UV_INDEX_STRATEGY",
    "UV_INDEX_URL",
    "UV_INSECURE_HOST",
    *(
        name
        for proxy in ("HTTP_PROXY", "HTTPS_PROXY", "ALL_PROXY", "NO_PROXY")
        for name in (proxy, proxy.lower())
    ),
)
PASSED_PREFIX = "UV_INDEX"  # UV_INDEX itself, and UV_INDEX_<NAME>_USERNAME and _PASSWORD
CERTIFICATES = ("/etc/ssl/certs/ca-certificates.crt", "/etc/pki/tls/certs/ca-bundle.crt", "/etc/ssl/cert.pem")
IN_THE_BUILD = "/run/secrets/certificates"


def script(environment: Mapping[str, str], *, certificates: bool) -> str:
    """Return the shell script that each step of a build which asks an index runs first."""
    passed = {
        name: value for name, value in environment.items() if name in PASSED or name.startswith(PASSED_PREFIX)
    }
    if certificates:
        passed |= {"SSL_CERT_FILE": IN_THE_BUILD, "PIP_CERT": IN_THE_BUILD, "UV_SYSTEM_CERTS": "1"}
    return "".join(f"export {name}={shlex.quote(value)}\n" for name, value in sorted(passed.items()))


def trusted(environment: Mapping[str, str]) -> Path | None:
    """Return the file with the certificates that this machine trusts."""
    for candidate in (environment.get("SSL_CERT_FILE", ""), *CERTIFICATES):
        if candidate and Path(candidate).is_file():
            return Path(candidate)
    return None


@contextmanager
def mounted(environment: Mapping[str, str]) -> Iterator[dict[str, Path]]:
    """Yield the build's secrets, each a file that only this user can read, for as long as the build takes."""
    certificates = trusted(environment)
    with TemporaryDirectory(prefix="rerank-images-") as directory:
        path = Path(directory) / "environment"
        path.write_text(script(environment, certificates=certificates is not None), encoding="utf-8")
        yield {"environment": path} | ({"certificates": certificates} if certificates else {})

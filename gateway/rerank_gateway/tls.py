"""The certificate that callers see: looked at before Envoy starts, and renewed while it runs.

A directory holds `tls.crt` and `tls.key`, as Kubernetes mounts a Secret of type kubernetes.io/tls. Envoy
reads both once more whenever something is renamed into that directory, as kubelet does with its symlink
`..data`; a pair that does not fit leaves the earlier one in use. Only a resource of SDS is watched so, hence
one in a file.
Fields: envoy.extensions.transport_sockets.tls.v3.
"""

import json
import subprocess
from pathlib import Path
from typing import Any

from rerank_gateway.errors import CertificateError

CERTIFICATE, KEY = "tls.crt", "tls.key"

_TYPES = "type.googleapis.com/envoy.extensions.transport_sockets.tls.v3"
_NAME = "certificate"
_CHECK_S = 60.0
_REMEDY = (
    f"put a certificate in PEM, with its chain behind it, into {CERTIFICATE}, and its private key, not "
    f"encrypted, into {KEY}."
)

Json = dict[str, Any]


def transport_socket(secret_file: Path) -> Json:
    """Return TLS for a filter chain, from TLS 1.2 on, with the certificate of a file that holds `secret`."""
    return _socket(
        {
            "tls_params": {"tls_minimum_protocol_version": "TLSv1_2"},
            "alpn_protocols": ["h2", "http/1.1"],
            "tls_certificate_sds_secret_configs": [
                {
                    "name": _NAME,
                    "sds_config": {
                        "path_config_source": {"path": str(secret_file)},
                        "resource_api_version": "V3",
                    },
                }
            ],
        }
    )


def secret(directory: Path) -> Json:
    """Return the DiscoveryResponse that names the directory's files, and has them followed."""
    certificate = {**_files(directory), "watched_directory": {"path": str(directory)}}
    resource = {"@type": f"{_TYPES}.Secret", "name": _NAME, "tls_certificate": certificate}
    return {"resources": [resource]}


def check(directory: Path, envoy: Path) -> None:
    """Raise `CertificateError` unless this Envoy can serve with what the directory holds."""
    for file in (directory / CERTIFICATE, directory / KEY):
        try:
            file.read_bytes()
        except OSError as error:
            raise CertificateError(f"{file} cannot be read ({error.strerror}): {_REMEDY}") from error
    common = {"tls_certificates": [_files(directory)]}
    nowhere = {"pipe": {"path": "@nowhere"}}
    chain = {"filters": [], "transport_socket": _socket(common)}
    config = {"static_resources": {"listeners": [{"address": nowhere, "filter_chains": [chain]}]}}
    try:
        done = subprocess.run(  # noqa: S603  # our own Envoy, which opens no port to validate
            [str(envoy), "--mode", "validate", "--config-yaml", json.dumps(config), *_TERSE],
            capture_output=True,
            text=True,
            timeout=_CHECK_S,
            check=False,
        )
    except subprocess.TimeoutExpired as error:
        raise CertificateError(
            f"The certificate in {directory} was not checked within {_CHECK_S:g} s: start the gateway again."
        ) from error
    if done.returncode != 0:
        why = done.stderr.strip().removeprefix("error initializing configuration '': ")
        raise CertificateError(f"The certificate in {directory} cannot be used. {why}: {_REMEDY}")


_TERSE = ("--log-level", "critical", "--log-format", "%v")


def _socket(common: Json) -> Json:
    context = {"@type": f"{_TYPES}.DownstreamTlsContext", "common_tls_context": common}
    return {"name": "tls", "typed_config": context}


def _files(directory: Path) -> Json:
    return {
        "certificate_chain": {"filename": str(directory / CERTIFICATE)},
        "private_key": {"filename": str(directory / KEY)},
    }

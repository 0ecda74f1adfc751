"""Where the gateway listens: read `--listen`, refuse what is open to all without keys, find the port free."""

import errno
import ipaddress
import socket
from dataclasses import dataclass
from pathlib import Path

from rerank_cli.errors import StartError, UsageError


@dataclass(frozen=True)
class Listen:
    """An address of this machine, and a port that was free a moment ago."""

    address: str
    port: int
    tls_dir: Path | None = None
    """Where the certificate is with which TLS is spoken there; without it plain HTTP."""

    @property
    def url(self) -> str:
        """The base URL for clients on this machine."""
        address = {"0.0.0.0": "127.0.0.1", "::": "::1"}.get(self.address, self.address)  # noqa: S104
        host = f"[{address}]" if ":" in address else address
        return f"{'http' if self.tls_dir is None else 'https'}://{host}:{self.port}"


def claim(text: str, *, asks_for_keys: bool = False, tls_dir: Path | None = None) -> Listen:
    """Turn `--listen` into an address to listen on. Port 0 takes any free one.

    Raises `UsageError` for what is no HOST:PORT, `StartError` for a port in use, and for an address off
    loopback unless callers are asked for keys.
    """
    host, port = split(text)
    address = address_of(host) if asks_for_keys else loopback_address(host)
    return Listen(address, _free_port(address, port), tls_dir)


def split(text: str) -> tuple[str, int]:
    """Split HOST:PORT; an IPv6 address stands in brackets. No host means every address, as is usual."""
    host, colon, port = text.rpartition(":")
    if host.startswith("[") and host.endswith("]"):
        host = host[1:-1]
    elif ":" in host:
        raise UsageError(f"--listen {text}: write an IPv6 address in brackets, e.g. --listen [::1]:8080.")
    if not colon or not port.isascii() or not port.isdigit() or int(port) > 65535:
        raise UsageError(f"--listen {text}: write HOST:PORT, e.g. --listen 127.0.0.1:8080.")
    return host, int(port)


def address_of(host: str) -> str:
    """Return the address that `host` stands for; none stands for all of this machine's."""
    return _addresses(host or "0.0.0.0")[0]  # noqa: S104  # only where callers are asked for keys


def loopback_address(host: str) -> str:
    """Return the loopback address that `host` stands for; refuse whatever can be reached from elsewhere."""
    addresses = _addresses(host or "0.0.0.0")  # noqa: S104  # looked at, so that it can be refused
    for address in addresses:
        if not _is_loopback(address):
            stands_for = "" if address == host else f" is {address}, which"
            raise StartError(
                f"--listen {host or ':'}{stands_for} can be reached from other machines, and none of the "
                "manifests says who may call: make a key with `rerank key create NAME --file consumers.yaml` "
                "and name that file too, or listen on 127.0.0.1."
            )
    return addresses[0]


def _addresses(host: str) -> list[str]:
    try:
        return [str(ipaddress.ip_address(host))]
    except ValueError:
        pass
    try:
        found = socket.getaddrinfo(host, None, type=socket.SOCK_STREAM)
    except (OSError, UnicodeError) as error:
        raise StartError(
            f"--listen {host}: no address is known for this name ({error}): use 127.0.0.1."
        ) from error
    return sorted({str(entry[4][0]) for entry in found}, key=lambda address: (":" in address, address))


def _is_loopback(address: str) -> bool:
    parsed = ipaddress.ip_address(address.partition("%")[0])
    mapped = parsed.ipv4_mapped if isinstance(parsed, ipaddress.IPv6Address) else None
    return (mapped or parsed).is_loopback


def _free_port(address: str, port: int) -> int:
    family = socket.AF_INET6 if ":" in address else socket.AF_INET
    with socket.socket(family, socket.SOCK_STREAM) as probe:
        # Connections of an earlier run that wait out their minute do not count as in use.
        probe.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
        try:
            probe.bind((address, port))
        except OSError as error:
            raise StartError(_why_not(address, port, error)) from error
        free: int = probe.getsockname()[1]
        return free


def _why_not(address: str, port: int, error: OSError) -> str:
    where = f"port {port} on {address}"
    if error.errno == errno.EADDRINUSE:
        return f"{where} is in use by another program: stop that, or choose another port with --listen."
    if error.errno == errno.EACCES:
        return f"{where} needs rights that you do not have: choose a port above 1023 with --listen."
    return f"{where} cannot be listened on ({error.strerror}): choose another address with --listen."

"""What can stop the gateway's agent, as one tree.

GatewayError
├── StateFileError      the state file cannot be read as one whole view
├── SocketError         a socket cannot be listened on
├── EnvoyNotFoundError  no Envoy is installed (`envoy_binary`)
├── CertificateError    Envoy cannot serve TLS with what it is given
├── KubernetesError     the API server does not answer, or not as it should
│   ├── RefusedError    it answered with an HTTP status other than 200
│   └── SilentError     its answer began and did not end in time
└── SourceEndedError    the source of models stopped telling
"""


class GatewayError(Exception):
    """Base of the errors of this package; its text is a sentence for whoever runs the gateway."""


class StateFileError(GatewayError):
    """The state file's content is not a view: not JSON, another version's, or a value out of place."""


class SocketError(GatewayError):
    """A unix socket's path is too long, taken by something else, or cannot be bound; nor can a port."""


class CertificateError(GatewayError):
    """A file cannot be read or holds something else, or certificate and key do not belong together."""


class KubernetesError(GatewayError):
    """Nobody answers, the connection broke, or the answer makes no sense: it is tried again."""


class RefusedError(KubernetesError):
    """The API server answered with an HTTP status other than 200, or ended a watch with one."""

    def __init__(self, status: int, message: str) -> None:
        super().__init__(f"{message} ({status})")
        self.status = status


class SilentError(KubernetesError):
    """An answer began, and did not end in time."""


class SourceEndedError(GatewayError):
    """A source came to an end, so what is served would grow stale without anyone noticing."""

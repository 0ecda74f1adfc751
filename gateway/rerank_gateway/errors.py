"""What can stop the gateway's agent, as one tree.

GatewayError
├── StateFileError      the state file cannot be read as one whole view
├── SocketError         a unix socket cannot be listened on
├── EnvoyNotFoundError  no Envoy is installed (`envoy_binary`)
└── SourceEndedError    the source of models stopped telling
"""


class GatewayError(Exception):
    """Base of the errors of this package; its text is a sentence for whoever runs the gateway."""


class StateFileError(GatewayError):
    """The state file's content is not a view: not JSON, another version's, or a value out of place."""


class SocketError(GatewayError):
    """The path is too long for a unix socket, taken by something else, or cannot be bound."""


class SourceEndedError(GatewayError):
    """A source came to an end, so what is served would grow stale without anyone noticing."""

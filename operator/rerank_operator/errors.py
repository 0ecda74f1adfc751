"""What can go wrong in the operator.

OperatorError
├── SettingsError   the settings file cannot be used: the process ends and says why
├── RestoredError   the API server went back in time: the process ends, and begins anew
├── ForeignError    an object of that name exists and is somebody else's: it is left alone, and said
└── ClusterError    the API server refused or could not be asked: tried again with growing pauses
    ├── ConflictError   somebody changed the object in between
    └── EndingError     the namespace is being deleted, and takes nothing new
"""

from dataclasses import dataclass


class OperatorError(Exception):
    """Base of all."""


class SettingsError(OperatorError):
    """The settings file cannot be used."""


class RestoredError(OperatorError):
    """The API server went back in time, as after a restored backup: all that is known has to be forgotten."""


class ForeignError(OperatorError):
    """An object that a model needs exists already and belongs to somebody else."""


@dataclass(eq=False)
class ClusterError(OperatorError):
    """The API server's refusal, or that it could not be asked (status 0)."""

    what: str
    """What was tried, as `apply Deployment default/bge`."""
    status: int
    reason: str

    def __str__(self) -> str:
        return f"could not {self.what}: {self.reason}"


class ConflictError(ClusterError):
    """The object is there already, or was changed in between (409)."""


class EndingError(ClusterError):
    """The namespace is being deleted: nothing can be made in it any more, and nothing needs to be."""

"""The exceptions that the command line tells its user as one sentence.

CliError
├── StartError      `rerank up` could not start
├── UsageError      an argument that cannot be understood; exit code 2
├── AnswerError     a gateway that cannot be reached, or that answered with an error
└── ClusterError    the same of Kubernetes' API server
"""


class CliError(Exception):
    """What went wrong, where, and what to do, as a sentence. Ends the command with `exit_code`."""

    exit_code = 1


class StartError(CliError):
    """`rerank up` could not start; nothing is left running."""


class UsageError(CliError):
    """An argument cannot be understood."""

    exit_code = 2


class AnswerError(CliError):
    """A request was not answered, or was answered with an error."""

    def __init__(self, sentence: str, status: int | None = None) -> None:
        super().__init__(sentence)
        self.status = status
        """The HTTP status of the answer; None where there was none."""


class ClusterError(CliError):
    """An API server did not do what it was asked."""

    def __init__(self, sentence: str, status: int | None = None, reason: str = "") -> None:
        super().__init__(sentence)
        self.status = status
        """The HTTP status of the answer; None where there was none, and nobody knows whether it was done."""
        self.reason = reason
        """The answer's reason as Kubernetes has them, e.g. `AlreadyExists`."""

"""What can go wrong, in sentences that say what to do.

OneNodeError
├── MissingError         this machine lacks something
├── OccupiedError        something else is where the cluster should be
├── BuildError           a program did not build
└── NotReadyError        a component did not become ready in time
"""


class OneNodeError(Exception):
    """Base of everything this tool raises on purpose; the message is for the one who ran it."""


class MissingError(OneNodeError):
    """This machine lacks something; the message says how to get it."""


class OccupiedError(OneNodeError):
    """Something that this tool did not make is in its place."""


class BuildError(OneNodeError):
    """A program did not build; the message holds the compiler's last lines."""


class NotReadyError(OneNodeError):
    """A component did not become ready; the message holds its last lines."""

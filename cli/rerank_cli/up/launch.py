"""Become a command that dies with its parent: `python -I -S launch.py PARENT_PID COMMAND [ARGUMENT…]`.

Run as a script in a fresh interpreter, so that nothing has to happen between fork and exec in the parent,
which has threads. Linux only; elsewhere the command runs without this tie.
"""

import ctypes
import os
import signal
import sys

PR_SET_PDEATHSIG = 1
"""prctl(2): the signal that this process gets when its parent ends. It outlives exec."""


def main() -> None:
    """Tie this process to its parent, then become the command."""
    parent, command = int(sys.argv[1]), sys.argv[2:]
    if sys.platform == "linux":
        ctypes.CDLL(None).prctl(PR_SET_PDEATHSIG, signal.SIGKILL, 0, 0, 0)
        if os.getppid() != parent:
            sys.exit(1)  # the parent ended before the tie was there
    try:
        os.execv(command[0], command)  # noqa: S606  # a list of arguments, which is safer than a shell
    except OSError as error:
        sys.exit(f"{command[0]} cannot be run: {error.strerror}")


if __name__ == "__main__":
    main()

"""Why a process ended, in words: pure."""

import signal


def in_words(returncode: int) -> str:
    """Say how a process ended, by the number that `subprocess` reports: negative is a signal."""
    if returncode == 0:
        return "ended by itself (exit code 0)"
    if returncode > 0:
        return f"ended with exit code {returncode}"
    if -returncode == signal.SIGKILL:
        return "was killed (SIGKILL): by the kernel if memory ran out, or by hand"
    try:
        name = signal.Signals(-returncode).name
    except ValueError:
        return f"was ended by signal {-returncode}"
    meaning = {
        "SIGSEGV": ": it crashed in native code",
        "SIGABRT": ": it gave up in native code",
        "SIGBUS": ": a file it had mapped shrank, or the disk is full",
        "SIGILL": ": this CPU lacks an instruction that it uses",
    }.get(name, "")
    return f"was ended by {name}{meaning}"

"""What an engine's exception means. torch's are told by their names: to import torch takes seconds."""

SIGNS_OF_MEMORY = ("DefaultCPUAllocator", "CUDA error: out of memory")
"""torch has a class for what its allocator of an accelerator refuses, and sentences for everything else."""


def out_of_memory(error: BaseException) -> bool:
    """Say whether memory did not suffice, so that fewer rows at once may do."""
    if isinstance(error, MemoryError) or type(error).__name__ == "OutOfMemoryError":
        return True
    return isinstance(error, RuntimeError) and any(sign in str(error) for sign in SIGNS_OF_MEMORY)

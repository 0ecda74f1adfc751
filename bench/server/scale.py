"""How much is measured: enough to judge by, or just enough to see that everything runs."""

from dataclasses import dataclass


@dataclass(frozen=True)
class Scale:
    """The lengths of all the benchmarks of the server."""

    quick: bool
    """The figures are no judgement, so that they are shown without their bars."""
    library_rounds: int
    minilm_documents: int
    xlm_r_documents: int
    causal_rounds: int
    causal_documents: int
    served_rounds: int
    served_requests: int
    """A round of one server; every server answers the same."""
    mixed_rounds: int
    large_documents: int
    large_requests: int
    """Of the client that sends nothing else, a round."""
    overload_seconds: float
    starts: int
    steady_requests: int
    """Before the memory is read for the first time; four times as many follow."""


FULL = Scale(
    quick=False,
    library_rounds=7,
    minilm_documents=50,
    xlm_r_documents=12,
    causal_rounds=5,
    causal_documents=20,
    served_rounds=5,
    served_requests=32,
    mixed_rounds=3,
    large_documents=600,
    large_requests=3,
    overload_seconds=60,
    starts=5,
    steady_requests=2000,
)
QUICK = Scale(
    quick=True,
    library_rounds=1,
    minilm_documents=10,
    xlm_r_documents=3,
    causal_rounds=1,
    causal_documents=4,
    served_rounds=1,
    served_requests=8,
    mixed_rounds=1,
    large_documents=60,
    large_requests=2,
    overload_seconds=2,
    starts=1,
    steady_requests=40,
)

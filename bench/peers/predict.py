"""`CrossEncoder.predict` of sentence-transformers at its defaults, with one thread. Argument: the checkpoint.

The activation is left out, so that raw scores can be compared; it costs nothing beside the model.
"""

import sys
from collections.abc import Sequence
from importlib.metadata import version

import torch
from sentence_transformers import CrossEncoder

from bench.peers.rounds import serve, use_one_core


def main(directory: str) -> None:
    """Load the checkpoint and serve rounds."""
    use_one_core()
    torch.set_num_threads(1)
    model = CrossEncoder(directory, device="cpu")

    def score(query: str, documents: Sequence[str]) -> Sequence[float]:
        pairs = [(query, document) for document in documents]
        scores = model.predict(pairs, activation_fn=torch.nn.Identity(), show_progress_bar=False)
        return [float(each) for each in scores]

    names = ("sentence-transformers", "transformers")
    serve(score, **{name: version(name) for name in names})


if __name__ == "__main__":
    main(sys.argv[1])

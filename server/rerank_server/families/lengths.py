"""How many tokens a row may have. Pure."""

from rerank_server.errors import LoadError
from rerank_server.families.checkpoint import CheckpointFiles

NO_LIMIT = 1_000_000
"""tokenizer_config.json writes 10^30 where it knows no limit; no model here takes a million tokens."""
FALLBACK = 512
"""Where neither the model nor its tokenizer says."""


def declared_lengths(files: CheckpointFiles) -> list[int]:
    """Return the limits that the tokenizer's and sentence-transformers' files declare."""
    candidates = (files.tokenizer_config.get("model_max_length"), files.sentence_bert.get("max_seq_length"))
    return [int(each) for each in candidates if isinstance(each, int | float) and 0 < each < NO_LIMIT]


def choose_length(asked: int | None, files: CheckpointFiles, capacity: int | None) -> int:
    """Return the longest row: what the manifest asks, or the least of what the checkpoint declares.

    `capacity` is what the model's positions allow. Raises `LoadError` where more than that is asked.
    """
    if asked is None:
        return min([*declared_lengths(files), *([] if capacity is None else [capacity])], default=FALLBACK)
    if capacity is not None and asked > capacity:
        raise LoadError(
            f"scoring.maxLength is {asked}, and this model has positions for {capacity} tokens: "
            f"set it to {capacity} or less, or leave it out."
        )
    return asked

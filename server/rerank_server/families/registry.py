"""The families, and which of them takes a checkpoint."""

from rerank_server.errors import LoadError
from rerank_server.families.checkpoint import CheckpointFiles
from rerank_server.families.embedding import EmbeddingFamily
from rerank_server.families.interface import Family
from rerank_server.families.sequence_classification import SequenceClassification

FAMILIES: tuple[Family, ...] = (SequenceClassification(), EmbeddingFamily())
AUTO = "auto"


def choose_family(files: CheckpointFiles, wanted: str = AUTO) -> Family:
    """Return the family that the manifest names, or the first that recognises the checkpoint.

    Raises `LoadError`, with what each family found, where none takes it.
    """
    if wanted != AUTO:
        return _named(files, wanted)
    found = [(family, family.recognise(files, named=False)) for family in FAMILIES]
    for family, fit in found:
        if fit.fits:
            return family
    raise LoadError(
        f"{files.architecture} in {files.root} is not supported. "
        + " ".join(f"As {family.name}: {fit.reason}." for family, fit in found)
        + f" Supported are: {'; '.join(family.summary for family in FAMILIES)}."
    )


def _named(files: CheckpointFiles, wanted: str) -> Family:
    for family in FAMILIES:
        if family.name == wanted:
            fit = family.recognise(files, named=True)
            if fit.fits:
                return family
            raise LoadError(
                f"{files.architecture} in {files.root} cannot be served as {wanted}: {fit.reason}. "
                f"Set scoring.family to {AUTO}, or to the family that the checkpoint is of."
            )
    names = ", ".join([AUTO, *(family.name for family in FAMILIES)])
    raise LoadError(f"scoring.family is `{wanted}`: it must be one of {names}.")

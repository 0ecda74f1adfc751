"""Where a checkpoint comes from: one function over all sources that a manifest can name."""

import os

# huggingface_hub reads it when it is imported: without it, it adds this machine's traits to every request.
os.environ.setdefault("HF_HUB_DISABLE_TELEMETRY", "1")

from pathlib import Path

from rerank_api.source import (
    ClaimSource,
    FileSource,
    HostPathSource,
    HuggingFaceSource,
    OciSource,
    PackageSource,
    S3Source,
    Source,
)
from rerank_server.sources.file import fetch_file
from rerank_server.sources.interface import Checkpoint, Progress, Report, SourceError
from rerank_server.sources.package import fetch_package

__all__ = ["CLAIM_MOUNT", "Checkpoint", "Progress", "Report", "SourceError", "fetch"]

CLAIM_MOUNT = Path("/model")
"""Where a pod mounts the volume of a `pvc` source."""


def fetch(source: Source, *, cache_dir: Path | None, token: str | None, report: Report) -> Checkpoint:
    """Have the model of `source` on this machine and return where; blocks until it is there.

    `cache_dir` (None: the hub client's own) and `token` are for the hub only, and so is `report`: the other
    sources download nothing. Raises `SourceError`.
    """
    match source.chosen:
        case HuggingFaceSource(repo=repo, revision=revision):
            # The hub's client takes a tenth of a server's start to import; the other sources need none of it.
            from rerank_server.sources.hub import fetch_hub

            return fetch_hub(repo, revision, token, cache_dir, report)
        case PackageSource(name=name):
            return fetch_package(name)
        case FileSource(path=path) | HostPathSource(path=path):
            return fetch_file(Path(path))
        case ClaimSource(path=inner):
            return fetch_file(CLAIM_MOUNT / (inner or ""))
        case S3Source() | OciSource():
            raise SourceError(
                f"The server does not act on the source `{_name(source)}` yet: use huggingFace, package, "
                "pvc, hostPath or file."
            )


def _name(source: Source) -> str:
    [name] = source.model_dump(by_alias=True, exclude_none=True)
    return name

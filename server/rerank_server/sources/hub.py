"""A checkpoint from a hub that speaks the Hugging Face Hub's protocol, pinned to a commit and proven."""

import logging
import shutil
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path
from typing import TypeVar

from huggingface_hub import HfApi, hf_hub_download, is_offline_mode
from huggingface_hub.constants import DEFAULT_REVISION, ENDPOINT, HF_HUB_CACHE
from huggingface_hub.errors import HFValidationError

from rerank_server.sources.digests import Digest
from rerank_server.sources.hub_cache import COMMIT, HubCache, HubFile, Listing, mismatch, total_size
from rerank_server.sources.hub_client import resume_after_resets
from rerank_server.sources.hub_errors import HUB_FAILURES, HubRequest, explain
from rerank_server.sources.hub_progress import Meter
from rerank_server.sources.interface import Checkpoint, Report, SourceError
from rerank_server.sources.patience import Patience
from rerank_server.sources.selection import lack, wanted

log = logging.getLogger(__name__)
Result = TypeVar("Result")
LISTING_TIMEOUT_S = 30.0
TRIES_AT_A_BAD_FILE = 2


def fetch_hub(
    repo: str,
    revision: str | None,
    token: str | None,
    cache_dir: Path | None,
    report: Report,
    *,
    endpoint: str | None = None,
    patience: Patience | None = None,
) -> Checkpoint:
    """Fetch what is served of `repo` into the hub cache `cache_dir`; the checkpoint's revision is the commit.

    `revision` is a branch, tag or commit; None is `main`. A commit that is whole in the cache is taken
    without asking the hub. Where the hub cannot be reached, a branch or tag is what it was when the hub last
    answered. `token` None asks anonymously, whatever token this machine keeps. `cache_dir` and `endpoint`
    None are huggingface_hub's own defaults (HF_HUB_CACHE, HF_ENDPOINT, both read when it is imported).

    Every file is compared with the hub's digest (SHA-256 of LFS files, git object id of the others) once it
    is there. Progress counts all files, cached ones included, and never goes back. Raises `SourceError`.
    """
    request = HubRequest(repo, revision or DEFAULT_REVISION, endpoint or ENDPOINT, _checked(token))
    root = (cache_dir or Path(HF_HUB_CACHE)).expanduser().absolute()
    resume_after_resets()
    try:
        fetch = _Fetch(request, root, HubCache.of(root, repo), patience or Patience())
        listing = fetch.choose()
        fetch.download(listing, report)
    except (OSError, HFValidationError) as error:
        raise explain(error, request) from error
    return Checkpoint(fetch.cache.snapshot(listing.commit), listing.commit)


@dataclass(frozen=True)
class _Fetch:
    """One fetch: what is asked for, where it goes, how often it is tried."""

    request: HubRequest
    cache_dir: Path
    cache: HubCache
    patience: Patience

    def choose(self) -> Listing:
        """Resolve the revision to a commit and say which of its files are served from."""
        request = self.request
        if COMMIT.fullmatch(request.revision) and (files := self.cache.recorded(request.revision)):
            log.info("%s at commit %s is known; the hub is not asked for it", request.repo, request.revision)
            return Listing(request.revision, tuple(files))
        try:
            listing = self.patience.retrying(lambda: self._calling(self._ask))
        except SourceError as error:
            if not (error.transient or is_offline_mode()):
                raise
            return self._list_from_cache(error)
        problem = lack(file.name for file in listing.files)
        if problem:
            raise SourceError(f"The repository {request.repo} at commit {listing.commit[:12]} {problem}.")
        self.cache.remember_commit(request.revision, listing.commit)
        chosen = set(wanted(file.name for file in listing.files))
        return Listing(listing.commit, tuple(file for file in listing.files if file.name in chosen))

    def download(self, listing: Listing, report: Report) -> None:
        """Bring in what is missing of `listing`, smallest files first, and prove every file.

        Small files first, so that a cache that holds the weights also holds all that explains them.
        """
        proven = self.cache.recorded(listing.commit)
        root = self.cache.snapshot(listing.commit)
        absent = [file for file in listing.files if not (root / file.name).exists()]
        self._check_room(absent)
        total = total_size(listing.files)
        log.info(
            "%s at commit %s: %d files, %d of them to fetch (%s bytes in all)",
            self.request.repo,
            listing.commit,
            len(listing.files),
            len(absent),
            "unknown" if total is None else total,
        )
        meter = Meter(total, report)
        for file in sorted(listing.files, key=lambda file: (file.size or 0, file.name)):
            path = root / file.name
            if not _is_as_proven(path, proven.get(file)):
                self._bring(file, listing.commit, path, meter)
            meter.settle(path.stat().st_size if file.size is None else file.size)
        self.cache.record(listing)

    def _bring(self, file: HubFile, commit: str, path: Path, meter: Meter) -> None:
        """Have a proven copy of `file` at `path`, from the cache or from the hub."""
        if path.exists():
            if self._proven(path, file) is None:
                return
            log.warning("%s in the cache is damaged and is fetched again", path)
        bad: Digest | None = None
        for _ in range(TRIES_AT_A_BAD_FILE):
            self.patience.retrying(lambda: self._calling(lambda: self._fetch_file(file, commit, meter)))
            bad = self._proven(path, file)
            if bad is None:
                return
            log.warning("%s of %s arrived damaged: got %s", file.name, self.request.repo, bad)
        raise SourceError(
            f"The file {file.name} of {self.request.repo} at commit {commit[:12]} arrives damaged from "
            f"{self.request.hub}: expected {file.digest}, got {bad}. Nothing of it was kept; check for a "
            "proxy that changes files, or name another revision."
        )

    def _proven(self, path: Path, file: HubFile) -> Digest | None:
        """Return the wrong digest of a file that is not the expected one, after deleting it."""
        bad = mismatch(path, file)
        if bad is not None:
            self.cache.discard(path)
        return bad

    def _ask(self) -> Listing:
        request = self.request
        info = self._api().model_info(
            request.repo,
            revision=request.revision,
            timeout=LISTING_TIMEOUT_S,
            files_metadata=True,
            token=request.token or False,
        )
        if info.sha is None or not COMMIT.fullmatch(info.sha):
            raise ValueError("its answer names no commit")
        files = []
        for sibling in info.siblings or ():
            digest = None
            if sibling.lfs is not None:
                digest = Digest("sha256", sibling.lfs.sha256)
            elif sibling.blob_id is not None:
                digest = Digest("git-sha1", sibling.blob_id)
            files.append(HubFile(sibling.rfilename, sibling.size, digest))
        return Listing(info.sha, tuple(files))

    def _fetch_file(self, file: HubFile, commit: str, meter: Meter) -> None:
        hf_hub_download(
            self.request.repo,
            file.name,
            revision=commit,
            cache_dir=self.cache_dir,
            token=self.request.token or False,
            endpoint=self.request.endpoint,
            tqdm_class=meter.begin(file.size),
            library_name="rerank-operator",
        )

    def _list_from_cache(self, error: SourceError) -> Listing:
        """Take the last known commit from the cache where it is servable, else raise `error`."""
        revision = self.request.revision
        commit = revision if COMMIT.fullmatch(revision) else self.cache.last_commit(revision)
        if commit is None:
            raise error
        files = tuple(self.cache.recorded(commit))
        listing = Listing(commit, files) if files else self.cache.found(commit)
        if listing is None:
            raise error
        log.warning(
            "%s Serving %s at commit %s from the cache.%s",
            error,
            self.request.repo,
            commit,
            "" if commit == revision else f" Pin this commit to be sure that `{revision}` stays what it is.",
        )
        return listing

    def _check_room(self, absent: list[HubFile]) -> None:
        needed = sum(file.size or 0 for file in absent)
        place = next(place for place in (self.cache_dir, *self.cache_dir.parents) if place.exists())
        free = shutil.disk_usage(place).free
        if needed > free:
            raise SourceError(
                f"{self.request.repo} needs {_gigabytes(needed)} more in the cache {self.cache_dir}, which "
                f"has {_gigabytes(free)} free: free some space, or give the cache a larger volume."
            )

    def _calling(self, call: Callable[[], Result]) -> Result:
        try:
            return call()
        except HUB_FAILURES as error:
            raise explain(error, self.request) from error

    def _api(self) -> HfApi:
        return HfApi(endpoint=self.request.endpoint, library_name="rerank-operator")


def _is_as_proven(path: Path, mtime_ns: int | None) -> bool:
    return mtime_ns is not None and path.exists() and path.stat().st_mtime_ns == mtime_ns


def _checked(token: str | None) -> str | None:
    """Return the token without the line end that files and secrets often have; empty is none."""
    token = (token or "").strip()
    if not (token.isascii() and token.isprintable()) or " " in token:
        raise SourceError(
            "The hub token holds spaces or other characters that no token has: store the token alone."
        )
    return token or None


def _gigabytes(size: int) -> str:
    return f"{size / 1e9:.1f} GB"

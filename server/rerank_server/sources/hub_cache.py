"""What the hub cache of this machine holds of one repository, and what of it is proven.

The layout is huggingface_hub's own (`models--owner--name/{blobs,refs,snapshots}`), so a cache that
`hf download` filled is used as it is. Beside it, `rerank/<commit>.json` records which files a commit has and
that their content was compared with the hub's digests; a file that was changed since then is compared again.
"""

import json
import logging
import os
import re
from collections.abc import Iterable
from dataclasses import dataclass
from pathlib import Path
from urllib.parse import quote

from huggingface_hub.file_download import repo_folder_name

from rerank_server.sources.digests import Algorithm, Digest, digest_of
from rerank_server.sources.file import names_under
from rerank_server.sources.selection import lack, wanted

log = logging.getLogger(__name__)
COMMIT = re.compile(r"[0-9a-f]{40}")
_SHA256 = re.compile(r"[0-9a-f]{64}")
_ALGORITHMS: dict[str, Algorithm] = {"sha256": "sha256", "git-sha1": "git-sha1"}


@dataclass(frozen=True)
class HubFile:
    """A file of a commit."""

    name: str
    """POSIX path in the repository."""
    size: int | None = None
    digest: Digest | None = None
    """None where nobody says (a mirror that lists names only)."""


@dataclass(frozen=True)
class Listing:
    """What a commit is made of."""

    commit: str
    files: tuple[HubFile, ...]


@dataclass(frozen=True)
class HubCache:
    """One repository's folder in a hub cache."""

    folder: Path

    @classmethod
    def of(cls, cache_dir: Path, repo: str) -> "HubCache":
        """Return the folder of `repo`, which need not exist yet."""
        return cls(cache_dir / repo_folder_name(repo_id=repo, repo_type="model"))

    def snapshot(self, commit: str) -> Path:
        """Return the directory that holds the files of `commit`."""
        return self.folder / "snapshots" / commit

    def last_commit(self, revision: str) -> str | None:
        """Return the commit that a branch or tag was when the hub was last asked."""
        try:
            commit = self._ref(revision).read_text().strip()
        except OSError:
            return None
        return commit if COMMIT.fullmatch(commit) else None

    def remember_commit(self, revision: str, commit: str) -> None:
        """Note what a branch or tag is now, where huggingface_hub notes it too."""
        if not COMMIT.fullmatch(revision):
            self._write(self._ref(revision), commit)

    def recorded(self, commit: str) -> dict[HubFile, int]:
        """Return the files of a commit that was fetched whole, with their times (ns) when proven."""
        try:
            record = json.loads(self._record(commit).read_bytes())
            return {_read_file(entry): int(entry["mtime_ns"]) for entry in record["files"]}
        except FileNotFoundError:
            return {}
        except (OSError, ValueError, KeyError, TypeError) as error:
            log.warning("%s is not readable and is not used: %s", self._record(commit), error)
            return {}

    def record(self, listing: Listing) -> None:
        """Note that all files of `listing` are there and proven."""
        entries = []
        for file in listing.files:
            stat = (self.snapshot(listing.commit) / file.name).stat()
            entries.append(_write_file(file, stat.st_size, stat.st_mtime_ns))
        self._write(self._record(listing.commit), json.dumps({"files": entries}))

    def found(self, commit: str) -> Listing | None:
        """Return a listing made from the files that are there, if they are a servable checkpoint.

        For caches that other tools filled. Large files carry their SHA-256 in the name of the blob that they
        link to; whether a small file is missing cannot be known.
        """
        root = self.snapshot(commit)
        if not root.is_dir():
            return None
        names = names_under(root)
        if lack(names):
            return None
        files = (HubFile(name, (root / name).stat().st_size, _linked(root / name)) for name in wanted(names))
        return Listing(commit, tuple(files))

    def discard(self, path: Path) -> None:
        """Delete a bad file: the snapshot's link and every blob of this cache that it leads to."""
        chain = [path]
        while chain[-1].is_symlink():
            link = chain[-1]
            chain.append(link.parent / link.readlink())
        for step in chain:
            if Path(os.path.normpath(step)).is_relative_to(self.folder.parent):
                step.unlink(missing_ok=True)

    def _ref(self, revision: str) -> Path:
        return self.folder / "refs" / revision

    def _record(self, commit: str) -> Path:
        return self.folder / "rerank" / f"{quote(commit, safe='')}.json"

    def _write(self, path: Path, text: str) -> None:
        """Write whole or not at all; a cache that cannot be written is served from all the same."""
        whole = path.with_name(f"{path.name}.{os.getpid()}.part")
        try:
            path.parent.mkdir(parents=True, exist_ok=True)
            whole.write_text(text)
            whole.replace(path)
        except OSError as error:
            log.info("%s could not be written: %s", path, error)


def mismatch(path: Path, file: HubFile) -> Digest | None:
    """Return the digest of the file at `path` where it is not the expected one."""
    expected = file.digest or _linked(path)
    if expected is None:
        return None
    actual = digest_of(path, expected.algorithm)
    return None if actual == expected else actual


def total_size(files: Iterable[HubFile]) -> int | None:
    """Return the bytes of all files together; None where one is unknown."""
    sizes = [file.size for file in files]
    known = [size for size in sizes if size is not None]
    return sum(known) if len(known) == len(sizes) else None


def _linked(path: Path) -> Digest | None:
    """Return the SHA-256 that the blob's name promises.

    Names of 40 digits are git's own ids on the hub but plain SHA-1 on some mirrors, so they prove nothing.
    """
    name = path.readlink().name if path.is_symlink() else ""
    return Digest("sha256", name) if _SHA256.fullmatch(name) else None


def _read_file(entry: dict[str, str | int | None]) -> HubFile:
    size, known = entry["size"], entry["algorithm"] is not None
    digest = Digest(_ALGORITHMS[str(entry["algorithm"])], str(entry["digest"])) if known else None
    return HubFile(str(entry["name"]), None if size is None else int(size), digest)


def _write_file(file: HubFile, size: int, mtime_ns: int) -> dict[str, str | int | None]:
    return {
        "name": file.name,
        "size": size,
        "algorithm": file.digest.algorithm if file.digest else None,
        "digest": file.digest.hex if file.digest else None,
        "mtime_ns": mtime_ns,
    }

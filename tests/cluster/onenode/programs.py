"""Programs built from the pinned Go modules in tests/cluster/programs, once, outside the checkout.

A program's place in the cache is named after all that decides what it is: its module's go.mod and go.sum,
Go's version, the arguments of the build. So checkouts share what they have in common and never disturb each
other.
"""

import hashlib
import os
import shutil
import subprocess
import time
from collections.abc import Iterable
from dataclasses import dataclass
from pathlib import Path

from tests.cluster.onenode.errors import BuildError, MissingError

MODULES = Path(__file__).resolve().parent.parent / "programs"
KUBERNETES = "1.34.4"
GO = "1.26.8"
ENVIRONMENT = {"CGO_ENABLED": "0", "GOFLAGS": "", "GOWORK": "off"}
TAIL_LINES = 20


@dataclass(frozen=True)
class Program:
    """A main package and the module of ours that pins its version."""

    name: str
    module: str
    package: str


@dataclass(frozen=True)
class Manifests:
    """A directory of Kubernetes manifests that a module brings along; `pattern` says which of its files."""

    name: str
    module: str
    path: str
    pattern: str


PROGRAMS = (
    Program("etcd", "etcd", "go.etcd.io/etcd/server/v3"),
    *(
        Program(name, "kubernetes", f"k8s.io/kubernetes/cmd/{name}")
        for name in (
            "kube-apiserver",
            "kube-controller-manager",
            "kube-scheduler",
            "kubelet",
            "kube-proxy",
            "kubectl",
        )
    ),
    Program("helm", "helm", "helm.sh/helm/v4/cmd/helm"),
    Program("contour", "contour", "github.com/projectcontour/contour/cmd/contour"),
    Program("coredns", "coredns", "github.com/coredns/coredns"),
    Program("kwok", "kwok", "sigs.k8s.io/kwok/cmd/kwok"),
)
CLIENTS = tuple(program for program in PROGRAMS if program.name in ("kubectl", "helm", "kwok"))
# Both from Contour's module, so that they are of the versions that Contour was built with.
CRDS = (
    Manifests(
        "gateway-api", "sigs.k8s.io/gateway-api", "config/crd/experimental", "gateway.networking.*.yaml"
    ),
    Manifests("contour", "github.com/projectcontour/contour", "examples/contour", "01-crds.yaml"),
)


def cache_directory() -> Path:
    """Return the directory for what is made once a machine."""
    chosen = os.environ.get("RERANK_CACHE_DIR")
    return Path(chosen) if chosen else Path.home() / ".cache" / "rerank"


def arguments(program: Program) -> tuple[str, ...]:
    """Return what `go build` is given, less the output. Without a version set, clients would see v0.0.0."""
    flags = ["-s", "-w"]
    if program.module == "kubernetes":
        major, minor, _ = KUBERNETES.split(".")
        version = "k8s.io/component-base/version"
        for key, value in (("gitVersion", f"v{KUBERNETES}"), ("gitMajor", major), ("gitMinor", minor)):
            flags += ["-X", f"{version}.{key}={value}"]
    return ("-mod=readonly", "-trimpath", "-buildvcs=false", "-ldflags", " ".join(flags), program.package)


def digest(program: Program, go_version: str, modules: Path = MODULES) -> str:
    """Return twelve hexadecimal digits that change whenever the built program may."""
    hashed = hashlib.sha256()
    for part in (
        (modules / program.module / "go.mod").read_bytes(),
        (modules / program.module / "go.sum").read_bytes(),
        go_version.encode(),
        "\0".join(arguments(program)).encode(),
    ):
        hashed.update(hashlib.sha256(part).digest())
    return hashed.hexdigest()[:12]


def go_version() -> str:
    """Return the version of Go, as `go1.26.8`; raise MissingError without one."""
    if shutil.which("go") is None:
        raise MissingError(
            f"Go is not on PATH, and the test cluster is built with it: install Go {GO} or newer from the "
            "downloads of the Go project, and put its bin directory on PATH. Debian's package is too old."
        )
    return _go(["env", "GOVERSION"], MODULES / "etcd").strip()


def ensure(programs: Iterable[Program] = PROGRAMS) -> Path:
    """Build what is not in the cache; return a directory with every one of `programs` under its own name."""
    version = go_version()
    chosen = tuple(programs)
    built = {program.name: _build(program, version) for program in chosen}
    together = hashlib.sha256("\0".join(str(path) for path in built.values()).encode()).hexdigest()[:12]
    directory = cache_directory() / "bin" / together
    if not directory.exists():
        draft = directory.with_name(f".{together}.{os.getpid()}")
        draft.mkdir(parents=True)
        for name, path in built.items():
            (draft / name).symlink_to(path)
        _rename(draft, directory)
    return directory


def crds() -> tuple[Path, ...]:
    """Return the files with the definitions of the Gateway API and of Contour."""
    contour = next(program for program in PROGRAMS if program.name == "contour")
    kept = cache_directory() / "crds" / digest(contour, go_version())
    if not kept.exists():
        draft = kept.with_name(f".{kept.name}.{os.getpid()}")
        draft.mkdir(parents=True)
        for manifests in CRDS:
            module = MODULES / contour.module
            source = Path(_go(["list", "-m", "-f", "{{.Dir}}", manifests.module], module).strip())
            for file in sorted((source / manifests.path).glob(manifests.pattern)):
                shutil.copyfile(file, draft / f"{manifests.name}-{file.name}")
        _rename(draft, kept)
    return tuple(sorted(kept.iterdir()))


def _build(program: Program, version: str) -> Path:
    binary = cache_directory() / "programs" / f"{program.name}-{digest(program, version)}"
    if binary.exists():
        return binary
    binary.parent.mkdir(parents=True, exist_ok=True)
    print(f"Building {program.name} …", end=" ", flush=True)
    begun = time.monotonic()
    draft = binary.with_name(f".{binary.name}.{os.getpid()}")
    try:
        _go(["build", "-o", str(draft), *arguments(program)], MODULES / program.module)
        draft.rename(binary)
    finally:
        draft.unlink(missing_ok=True)
    print(f"{time.monotonic() - begun:.0f} s", flush=True)
    return binary


def _go(arguments: list[str], directory: Path) -> str:
    done = subprocess.run(
        ["go", *arguments],
        cwd=directory,
        env={**os.environ, **ENVIRONMENT},
        capture_output=True,
        text=True,
        check=False,
    )
    if done.returncode != 0:
        said = "\n".join(done.stderr.splitlines()[-TAIL_LINES:])
        raise BuildError(
            f"`go {' '.join(arguments)}` in {directory} failed:\n{said}\n"
            f"It needs Go {GO} or newer, and a Go module proxy that can be reached (see `go env GOPROXY`)."
        )
    return done.stdout


def _rename(draft: Path, place: Path) -> None:
    """Put the finished directory in its place; another process may have been faster with the same."""
    try:
        draft.rename(place)
    except OSError:
        shutil.rmtree(draft)
        if not place.exists():
            raise

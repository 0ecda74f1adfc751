"""Which layers travel into containerd, which names are left over, and where images go another way."""

import json
import socket
from collections.abc import Iterator
from pathlib import Path
from tempfile import TemporaryDirectory
from typing import Any

import pytest

from images import debian, layers, secrets
from images.containerd import Containerd
from images.errors import MissingError

TAR, PACKED = "application/vnd.oci.image.layer.v1.tar", "application/vnd.oci.image.layer.v1.tar+zstd"


def layer(digest: str, size: int, media_type: str = PACKED) -> dict[str, Any]:
    return {"mediaType": media_type, "digest": digest, "size": size}


LOADED = (
    {
        "config": layer("sha256:c1", 10),
        "layers": [layer("sha256:base-packed", 5), layer("sha256:old-packed", 1)],
    },
    {"rootfs": {"diff_ids": ["sha256:base", "sha256:old"]}},
)
# As buildah writes it with an empty file in the place of the base.
PUSHED = {
    "schemaVersion": 2,
    "config": layer("sha256:c2", 11),
    "layers": [layer("sha256:base", 0, TAR), layer("sha256:new-packed", 2)],
}


def test_layers_are_known_by_the_digest_of_their_archive() -> None:
    known = layers.known([LOADED], frozenset({"sha256:base-packed", "sha256:old-packed"}))
    assert known == {"sha256:base": LOADED[0]["layers"][0], "sha256:old": LOADED[0]["layers"][1]}


def test_a_layer_whose_blob_is_gone_is_not_known() -> None:
    assert list(layers.known([LOADED], frozenset({"sha256:base-packed"}))) == ["sha256:base"]


def test_only_what_the_store_lacks_travels_and_the_manifest_names_the_stores_own_blobs() -> None:
    known = layers.known([LOADED], frozenset({"sha256:base-packed"}))
    archive = layers.archive(PUSHED, "localhost/rerank-server:test", known)
    assert archive.blobs == ("sha256:c2", "sha256:new-packed")
    [listed] = json.loads(archive.files["index.json"])["manifests"]
    assert listed["annotations"] == {"io.containerd.image.name": "localhost/rerank-server:test"}
    written = archive.files[layers.blob_path(listed["digest"])]
    assert (layers.digest_of(written), len(written)) == (listed["digest"], listed["size"])
    assert json.loads(written)["layers"] == [layer("sha256:base-packed", 5), layer("sha256:new-packed", 2)]


def test_to_an_empty_store_everything_travels_once() -> None:
    twice = {**PUSHED, "layers": [*PUSHED["layers"], PUSHED["layers"][0]]}
    assert layers.archive(twice, "name", {}).blobs == ("sha256:c2", "sha256:base", "sha256:new-packed")


def test_names_that_nobody_gave_go_once_their_image_has_no_other() -> None:
    images = {
        "localhost/rerank-server:test": "sha256:m2",
        "sha256:c2": "sha256:m2",
        "sha256:c1": "sha256:m1",
        "localhost/pause:1": "sha256:m0",
    }
    assert layers.superseded(images) == ("sha256:c1",)


@pytest.mark.parametrize(
    ("targets", "mirror"),
    [
        pytest.param(
            "http://mirror.example/debian/ bookworm main", "http://mirror.example/debian/", id="as apt"
        ),
        pytest.param(
            "https://cli.example/apt bookworm stable\nhttp://security.example/ bookworm-security main",
            "",
            id="other lists, other suites",
        ),
        pytest.param("cdrom:[Debian]/ bookworm main", "", id="no address"),
        pytest.param("", "", id="no apt"),
    ],
)
def test_the_base_comes_from_where_the_machine_gets_debian(targets: str, mirror: str) -> None:
    assert debian.mirror(targets) == mirror


@pytest.fixture
def cluster() -> Iterator[Path]:
    """A cluster's directory with a socket in it; sockets' paths are short."""
    with TemporaryDirectory() as directory, socket.socket(socket.AF_UNIX) as listening:
        root = Path(directory).resolve()
        (root / "containerd").mkdir()
        listening.bind(str(root / "containerd/containerd.sock"))
        yield root


@pytest.mark.parametrize("kubeconfig", ["", "{cluster}/admin.kubeconfig"])
def test_images_are_loaded_into_the_test_cluster(cluster: Path, kubeconfig: str) -> None:
    programs = cluster / "bin"
    programs.mkdir()
    (programs / "ctr").touch(0o700)
    chosen = {
        "RERANK_CLUSTER_DIR": str(cluster),
        "KUBECONFIG": kubeconfig.format(cluster=cluster),
        "PATH": str(programs),
    }
    assert Containerd.of_test_cluster(chosen).socket == cluster / "containerd/containerd.sock"


def test_without_containerds_own_tool_it_is_said_how_to_get_it(cluster: Path) -> None:
    with pytest.raises(MissingError, match="ctr: apt-get install containerd"):
        Containerd.of_test_cluster({"RERANK_CLUSTER_DIR": str(cluster), "PATH": str(cluster)})


def test_another_cluster_pulls_from_a_registry(cluster: Path) -> None:
    chosen = {"RERANK_CLUSTER_DIR": str(cluster), "KUBECONFIG": "/home/somebody/.kube/config"}
    with pytest.raises(MissingError, match="make images REGISTRY=…`, push both, and name them in the chart"):
        Containerd.of_test_cluster(chosen)


def test_without_a_cluster_it_is_said_how_to_start_one(tmp_path: Path) -> None:
    with pytest.raises(MissingError, match="make cluster"):
        Containerd.of_test_cluster({"RERANK_CLUSTER_DIR": str(tmp_path)})


def test_a_build_learns_how_an_index_is_reached_and_nothing_of_this_machines_files() -> None:
    environment = {
        "PIP_INDEX_URL": "https://me:it's@index.example/simple",
        "UV_INDEX_INNER_PASSWORD": "secret",
        "https_proxy": "http://proxy.example:3128",
        "PIP_FIND_LINKS": "/opt/wheels",
        "UV_CACHE_DIR": "/var/cache/uv",
        "HOME": "/home/somebody",
    }
    assert secrets.script(environment, certificates=False) == (
        "export PIP_INDEX_URL='https://me:it'\"'\"'s@index.example/simple'\n"
        "export UV_INDEX_INNER_PASSWORD=secret\n"
        "export https_proxy=http://proxy.example:3128\n"
    )


def test_the_machines_certificates_are_where_the_build_looks_for_them() -> None:
    assert secrets.script({"PIP_CERT": "/etc/mine.crt"}, certificates=True) == (
        "export PIP_CERT=/run/secrets/certificates\n"
        "export SSL_CERT_FILE=/run/secrets/certificates\n"
        "export UV_SYSTEM_CERTS=1\n"
    )


def test_secrets_are_files_for_this_user_alone_while_the_build_lasts(tmp_path: Path) -> None:
    (tmp_path / "bundle.crt").touch()
    with secrets.mounted({"SSL_CERT_FILE": str(tmp_path / "bundle.crt")}) as files:
        assert files["certificates"] == tmp_path / "bundle.crt"
        assert files["environment"].parent.stat().st_mode & 0o077 == 0
    assert not files["environment"].exists()

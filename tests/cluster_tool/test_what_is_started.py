"""What the tool would start, write and build, without starting it."""

import ipaddress
import json
import re
import shutil
import subprocess
from pathlib import Path

import pytest
import yaml

from tests.cluster.onenode import addresses, cluster, configs, debian, images, leftovers, pki, programs
from tests.cluster.onenode.components import stages
from tests.cluster.onenode.errors import OccupiedError, OneNodeError
from tests.cluster.onenode.state import State

STATE = State(Path("/state"))
TESTS_OF_NETWORKS = [ipaddress.ip_network("198.18.0.0/15")]


def is_private_to_the_cluster(address: str) -> bool:
    parsed = ipaddress.ip_address(address)
    return parsed.is_loopback or any(parsed in network for network in TESTS_OF_NETWORKS)


def test_every_address_is_loopback_or_of_the_range_for_tests() -> None:
    commands = [part for stage in stages(STATE, Path("/bin")) for one in stage for part in one.command]
    written = [*commands, configs.corefile(STATE), json.dumps(configs.kubelet(STATE))]
    found = re.findall(r"\d+\.\d+\.\d+\.\d+", "\n".join(written))
    assert found
    assert [address for address in found if not is_private_to_the_cluster(address)] == []


def test_only_envoy_and_the_gpus_are_on_the_machines_own_network() -> None:
    components = [one for stage in stages(STATE, Path("/bin")) for one in stage]
    assert {one.name for one in components if one.on_host} == {"envoy", "gpus"}
    assert len({one.name for one in components}) == len(components)


@pytest.mark.parametrize("changed", ["go.mod", "go.sum", "the version of Go"])
def test_a_program_is_built_anew_when_this_changes(changed: str, tmp_path: Path) -> None:
    etcd = programs.PROGRAMS[0]
    shutil.copytree(programs.MODULES / etcd.module, tmp_path / etcd.module)
    before = programs.digest(etcd, "go1.26.8", tmp_path)
    assert before == programs.digest(etcd, "go1.26.8", tmp_path)
    if changed.startswith("go."):
        with (tmp_path / etcd.module / changed).open("a") as file:
            file.write("\n")
    after = programs.digest(etcd, "go1.27.0" if changed == "the version of Go" else "go1.26.8", tmp_path)
    assert after != before


@pytest.mark.parametrize("program", programs.PROGRAMS, ids=lambda program: program.name)
def test_every_program_is_pinned_with_hashes(program: programs.Program) -> None:
    module = programs.MODULES / program.module
    required = re.findall(r"^\s*(?:require )?(\S+) (v\S+)", (module / "go.mod").read_text(), re.MULTILINE)
    version = next(version for path, version in required if f"{program.package}/".startswith(f"{path}/"))
    assert f" {version} h1:" in (module / "go.sum").read_text()


def test_the_packages_that_are_absent_are_named_once_each() -> None:
    assert debian.missing(lambda _: True) == ()
    assert debian.missing(lambda needed: needed not in ("containerd", "ctr", "ip")) == (
        "containerd",
        "iproute2",
    )


def test_a_directory_with_other_things_in_it_is_never_taken_over(tmp_path: Path) -> None:
    (tmp_path / "thesis.txt").touch()
    with pytest.raises(OccupiedError, match="RERANK_CLUSTER_DIR"):
        State(tmp_path).make()
    assert [path.name for path in tmp_path.iterdir()] == ["thesis.txt"]


@pytest.mark.parametrize(
    ("value", "chosen"),
    [
        pytest.param("", None, id="not set"),
        pytest.param("/state/admin.kubeconfig", None, id="our own"),
        pytest.param("/home/me/config", Path("/home/me/config"), id="another"),
    ],
)
def test_kubeconfig_chooses_another_cluster(
    value: str, chosen: Path | None, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("KUBECONFIG", value)
    assert cluster.chosen_kubeconfig(STATE) == chosen


def test_an_unknown_component_is_refused_with_the_names_of_the_known_ones() -> None:
    with pytest.raises(OneNodeError, match="apiserver"):
        cluster.of(STATE, Path("/bin")).component("api-server")


def test_mounts_are_undone_in_the_opposite_order_and_only_the_clusters() -> None:
    lines = ["/", "/state/a", "/state/a/b", "/stately", r"/state/with\040blank"]
    mountinfo = "".join(f"1 2 3:4 / {point} rw - ext4 dev rw\n" for point in lines)
    found = leftovers.mounts_below(Path("/state"), mountinfo)
    assert [str(point) for point in found] == ["/state/with blank", "/state/a/b", "/state/a"]


def test_certificates_are_of_the_clusters_authority(tmp_path: Path) -> None:
    if shutil.which("openssl") is None:
        pytest.skip("openssl is not installed")
    state = State(tmp_path / "cluster")
    state.make()
    pki.ensure(state)
    for certificate in pki.CERTIFICATES:
        path = state.pki / f"{certificate.name}.crt"
        verify = ["openssl", "verify", "-x509_strict", "-CAfile", str(state.pki / "ca.crt"), str(path)]
        subprocess.run(verify, check=True, capture_output=True)
    written = yaml.safe_load(state.admin.read_text(encoding="utf-8"))
    assert written["clusters"][0]["cluster"]["server"] == addresses.API_URL
    assert state.admin.stat().st_mode & 0o777 == 0o600


def test_an_image_holds_what_its_digests_say(tmp_path: Path) -> None:
    archive = tmp_path / "image.tar"
    archive.write_bytes(images.oci_archive(b"busybox", ("localhost/a:1", "localhost/b:1")))
    shutil.unpack_archive(archive, tmp_path, filter="data")
    index = json.loads((tmp_path / "index.json").read_text(encoding="utf-8"))
    names = [one["annotations"]["io.containerd.image.name"] for one in index["manifests"]]
    assert names == ["localhost/a:1", "localhost/b:1"]
    for blob in (tmp_path / "blobs" / "sha256").iterdir():
        assert images._digest(blob.read_bytes()) == f"sha256:{blob.name}"

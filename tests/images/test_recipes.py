"""What decides whether an image is built anew, and what it is given."""

import re
import shutil
from pathlib import Path

import pytest

from images import builders, recipe
from images.errors import MissingError
from images.recipe import ROOT, Recipe

SERVER, CONTROL = recipe.recipes(
    "registry.example/ml/", "1.2.3", "1.2.3", base="base:1", packages="some-model"
)
LOCKED = re.compile(r"^([a-z0-9.-]+)==(\S+)", re.MULTILINE)


@pytest.fixture
def checkout(tmp_path: Path) -> Path:
    """A small one, with a file for everything that the builders may see."""
    for source in (*recipe.SOURCES, "images", "docs"):
        if (ROOT / source).is_dir():
            (tmp_path / source / "inner").mkdir(parents=True)
            (tmp_path / source / "inner/file").write_text(source, encoding="utf-8")
        else:
            (tmp_path / source).write_text(source, encoding="utf-8")
    for file in (".dockerignore", "images/server.Containerfile"):
        shutil.copy(ROOT / file, tmp_path / file)
    return tmp_path


def test_an_image_is_named_after_registry_part_and_tag() -> None:
    assert SERVER.reference == "registry.example/ml/rerank-server:1.2.3"
    assert CONTROL.reference == "registry.example/ml/rerank-control:1.2.3"


def test_only_the_server_gets_packages_and_what_is_not_chosen_is_left_to_the_containerfile() -> None:
    assert SERVER.arguments == {"VERSION": "1.2.3", "BASE": "base:1", "PACKAGES": "some-model"}
    assert CONTROL.arguments == {"VERSION": "1.2.3", "BASE": "base:1"}
    assert recipe.recipes("localhost", "1", "1")[0].arguments == {"VERSION": "1"}


@pytest.mark.parametrize(
    "changed",
    [".dockerignore", "images/server.Containerfile", "pyproject.toml", "server/inner/file", "locks/new"],
)
def test_a_change_of_what_goes_in_changes_the_digest(checkout: Path, changed: str) -> None:
    before = recipe.digest(SERVER, "debian", checkout)
    (checkout / changed).write_text("something else", encoding="utf-8")
    assert recipe.digest(SERVER, "debian", checkout) != before


@pytest.mark.parametrize("changed", ["docs/inner/file", "images/inner/file", "api/__pycache__/module.pyc"])
def test_a_change_of_what_stays_out_does_not(checkout: Path, changed: str) -> None:
    before = recipe.digest(SERVER, "debian", checkout)
    (checkout / changed).parent.mkdir(exist_ok=True)
    (checkout / changed).write_text("something else", encoding="utf-8")
    assert recipe.digest(SERVER, "debian", checkout) == before


@pytest.mark.parametrize(
    ("other", "base_recipe"),
    [
        pytest.param(SERVER, "another debian", id="another base of the same name"),
        pytest.param(
            Recipe("server", SERVER.reference, "1.2.3", "base:1", "two models"), "debian", id="packages"
        ),
        pytest.param(
            Recipe("server", SERVER.reference, "1.2.4", "base:1", "some-model"), "debian", id="version"
        ),
    ],
)
def test_other_arguments_change_the_digest(checkout: Path, other: Recipe, base_recipe: str) -> None:
    assert recipe.digest(other, base_recipe, checkout) != recipe.digest(SERVER, "debian", checkout)


def test_the_digest_is_of_what_dockerignore_lets_through() -> None:
    lines = (ROOT / ".dockerignore").read_text(encoding="utf-8").splitlines()
    assert tuple(line[1:] for line in lines if line.startswith("!")) == recipe.SOURCES
    assert "*" in lines


def test_both_builders_are_given_the_same() -> None:
    given = builders.arguments(SERVER, {"environment": Path("/run/env")})
    assert given == [
        "--build-arg=VERSION=1.2.3",
        "--build-arg=BASE=base:1",
        "--build-arg=PACKAGES=some-model",
        "--secret=id=environment,src=/run/env",
        f"--file={ROOT / 'images/server.Containerfile'}",
        "--tag=registry.example/ml/rerank-server:1.2.3",
        str(ROOT),
    ]


@pytest.mark.parametrize(
    ("asked", "sentence"),
    [
        pytest.param("", "apt-get install buildah", id="neither is there"),
        pytest.param("docker", "start Docker", id="the one asked for is not there"),
        pytest.param("kaniko", "BUILDER is 'kaniko'", id="one that we do not know"),
    ],
)
def test_without_a_builder_it_is_said_how_to_get_one(
    asked: str, sentence: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("PATH", "/nonexistent")
    with pytest.raises(MissingError, match=sentence):
        builders.find(asked)


def test_both_containerfiles_build_the_wheel_in_the_same_words() -> None:
    """Else the images would not share the work."""

    def stages(name: str) -> str:
        text = (ROOT / f"images/{name}.Containerfile").read_text(encoding="utf-8")
        return text[text.index("FROM ") : text.index("FROM ${BASE}\n")]

    assert stages("server") == stages("control")
    assert "hatchling build" in stages("server")


@pytest.mark.parametrize("name", recipe.NAMES)
def test_an_image_has_the_versions_of_the_common_lock_and_no_address(name: str) -> None:
    common = set(LOCKED.findall((ROOT / "locks/all.txt").read_text(encoding="utf-8")))
    text = (ROOT / f"locks/{name}.txt").read_text(encoding="utf-8")
    locked = LOCKED.findall(text)
    assert locked
    assert set(locked) <= common
    assert "://" not in text
    assert ("torch" in dict(locked)) == (name == "server")

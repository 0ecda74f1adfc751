"""RerankModels of the tests, as values to be changed."""

from pathlib import Path
from typing import Any

import yaml

QUICKSTART = Path(__file__).parents[3] / "examples/quickstart.yaml"


def quickstart() -> dict[str, Any]:
    """Return the README's example as it is applied."""
    manifest: dict[str, Any] = yaml.safe_load(QUICKSTART.read_text(encoding="utf-8"))
    return manifest


def model(name: str, **spec: Any) -> dict[str, Any]:
    """Return the quickstart's model under another name, with other fields."""
    manifest = quickstart()
    manifest["metadata"]["name"] = name
    manifest["spec"] = {**manifest["spec"], **spec}
    return manifest

"""Load what sentence-transformers puts after pooling: dense layers, layer norms, normalisation. All fp32."""

from pathlib import Path
from typing import TYPE_CHECKING, Any

import torch
from safetensors import safe_open
from safetensors.torch import load_file
from torch import nn

from rerank_server.engine.pooling import normalize
from rerank_server.engine.readout import Step
from rerank_server.errors import LoadError
from rerank_server.families.checkpoint import Module, read_json
from rerank_server.families.weights import SINGLE, require_weights

if TYPE_CHECKING:
    from collections.abc import Mapping

PROJECTION = "linear.weight"
DEFAULT_ACTIVATION = "torch.nn.modules.activation.Tanh"


def load_step(module: Module, device: str) -> Step:
    """Build one step with its weights. Raises `LoadError` naming the folder."""
    if module.kind == "Normalize":
        return normalize
    config = read_json(module.folder / "config.json")
    try:
        layer = _dense(config) if module.kind == "Dense" else _LayerNorm(int(config["dimension"]))
    except (KeyError, TypeError, ValueError) as error:
        raise LoadError(
            f"{module.folder / 'config.json'} does not describe a {module.kind}: {error}."
        ) from error
    require_weights(module.folder)
    try:
        layer.load_state_dict(load_file(module.folder / SINGLE))
    except RuntimeError as error:
        raise LoadError(f"{module.folder / SINGLE} does not fit its config.json: {error}") from error
    loaded: nn.Module = layer.float().to(device).eval()
    return loaded


def load_projection(folder: Path, device: str) -> Step:
    """Build the layer that Stanford's ColBERT keeps among the encoder's weights, as `linear.weight`.

    Raises `LoadError` where no weight file has it.
    """
    for path in require_weights(folder):
        with safe_open(path, framework="pt") as tensors:
            if PROJECTION in tensors.keys():  # noqa: SIM118  # safetensors' files cannot be iterated
                weight = tensors.get_tensor(PROJECTION).float()
                linear = nn.Linear(weight.shape[1], weight.shape[0], bias=False)
                linear.load_state_dict({"weight": weight})
                return linear.to(device).eval()
    raise LoadError(
        f"The weights in {folder} lack {PROJECTION}, which a ColBERT model needs: download them again."
    )


class _Dense(nn.Module):
    """Named as sentence-transformers names its weights: `linear.weight`, `linear.bias`."""

    def __init__(self, linear: nn.Linear, activation: nn.Module) -> None:
        super().__init__()
        self.linear = linear
        self.activation = activation

    def forward(self, vectors: torch.Tensor) -> torch.Tensor:
        result: torch.Tensor = self.activation(self.linear(vectors))
        return result


class _LayerNorm(nn.Module):
    """Named as sentence-transformers names its weights: `norm.weight`, `norm.bias`."""

    def __init__(self, width: int) -> None:
        super().__init__()
        self.norm = nn.LayerNorm(width)

    def forward(self, vectors: torch.Tensor) -> torch.Tensor:
        result: torch.Tensor = self.norm(vectors)
        return result


def _dense(config: "Mapping[str, Any]") -> _Dense:
    name = config.get("activation_function", DEFAULT_ACTIVATION).rsplit(".", 1)[-1]
    activation = getattr(nn, name, None)
    if not (isinstance(activation, type) and issubclass(activation, nn.Module)):
        raise TypeError(f"torch.nn has no activation {name}")
    linear = nn.Linear(config["in_features"], config["out_features"], bias=config.get("bias", True))
    return _Dense(linear, activation())

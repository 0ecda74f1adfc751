"""Weights that are no numbers: looked for where a model computes none, to say which file is to blame."""

from pathlib import Path


def unsound_tensor(checkpoint: Path) -> str | None:
    """Name the first tensor that holds NaN or infinity, in a sentence; None where all are sound.

    Reads every `*.safetensors` under `checkpoint` once, a tensor at a time.
    """
    import torch
    from safetensors import safe_open

    for path in sorted(checkpoint.rglob("*.safetensors")):
        with safe_open(path, framework="pt") as tensors:
            for name in sorted(tensors.keys()):
                tensor = tensors.get_tensor(name)
                if not tensor.is_floating_point():
                    continue
                wrong = tensor.numel() - int(torch.isfinite(tensor.float()).sum())
                if wrong:
                    return (
                        f"{path.name} is damaged: {wrong} of the {tensor.numel()} weights of {name} are NaN "
                        "or infinite: download the checkpoint again, or take another revision of it"
                    )
    return None

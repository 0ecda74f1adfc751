"""What is read out of a transformers model for each row, always in fp32.

A reader takes hidden states without padding, [tokens, width], and where the rows lie in them; so every engine
over transformers' classes reads the same way. Only a classification head of an encoder is the model's own.
"""

from collections.abc import Sequence
from typing import TYPE_CHECKING, Any, Protocol, TypeAlias

import torch
from torch import Tensor, nn
from torch.nn import functional

from rerank_server.engine.pooling import Pooled
from rerank_server.engine.readout import Classifier, NextToken, PooledVector, Readout, Step, TokenVectors
from rerank_server.engine.segments import Segments

if TYPE_CHECKING:
    from transformers import PreTrainedModel

NEXT_TOKEN_TOLERANCE = {torch.float32: 1e-3, torch.bfloat16: 5e-2, torch.float16: 1e-2}
"""How far the wanted logits may be from the model's own, relative to the largest of them."""


class Reader(Protocol):
    """Reads hidden states."""

    @property
    def per_token(self) -> bool:
        """Say whether it returns a vector a token rather than one a row."""

    @property
    def skipped(self) -> int | None:
        """Return the id that does not count as a row's last token, if there is one."""

    def __call__(self, hidden: Tensor, rows: Segments) -> Tensor:
        """Return [rows, width], or [tokens, width] where it is `per_token`, in fp32."""


class OwnHead:
    """The model's own classification head, which reads the first token or the mean: [rows, labels]."""


Head: TypeAlias = "Reader | OwnHead"


class LastToken:
    """Logits at the last token of each row, by some rows of a causal model's output layer: [rows, logits]."""

    per_token = False

    def __init__(
        self, weight: Tensor, bias: Tensor | None, *, skipped: int | None = None, cap: float | None = None
    ) -> None:
        """`weight` is [logits, width]; `cap` is c of c·tanh(logit / c), as Gemma 2 has it."""
        self.skipped = skipped
        self._weight = weight.detach().float()
        self._bias = None if bias is None else bias.detach().float()
        self._cap = cap

    def __call__(self, hidden: Tensor, rows: Segments) -> Tensor:
        """Return the logits, fp32."""
        logits = functional.linear(hidden[rows.last].float(), self._weight, self._bias)
        return logits if self._cap is None else self._cap * torch.tanh(logits / self._cap)


class RowVector:
    """A row's hidden states, pooled: [rows, width]."""

    per_token = False
    skipped = None

    def __init__(self, pooled: Pooled) -> None:
        self._pooled = pooled

    def __call__(self, hidden: Tensor, rows: Segments) -> Tensor:
        """Return the vectors, fp32."""
        return self._pooled(hidden, rows)


class EachToken:
    """The hidden state of each token, after further steps: [tokens, width]."""

    per_token = True
    skipped = None

    def __init__(self, steps: Sequence[Step]) -> None:
        self._steps = tuple(steps)

    def __call__(self, hidden: Tensor, rows: Segments) -> Tensor:
        """Return the vectors, fp32."""
        hidden = hidden.float()
        for step in self._steps:
            hidden = step(hidden)
        return hidden


def head_for(model: "PreTrainedModel", readout: Readout) -> Head:
    """Return what reads what a family asks for.

    Raises `ValueError` where a causal model makes its logits of more than its output layer.
    """
    match readout:
        case Classifier():
            # Causal models have a bias-free `score` that reads the last token; others know what they read.
            score = getattr(model, "score", None)
            if isinstance(score, nn.Linear):
                skipped = model.config.get_text_config().pad_token_id
                return LastToken(score.weight, score.bias, skipped=skipped)
            return OwnHead()
        case PooledVector(modes, steps):
            return RowVector(Pooled(modes, steps))
        case TokenVectors(steps):
            return EachToken(steps)
        case NextToken(ids):
            return _next_token(model, ids)


@torch.inference_mode()
def _next_token(model: "PreTrainedModel", ids: Sequence[int]) -> LastToken:
    """Take the rows of the output layer for these ids, and prove on one row that they give the logits."""
    layer: nn.Module | None = model.get_output_embeddings()  # type: ignore[no-untyped-call]
    name = type(model).__name__
    if layer is None or not isinstance(layer, nn.Linear):
        raise ValueError(f"{name} has no output layer over its vocabulary, so it has no next token")
    if max(ids) >= layer.out_features:
        raise ValueError(f"{name} has {layer.out_features} tokens, and the token {max(ids)} is asked for")
    wanted = list(ids)
    head = LastToken(
        layer.weight[wanted],
        None if layer.bias is None else layer.bias[wanted],
        cap=getattr(model.config.get_text_config(), "final_logit_softcapping", None),
    )
    probe = torch.arange(1, 9, device=model.device).unsqueeze(0)
    own = model(input_ids=probe, use_cache=False, logits_to_keep=1).logits[0, -1].float()
    hidden = model.base_model(input_ids=probe, use_cache=False).last_hidden_state[0]
    read = head(hidden, Segments.of(torch.tensor([8], device=model.device)))[0]
    difference = float((read - own[wanted]).abs().max())
    # A comparison with NaN is false, so that a broken checkpoint is left to the verification of its scores.
    if difference > NEXT_TOKEN_TOLERANCE[layer.weight.dtype] * max(1.0, float(own.abs().max())):
        raise ValueError(
            f"{name} changes its logits after the output layer, by {difference:.2g}, in an unknown way"
        )
    return head


def keep_head_in_float32(model: "PreTrainedModel") -> None:
    """Make all that follows the encoder compute in fp32, whatever the encoder's type.

    bf16 has three significant digits: logits that come out of a bf16 head tie where the ranking must not.
    """
    base: nn.Module = model.base_model
    pooler = getattr(base, "pooler", None)
    if isinstance(pooler, nn.Module):
        pooler.float()
        pooler.register_forward_pre_hook(_float_arguments)
    for child in model.children():
        if child is not base:
            child.float()
    base.register_forward_hook(_float_outputs)


def _float_arguments(_: nn.Module, arguments: tuple[Any, ...]) -> tuple[Any, ...]:
    return tuple(_float(each) for each in arguments)


def _float_outputs(_: nn.Module, __: tuple[Any, ...], outputs: Any) -> Any:
    """Cast a tuple of tensors, or transformers' `ModelOutput`, which is a dictionary of them."""
    if isinstance(outputs, tuple):
        return tuple(_float(each) for each in outputs)
    for name, value in list(outputs.items()):
        outputs[name] = _float(value)
    return outputs


def _float(value: Any) -> Any:
    return value.float() if isinstance(value, Tensor) and value.is_floating_point() else value

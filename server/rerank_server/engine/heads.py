"""How one vector a row is read out of a transformers model, always in fp32.

A head takes the model and the padded inputs of one group and returns [rows, width].
"""

from dataclasses import dataclass
from typing import TYPE_CHECKING, Any, Protocol, cast

import torch
from torch import Tensor, nn

from rerank_server.engine.pooling import Pooled
from rerank_server.engine.readout import Classifier, PooledVector, Readout

if TYPE_CHECKING:
    from transformers import PreTrainedModel


@dataclass(frozen=True, slots=True)
class Inputs:
    """One group of rows, padded on the right. All are [rows, longest] and int64."""

    ids: Tensor
    mask: Tensor
    """1 for a token, 0 for padding."""
    type_ids: Tensor | None

    def arguments(self) -> dict[str, Tensor]:
        """Name them as transformers' models do."""
        named = {"input_ids": self.ids, "attention_mask": self.mask}
        if self.type_ids is not None:
            named["token_type_ids"] = self.type_ids
        return named


class Head(Protocol):
    """Runs the model on one group and reads a vector a row."""

    def __call__(self, model: "PreTrainedModel", inputs: Inputs) -> Tensor:
        """Return [rows, width], fp32."""


class Logits:
    """The model's own classification head: [rows, labels]."""

    def __call__(self, model: "PreTrainedModel", inputs: Inputs) -> Tensor:
        """Return the logits, fp32."""
        return cast(Tensor, model(**inputs.arguments()).logits).float()


class LastTokenLogits:
    """The head `score` of a causal model, at the last token of each row: [rows, labels].

    transformers' own forward reads the rightmost token that is not the padding token, and refuses several
    rows where the configuration names none. This reads the same token, and the last one in the latter case.
    """

    def __init__(self, score: nn.Module, pad_id: int | None) -> None:
        self._score = score
        self._pad_id = pad_id

    def __call__(self, model: "PreTrainedModel", inputs: Inputs) -> Tensor:
        """Return the logits, fp32."""
        hidden: Tensor = model.base_model(**inputs.arguments(), use_cache=False).last_hidden_state
        counted = inputs.mask if self._pad_id is None else (inputs.ids != self._pad_id).long()
        last = (counted * torch.arange(counted.shape[1], device=counted.device)).argmax(1)
        rows = torch.arange(len(last), device=last.device)
        return cast(Tensor, self._score(hidden[rows, last].float()))


class Embedding:
    """The last hidden state, pooled: [rows, width]."""

    def __init__(self, pooled: Pooled) -> None:
        self._pooled = pooled

    def __call__(self, model: "PreTrainedModel", inputs: Inputs) -> Tensor:
        """Return the embeddings, fp32."""
        return self._pooled(model(**inputs.arguments()).last_hidden_state, inputs.mask)


def head_for(model: "PreTrainedModel", readout: Readout) -> Head:
    """Return the head that reads what a family asks for."""
    match readout:
        case Classifier():
            # Causal models have a bias-free `score` that reads the last token; others know what they read.
            score = getattr(model, "score", None)
            if isinstance(score, nn.Linear):
                return LastTokenLogits(score.float(), model.config.get_text_config().pad_token_id)
            return Logits()
        case PooledVector(modes, steps):
            return Embedding(Pooled(modes, steps))
        case _:
            raise NotImplementedError(readout)


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

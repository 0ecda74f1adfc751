"""Open a BERT-shaped checkpoint for the engine `cpu`, straight from config.json and its weight files.

transformers is not imported: that, and building its model, take longer than all else of a server's start.
What is unusual is declined, so that transformers takes it, or says what is wrong with it.
"""

from collections.abc import Mapping
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

from rerank_server.engine.readout import Classifier, PooledVector, Readout, TokenVectors
from rerank_server.families.checkpoint import CheckpointFiles
from rerank_server.families.interface import Computed, Declined, ModelFacts, Plan
from rerank_server.families.weights import TensorFiles

if TYPE_CHECKING:
    import torch
    from torch import Tensor

    from rerank_server.engine.cpu.encoder import Embeddings, Encoder, Layer, Norm
    from rerank_server.engine.cpu.engine import Head
    from rerank_server.engine.cpu.operators import Linear


@dataclass(frozen=True)
class Kind:
    """What tells one of these architectures from the others."""

    prefix: str
    """Of the encoder's weights in a checkpoint with a head; a bare encoder's have none."""
    pooled: str
    """The head's dense layer."""
    classifier: str
    counts_from_padding: bool
    """Positions start at `pad_token_id + 1`."""
    defaults: Mapping[str, Any]
    """What transformers assumes where config.json says nothing."""


ROBERTA = Kind(
    "roberta.",
    "classifier.dense",
    "classifier.out_proj",
    counts_from_padding=True,
    defaults={"layer_norm_eps": 1e-12, "pad_token_id": 1, "type_vocab_size": 2},
)
KINDS = {
    "bert": Kind(
        "bert.",
        "bert.pooler.dense",
        "classifier",
        counts_from_padding=False,
        defaults={"layer_norm_eps": 1e-12, "pad_token_id": 0, "type_vocab_size": 2},
    ),
    "roberta": ROBERTA,
    "xlm-roberta": ROBERTA,
    "camembert": ROBERTA,
}
"""By config.json's `model_type`."""
ARCHITECTURES = {"bert": "Bert", "roberta": "Roberta", "xlm-roberta": "XLMRoberta", "camembert": "Camembert"}

MUST_BE: Mapping[str, tuple[Any, ...]] = {
    "hidden_act": ("gelu",),
    "position_embedding_type": ("absolute",),
    "is_decoder": (False,),
    "add_cross_attention": (False,),
}
"""Settings that this forward takes for granted: the values that it computes, the default first."""


def open_for_cpu(files: CheckpointFiles, plan: Plan, readout: Readout) -> Computed:
    """Load the checkpoint. Raises `Declined`, and `LoadError` where a weight file is not whole."""
    kind = _kind(files, plan, readout)
    from rerank_server.engine.cpu.engine import CpuEngine
    from rerank_server.engine.cpu.operators import objection

    if why := objection(_dtype(plan)):
        raise Declined(why)
    settings = {**kind.defaults, **{name: value for name, value in files.config.items() if value is not None}}
    with TensorFiles(files.transformer) as tensors:
        reader = _Reader(tensors, kind, settings, _dtype(plan))
        try:
            encoder = reader.encoder(first_tokens_only=_reads_first_tokens(readout))
            head = reader.head(readout)
        except KeyError as missing:
            raise Declined(f"config.json or the weights lack {missing}") from missing
    padding = int(settings["pad_token_id"])
    positions = int(settings["max_position_embeddings"])
    return Computed(
        CpuEngine(encoder, head, max_tokens=plan.batch_tokens),
        f"{files.config.get('model_type')} on a CPU: packed rows, weights laid out for oneDNN",
        ModelFacts(
            positions - padding - 1 if kind.counts_from_padding else positions,
            takes_type_ids=int(settings["type_vocab_size"]) > 1,
            pad_id=padding,
        ),
    )


def _kind(files: CheckpointFiles, plan: Plan, readout: Readout) -> Kind:
    model_type = files.config.get("model_type")
    if plan.device != "cpu":
        raise Declined(f"the model runs on {plan.device}")
    kind = KINDS.get(str(model_type))
    if kind is None:
        raise Declined(f"it computes {', '.join(KINDS)}, not {model_type}")
    if not isinstance(readout, Classifier | PooledVector | TokenVectors):
        raise Declined("it has no language model's head")
    if isinstance(readout, Classifier):
        expected = f"{ARCHITECTURES[str(model_type)]}ForSequenceClassification"
        if files.architecture != expected:
            raise Declined(f"its head for {model_type} is that of {expected}, not of {files.architecture}")
    for name, values in MUST_BE.items():
        if (value := files.config.get(name, values[0])) not in values:
            raise Declined(f"config.json sets {name} to {value}")
    if files.config.get("quantization_config"):
        raise Declined("the weights are quantized")
    return kind


def _dtype(plan: Plan) -> "torch.dtype":
    import torch

    return torch.bfloat16 if plan.dtype == "bfloat16" else torch.float32


def _reads_first_tokens(readout: Readout) -> bool:
    return isinstance(readout, Classifier) or (
        isinstance(readout, PooledVector) and readout.modes == ("cls",)
    )


class _Reader:
    """Builds the parts from named tensors. Raises KeyError for one that is missing."""

    def __init__(
        self, tensors: TensorFiles, kind: Kind, settings: Mapping[str, Any], dtype: "torch.dtype"
    ) -> None:
        self._tensors = tensors
        self._kind = kind
        self._settings = settings
        self._dtype = dtype
        bare = "embeddings.word_embeddings.weight" in tensors
        self._prefix = "" if bare else kind.prefix

    def encoder(self, *, first_tokens_only: bool) -> "Encoder":
        from rerank_server.engine.cpu.encoder import Encoder

        count = self._size("num_hidden_layers")
        layers = [
            self._layer(number, first_only=first_tokens_only and number == count - 1)
            for number in range(count)
        ]
        return Encoder(self._embeddings(), layers, self._size("num_attention_heads"), self._dtype)

    def head(self, readout: Readout) -> "Head":
        import torch

        from rerank_server.engine.cpu import heads
        from rerank_server.engine.pooling import Pooled

        match readout:
            case Classifier():
                width = self._size("hidden_size")
                return heads.DenseTanhClassifier(
                    *(
                        _of_shape(self._tensors.read(name, torch.float32), shape, name)
                        for layer, outputs in ((self._kind.pooled, width), (self._kind.classifier, 1))
                        for name, shape in (
                            (f"{layer}.weight", (outputs, width)),
                            (f"{layer}.bias", (outputs,)),
                        )
                    )
                )
            case PooledVector(("cls",), steps):
                return heads.FirstTokenVector(steps)
            case PooledVector(modes, steps):
                return heads.PooledVectors(Pooled(modes, steps))
            case TokenVectors(steps):
                return heads.EveryToken(steps)
            case _:
                raise Declined(f"it does not read out {type(readout).__name__}")

    def _embeddings(self) -> "Embeddings":
        import torch

        from rerank_server.engine.cpu.encoder import Embeddings

        width = self._size("hidden_size")
        table = self._read(
            "embeddings.position_embeddings.weight",
            (self._size("max_position_embeddings"), width),
            dtype=torch.float32,
        )
        segments = self._read(
            "embeddings.token_type_embeddings.weight",
            (self._size("type_vocab_size"), width),
            dtype=torch.float32,
        )
        places = (segments[:, None] + table[None]).flatten(0, 1).to(self._dtype)
        return Embeddings(
            words=self._read("embeddings.word_embeddings.weight", (self._size("vocab_size"), width)),
            places=places,
            positions=len(table),
            first_position=int(self._settings["pad_token_id"]) + 1 if self._kind.counts_from_padding else 0,
            norm=self._norm("embeddings.LayerNorm"),
        )

    def _layer(self, number: int, *, first_only: bool) -> "Layer":
        from rerank_server.engine.cpu.encoder import Feedforward, FullLayer, LastLayerOfFirstTokens

        layer = f"encoder.layer.{number}"
        attention = f"{layer}.attention.self"
        query, key, value = (f"{attention}.{name}" for name in ("query", "key", "value"))
        width, inner = self._size("hidden_size"), self._size("intermediate_size")
        square = (width, width)
        rest = Feedforward(
            attended=self._linear(square, f"{layer}.attention.output.dense"),
            attended_norm=self._norm(f"{layer}.attention.output.LayerNorm"),
            up=self._linear((inner, width), f"{layer}.intermediate.dense"),
            down=self._linear((width, inner), f"{layer}.output.dense"),
            down_norm=self._norm(f"{layer}.output.LayerNorm"),
        )
        if first_only:
            return LastLayerOfFirstTokens(self._linear(square, query), self._linear(square, key, value), rest)
        return FullLayer(self._linear(square, query, key, value), rest)

    def _linear(self, shape: tuple[int, int], *names: str) -> "Linear":
        """Join layers that read the same input into one; each is of this shape, [out, in]."""
        import torch

        from rerank_server.engine.cpu.operators import Linear

        weights = [self._read(f"{name}.weight", shape) for name in names]
        biases = [self._read(f"{name}.bias", shape[:1]) for name in names]
        return Linear(torch.cat(weights), torch.cat(biases))

    def _norm(self, name: str) -> "Norm":
        from rerank_server.engine.cpu.encoder import Norm

        shape = (self._size("hidden_size"),)
        weight, bias = (self._read(f"{name}.{part}", shape, alias=f"{name}.{old}") for part, old in OLD_NAMES)
        return Norm(weight, bias, float(self._settings["layer_norm_eps"]))

    def _size(self, setting: str) -> int:
        return int(self._settings[setting])

    def _read(
        self,
        name: str,
        shape: tuple[int, ...],
        *,
        alias: str | None = None,
        dtype: "torch.dtype | None" = None,
    ) -> "Tensor":
        named = self._prefix + name
        if alias is not None and named not in self._tensors:
            named = self._prefix + alias
        return _of_shape(self._tensors.read(named, dtype or self._dtype), shape, named)


def _of_shape(tensor: "Tensor", shape: tuple[int, ...], name: str) -> "Tensor":
    if tensor.shape != shape:
        raise Declined(f"{name} is {list(tensor.shape)} where config.json says {list(shape)}")
    return tensor


OLD_NAMES = (("weight", "gamma"), ("bias", "beta"))
"""How TensorFlow's checkpoints call the parts of a layer normalisation."""

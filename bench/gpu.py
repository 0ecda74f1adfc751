"""The packed engines beside sentence-transformers' `CrossEncoder.predict`, on a GPU or, as a dry run, a CPU.

`python bench/gpu.py` needs torch, transformers and, for the peer, sentence-transformers; no server, network
or checkpoint: models of well-known shapes get random weights, and a tokenizer of made-up words.
Both sides start from the same texts and are measured in turn; medians count.
"""

import argparse
import platform
import statistics
import sys
import tempfile
import time
import warnings
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

sys.path.insert(0, str(Path(__file__).parents[1] / "server"))

import numpy as np
import torch
import transformers
from tokenizers import Tokenizer, models, pre_tokenizers, processors

from rerank_server.engine.heads import OwnHead, head_for, keep_head_in_float32
from rerank_server.engine.interface import Row
from rerank_server.engine.packable import shape_of
from rerank_server.engine.packed import PackedEngine
from rerank_server.engine.readout import Classifier

WORDS = 10_000
DOCUMENTS = 20
"""Of one query."""
SPECIALS = ("[PAD]", "[CLS]", "[SEP]")
CPU_LAYERS = 2
ROUNDS = 3


@dataclass(frozen=True)
class Shape:
    """A model of this shape, and the queries that it gets."""

    architecture: str
    sizes: dict[str, Any]
    query_words: int = 10

    @property
    def causal(self) -> bool:
        """Whether rows may share the query."""
        return self.architecture.startswith("Qwen")


BERT = "BertForSequenceClassification"
XLM_R = "XLMRobertaForSequenceClassification"
BASE = {"hidden_size": 768, "num_hidden_layers": 12, "num_attention_heads": 12, "intermediate_size": 3072}
LARGE = {"hidden_size": 1024, "num_hidden_layers": 24, "num_attention_heads": 16, "intermediate_size": 4096}
SHAPES = {
    "minilm-l6": Shape(
        BERT,
        {"hidden_size": 384, "num_hidden_layers": 6, "num_attention_heads": 12, "intermediate_size": 1536},
    ),
    "xlm-r-base": Shape(XLM_R, {**BASE, "max_position_embeddings": 514, "vocab_size": 250_002}),
    "bge-m3": Shape(XLM_R, {**LARGE, "max_position_embeddings": 8194, "vocab_size": 250_002}),
    # The template of such a model puts about 90 tokens before a document.
    "qwen3-0.6b": Shape(
        "Qwen3ForSequenceClassification",
        {
            **LARGE,
            "num_hidden_layers": 28,
            "intermediate_size": 3072,
            "num_key_value_heads": 8,
            "head_dim": 128,
            "vocab_size": 151_936,
        },
        query_words=90,
    ),
}


@dataclass(frozen=True)
class Options:
    """What is measured, and for how long."""

    device: torch.device
    dtype: torch.dtype
    pairs: int
    seconds: float
    batch_tokens: int
    layers: int | None
    peer: bool


@dataclass(frozen=True)
class Result:
    """What was measured of one shape."""

    shape: str
    engine: str
    pairs_per_second: float
    """With tokenizing."""
    tokens_per_second: float
    """Of the engine alone: ids of rows, whether computed once or for each."""
    peak_share: float
    """Of the engine alone."""
    ratio: float | None
    """Pairs per second, tokenizing included, as a multiple of the peer's."""
    difference: float | None
    spread: float


def build(shape: Shape, folder: Path, options: Options) -> Tokenizer:
    """Save a random model and its tokenizer, and return the latter."""
    tokenizer = make_tokenizer(pair="[CLS]:0 $A:0 $B:0" if shape.causal else "[CLS] $A [SEP] $B [SEP]")
    sizes = dict(shape.sizes)
    if options.layers is not None:
        sizes["num_hidden_layers"] = min(options.layers, sizes["num_hidden_layers"])
        sizes["vocab_size"] = WORDS + len(SPECIALS)
    model_class = getattr(transformers, shape.architecture)
    config = model_class.config_class(**sizes, pad_token_id=0, num_labels=1, initializer_range=0.05)
    torch.manual_seed(1)
    with torch.device(options.device):
        model = model_class(config)
    model.to(options.dtype).save_pretrained(folder)
    transformers.PreTrainedTokenizerFast(  # type: ignore[no-untyped-call]
        tokenizer_object=tokenizer,
        pad_token="[PAD]",
        cls_token="[CLS]",
        sep_token="[SEP]",
        model_max_length=512,
    ).save_pretrained(folder)
    return tokenizer


def make_tokenizer(pair: str) -> Tokenizer:
    """Give every word an id."""
    words = [*SPECIALS, *(f"w{number}" for number in range(WORDS))]
    tokenizer = Tokenizer(models.WordLevel({word: number for number, word in enumerate(words)}, "w0"))
    tokenizer.pre_tokenizer = pre_tokenizers.WhitespaceSplit()
    specials = [(special, number) for number, special in enumerate(SPECIALS)]
    tokenizer.post_processor = processors.TemplateProcessing(pair=pair, special_tokens=specials)
    return tokenizer


def make_pairs(shape: Shape, count: int) -> list[tuple[str, str]]:
    """Make texts: documents of log-normal length, median 120 words, 20 for each query."""
    numbers = np.random.default_rng(3)

    def text(words: int) -> str:
        return " ".join(f"w{number}" for number in numbers.integers(0, WORDS, words))

    lengths = np.clip(np.exp(numbers.normal(np.log(120), 0.6, count)), 5, 390).astype(int)
    queries = [text(shape.query_words) for _ in range(-(-count // DOCUMENTS))]
    return [(queries[place // DOCUMENTS], text(length)) for place, length in enumerate(lengths)]


def make_rows(tokenizer: Tokenizer, pairs: Sequence[tuple[str, str]], shape: Shape) -> list[Row]:
    """Tokenize as the server does, with what rows of a query share."""
    shared = shape.query_words + 1 if shape.causal else 0
    return [Row(encoding.ids, shared=shared) for encoding in tokenizer.encode_batch_fast(list(pairs))]


def open_engine(shape: Shape, folder: Path, options: Options) -> PackedEngine:
    """Open the saved model with the engine that the server would choose on a GPU."""
    model = getattr(transformers, shape.architecture).from_pretrained(folder, dtype=options.dtype)
    model.to(options.device).eval()
    head = head_for(model, Classifier())
    if options.dtype != torch.float32 and isinstance(head, OwnHead):
        keep_head_in_float32(model)
    engine = PackedEngine(
        model,
        head,
        shape_of(model),
        max_tokens=options.batch_tokens,
        share=shape.causal,
    )
    engine.install()
    return engine


def open_peer(folder: Path, options: Options) -> Callable[[Sequence[tuple[str, str]]], Any]:
    """Open the saved model with sentence-transformers at its defaults, but for raw logits."""
    from sentence_transformers import CrossEncoder

    encoder = CrossEncoder(
        str(folder),
        device=str(options.device),
        activation_fn=torch.nn.Identity(),
        model_kwargs={"dtype": options.dtype},
        local_files_only=True,
    )
    return lambda pairs: encoder.predict(list(pairs), show_progress_bar=False)


def gemm_peak(options: Options) -> float:
    """Return the FLOP/s of a large matrix product of this type: the most that the machine gives."""
    size = 8192 if options.device.type == "cuda" else 1024
    one, other = (torch.randn(size, size, device=options.device).to(options.dtype) for _ in range(2))
    product = one @ other
    best = 0.0
    for _ in range(5):
        _finish(options)
        began = time.perf_counter()
        for _ in range(4):
            torch.matmul(one, other, out=product)
        _finish(options)
        best = max(best, 4 * 2 * size**3 / (time.perf_counter() - began))
    return best


def _finish(options: Options) -> None:
    if options.device.type == "cuda":
        torch.cuda.synchronize()


def flops(folder: Path, rows: Sequence[Row], shape: Shape) -> float:
    """Count the products that rows need: weights times tokens, and attention. A shared query counts once."""
    config = transformers.AutoConfig.from_pretrained(folder)
    with torch.device("meta"):
        model = getattr(transformers, shape.architecture)(config).base_model
    weights = sum(each.weight.numel() for each in model.modules() if isinstance(each, torch.nn.Linear))
    width = getattr(config, "head_dim", config.hidden_size // config.num_attention_heads)
    width *= config.num_attention_heads
    layers, half = config.num_hidden_layers, 0.5 if shape.causal else 1.0
    total = 0.0
    for place, row in enumerate(rows):
        known = row.shared if place % DOCUMENTS else 0
        length = len(row.ids)
        total += 2 * weights * (length - known) + 4 * layers * width * half * (length**2 - known**2)
    return total


def seconds_of(work: Callable[[], Any], options: Options) -> float:
    """Repeat for some seconds, once at least, and return the median time."""
    times: list[float] = []
    while not times or sum(times) < options.seconds:
        began = time.perf_counter()
        work()
        times.append(time.perf_counter() - began)
    return statistics.median(times)


def measure(name: str, shape: Shape, options: Options, peak: float) -> Result:
    """Measure one shape."""
    pairs = make_pairs(shape, options.pairs)
    with tempfile.TemporaryDirectory() as directory:
        folder = Path(directory)
        tokenizer = build(shape, folder, options)
        engine = open_engine(shape, folder, options)
        rows = make_rows(tokenizer, pairs, shape)
        scores = np.concatenate(engine.run(rows))
        work = flops(folder, rows, shape)
        predict = open_peer(folder, options) if options.peer else None
        difference = None if predict is None else float(np.abs(predict(pairs) - scores).max())
        alone, whole, peer = [], [], []
        for _ in range(ROUNDS):
            alone.append(seconds_of(lambda: engine.run(rows), options))
            whole.append(seconds_of(lambda: engine.run(make_rows(tokenizer, pairs, shape)), options))
            if predict is not None:
                peer.append(seconds_of(lambda: predict(pairs), options))
    return Result(
        name,
        engine.name,
        pairs_per_second=len(pairs) / statistics.median(whole),
        tokens_per_second=sum(len(row.ids) for row in rows) / statistics.median(alone),
        peak_share=work / statistics.median(alone) / peak,
        ratio=statistics.median(a / b for a, b in zip(peer, whole, strict=True)) if peer else None,
        difference=difference,
        spread=float(scores.std()),
    )


def show(result: Result) -> str:
    """Return a line of the table."""
    ratio = "-" if result.ratio is None else f"{result.ratio:.2f}"
    difference = "-" if result.difference is None else f"{result.difference:.1e}"
    cells = [
        *(result.shape, result.engine),
        *(f"{result.pairs_per_second:,.1f}", f"{result.tokens_per_second:,.0f}", f"{result.peak_share:.0%}"),
        *(ratio, difference, f"{result.spread:.2g}"),
    ]
    return f"| {' | '.join(cells)} |"


def main() -> None:
    """Measure, and print a table in Markdown."""
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    cuda = torch.cuda.is_available()
    parser.add_argument("--device", choices=["cuda", "cpu"], default="cuda" if cuda else "cpu")
    parser.add_argument("--dtype", choices=["bfloat16", "float32"], help="bfloat16 on a GPU, else float32")
    parser.add_argument("--shapes", nargs="+", choices=list(SHAPES), default=list(SHAPES))
    parser.add_argument("--pairs", type=int, help="2,000 on a GPU, 10 on a CPU")
    parser.add_argument("--seconds", type=float, help="of each measurement; 5 on a GPU, 0.1 on a CPU")
    parser.add_argument("--batch-tokens", type=int, help="of one pass; 16,384 on a GPU, 1,024 on a CPU")
    parser.add_argument("--layers", type=int, help=f"at most; all on a GPU, {CPU_LAYERS} on a CPU")
    parser.add_argument("--no-peer", action="store_true", help="leave sentence-transformers out")
    asked = parser.parse_args()
    if asked.device == "cuda" and not cuda:
        sys.exit("torch sees no CUDA device: use --device cpu for a dry run")
    on_cpu = asked.device == "cpu"
    if on_cpu:
        # Threads that wait for one another on a shared machine say nothing of either side.
        torch.set_num_threads(1)
    options = Options(
        device=torch.device("cpu" if on_cpu else "cuda:0"),
        dtype=getattr(torch, asked.dtype or ("float32" if on_cpu else "bfloat16")),
        pairs=asked.pairs or (10 if on_cpu else 2000),
        seconds=asked.seconds or (0.1 if on_cpu else 5),
        batch_tokens=asked.batch_tokens or (1024 if on_cpu else 16_384),
        layers=asked.layers or (CPU_LAYERS if on_cpu else None),
        peer=not asked.no_peer,
    )
    warnings.simplefilter("ignore")
    transformers.utils.logging.set_verbosity_error()  # type: ignore[no-untyped-call]
    transformers.utils.logging.disable_progress_bar()  # type: ignore[no-untyped-call]
    peak = gemm_peak(options)
    where = f"a CPU ({platform.machine()})" if on_cpu else torch.cuda.get_device_name()
    print(f"{where}, {options.dtype}, torch {torch.__version__}, transformers {transformers.__version__}")
    print(f"GEMM peak measured: {peak / 1e12:.3g} TFLOP/s; {options.pairs} pairs a run")
    if options.layers is not None:
        print(f"Models are cut to {options.layers} layers at most: a dry run, which shows that it works.")
    print(
        "| shape | engine | pairs/s | tokens/s | of GEMM peak | x the peer | max difference | std of scores |"
    )
    print("|---|---|---|---|---|---|---|---|")
    for name in asked.shapes:
        print(show(measure(name, SHAPES[name], options, peak)), flush=True)


if __name__ == "__main__":
    main()

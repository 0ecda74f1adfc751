"""Cross-encoders: query and document in one row, one logit out of a classification head."""

from collections.abc import Sequence
from typing import TYPE_CHECKING

from rerank_server.engine.interface import Row, Vectors
from rerank_server.errors import InputError, LoadError
from rerank_server.families.checkpoint import CheckpointFiles
from rerank_server.families.interface import Cut, EncodedQuery, Fit, Opened, Plan
from rerank_server.families.lengths import choose_length
from rerank_server.families.pretrained import load_pretrained, pad_id, positions, takes_type_ids
from rerank_server.families.template import Template, pair_template
from rerank_server.families.tokens import TextTokenizer, document_names, document_rows, load_tokenizer

if TYPE_CHECKING:
    from transformers import PreTrainedModel

    from rerank_server.engine.heads import Head

SUFFIX = "ForSequenceClassification"


class SequenceClassification:
    """Any `*ForSequenceClassification` of transformers with exactly one logit."""

    name = "sequence-classification"
    summary = f"cross-encoders (*{SUFFIX} with one label)"

    def recognise(self, files: CheckpointFiles, *, named: bool) -> Fit:
        """Go by config.json's architecture and labels."""
        architecture = files.architecture
        if not architecture.endswith(SUFFIX):
            return Fit(False, f"{architecture} is no sequence classification model")
        if files.config.get("is_encoder_decoder"):
            return Fit(False, f"{architecture} is an encoder-decoder model")
        if files.labels != 1:
            return Fit(False, f"{architecture} has {files.labels} labels, and a score is one logit")
        if len(files.modules) > 1:
            after = files.modules[1].kind
            return Fit(
                False, f"modules.json puts {after} after {architecture}, which this family does not run"
            )
        if _default_prompt(files):
            return Fit(False, "config_sentence_transformers.json puts a prompt before every text")
        return Fit(True, f"{architecture} with one label")

    def open(self, files: CheckpointFiles, plan: Plan) -> Opened:
        """Load the model with transformers' own class."""
        from rerank_server.engine.heads import keep_head_in_float32
        from rerank_server.engine.padded import PaddedEngine

        tokens = load_tokenizer(files)
        model = load_pretrained(files, plan, _model_class(files.architecture))
        if plan.dtype != "float32":
            keep_head_in_float32(model)
        padding = pad_id(model, tokens.pad_id)
        ranker = CrossEncoder(
            tokens,
            pair_template(
                tokens.backend, with_type_ids=tokens.with_type_ids and takes_type_ids(model), filler=padding
            ),
            choose_length(plan.max_length, files, positions(model)),
        )
        engine = PaddedEngine(model, _head(model), pad_id=padding, max_tokens=plan.batch_tokens)
        return Opened(ranker, engine, ranker.max_length)


def _default_prompt(files: CheckpointFiles) -> bool:
    name = files.sentence_transformers.get("default_prompt_name")
    return bool(name and files.sentence_transformers.get("prompts", {}).get(name))


def _model_class(architecture: str) -> object:
    import transformers

    found = getattr(transformers, architecture, None)
    if found is None:
        raise LoadError(
            f"transformers {transformers.__version__} has no {architecture}, and a checkpoint's own code "
            "is never run: use a model whose architecture transformers knows."
        )
    return found


def _head(model: "PreTrainedModel") -> "Head":
    """Causal models have a bias-free `score` that reads the last token; the others know what they read."""
    from torch import nn

    from rerank_server.engine.heads import LastTokenLogits, Logits

    score = getattr(model, "score", None)
    if isinstance(score, nn.Linear):
        return LastTokenLogits(score.float(), model.config.get_text_config().pad_token_id)
    return Logits()


class CrossEncoder:
    """Puts the query and each document into one row."""

    def __init__(self, tokens: TextTokenizer, template: Template, max_length: int) -> None:
        self.max_length = max_length
        self._tokens = tokens
        self._template = template

    def encode_query(self, query: str) -> EncodedQuery:
        """Return the query's tokens; they must leave room for one token of a document at least."""
        [ids] = self._tokens.encode([query], ["query"])
        room = self.max_length - self._template.overhead - 1
        if len(ids) > room:
            raise InputError(
                f"`query` has {len(ids)} tokens, and at most {room} fit: the model takes {self.max_length}, "
                f"of which {self._template.overhead} are special and one is a document's. Shorten the query.",
                "query",
            )
        return EncodedQuery(ids)

    def encode_documents(
        self, query: EncodedQuery, documents: Sequence[str], cut: Cut, first: int = 0
    ) -> list[Row]:
        """Return one row a document, the query in each."""
        ids = self._tokens.encode(documents, document_names(first, len(documents)))
        return document_rows(
            self._tokens, self._template, [query.ids], ids, cut=cut, max_length=self.max_length, first=first
        )

    def scores(self, outputs: Vectors) -> Vectors:
        """Return the logits: [documents, 1] -> [documents]."""
        return outputs[:, 0]

"""Cross-encoders: query and document in one row, one logit out of a classification head."""

from collections.abc import Sequence

import numpy as np

from rerank_server.engine.interface import Outputs, Row, Vectors
from rerank_server.engine.readout import Classifier
from rerank_server.errors import InputError
from rerank_server.families import own_code
from rerank_server.families.checkpoint import CheckpointFiles
from rerank_server.families.engines import open_engine
from rerank_server.families.interface import Cut, EncodedQuery, Fit, Opened, Plan
from rerank_server.families.lengths import choose_length
from rerank_server.families.template import Template, pair_template
from rerank_server.families.tokens import TextTokenizer, document_names, document_rows, load_tokenizer

SUFFIX = "ForSequenceClassification"
CONVERTED = tuple(f"{each}{SUFFIX}" for each in ("Qwen2", "Qwen3", "Gemma", "Mistral"))
"""Classes to which causal rerankers are converted, and which plain cross-encoders have too."""


class SequenceClassification:
    """Any `*ForSequenceClassification` of transformers with exactly one logit."""

    name = "sequence-classification"
    summary = f"cross-encoders (*{SUFFIX} with one label)"

    def recognise(self, files: CheckpointFiles, *, named: bool) -> Fit:
        """Go by config.json's architecture and labels."""
        architecture = files.architecture
        objection = own_code.objection(files)
        if not architecture.endswith(SUFFIX):
            return Fit(False, objection or f"{architecture} is no sequence classification model")
        if objection is not None:
            return Fit(False, objection)
        if files.config.get("is_encoder_decoder"):
            return Fit(False, f"{architecture} is an encoder-decoder model")
        if files.labels != 1:
            return Fit(
                False,
                f"{architecture} has {files.labels} labels, and a score is one logit: "
                "use a checkpoint that was trained with num_labels 1",
            )
        if len(files.modules) > 1:
            after = files.modules[1].kind
            return Fit(
                False, f"modules.json puts {after} after {architecture}, which this family does not run"
            )
        objection = prompt_objection(files) or (None if named else _doubt(files))
        return Fit(objection is None, objection or f"{architecture} with one label")

    def open(self, files: CheckpointFiles, plan: Plan) -> Opened:
        """Load tokenizer and weights."""
        tokens = load_tokenizer(files)
        computed = open_engine(files, plan, Classifier())
        facts = computed.facts
        ranker = CrossEncoder(
            tokens,
            pair_template(
                tokens.backend,
                with_type_ids=tokens.with_type_ids and facts.takes_type_ids,
                filler=facts.pad_id,
            ),
            choose_length(plan.max_length, files, facts.positions),
        )
        return Opened(ranker, computed, ranker.max_length)


def prompt_objection(files: CheckpointFiles) -> str | None:
    """Say that sentence-transformers would put text around a query and a document, or None."""
    name = files.sentence_transformers.get("default_prompt_name")
    if name and files.sentence_transformers.get("prompts", {}).get(name):
        return "config_sentence_transformers.json puts a prompt before every text"
    if "message" in (files.sentence_bert.get("modality_config") or ()):
        return "sentence_bert_config.json has pairs put into a chat template, and no family here has that one"
    return None


def _doubt(files: CheckpointFiles) -> str | None:
    """Say that a causal model may be a reranker's conversion, which ranks at random without its prompt.

    Its class and its tokenizer, chat template included, are those of the model that it was trained from, so
    they do not tell. sentence-transformers does: it notes what a model takes that was trained as a plain one.
    """
    plain = "modality_config" in files.sentence_bert
    if files.architecture not in CONVERTED or plain or not files.chat_templates:
        return None
    return (
        f"{files.architecture} may be a causal reranker that was converted to one label, which ranks at "
        "random without its prompt, or be trained on plain pairs, and its files do not tell: set "
        f"scoring.family to the reranker's family, or to {SequenceClassification.name} for plain pairs"
    )


class CrossEncoder:
    """Puts the query and each document into one row."""

    takes_instruction = False

    def __init__(self, tokens: TextTokenizer, template: Template, max_length: int) -> None:
        self.max_length = max_length
        self._tokens = tokens
        self._template = template

    def encode_query(self, query: str, instruction: str | None = None) -> EncodedQuery:
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

    def scores(self, outputs: Outputs, rows: Sequence[Row] = ()) -> Vectors:
        """Return the logits: [documents, 1] -> [documents]."""
        return np.asarray(outputs)[:, 0]

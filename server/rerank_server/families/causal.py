"""Causal rerankers: a prompt that asks for relevance, and the logits of the answer's tokens.

Run without its prompt such a model ranks at random. So it is recognised by what tells its prompt, and a
causal model of which nothing tells it is refused.
"""

import re
from collections.abc import Sequence
from dataclasses import dataclass

from rerank_server.engine.readout import Classifier, NextToken, Readout
from rerank_server.errors import LoadError
from rerank_server.families.checkpoint import CheckpointFiles, Module, read_json
from rerank_server.families.engines import open_engine
from rerank_server.families.interface import Fit, Opened, Plan
from rerank_server.families.lengths import choose_length
from rerank_server.families.prompt import Prompt, Prompted
from rerank_server.families.scales import Scale, logistic
from rerank_server.families.template import Special, Template, single_template
from rerank_server.families.tokens import TextTokenizer, load_tokenizer

CAUSAL = "ForCausalLM"
CLASSIFIER = "ForSequenceClassification"
_PAIR_TEMPLATE = re.compile(r"""["'](query|document)["']""")
"""A chat template that is made for pairs asks for messages with these roles."""


@dataclass(frozen=True)
class CausalReranker:
    """A family of causal rerankers, and of their conversions to one label, which need the same prompt."""

    name: str
    models: str
    """Of which kind they are, for people."""
    classes: tuple[str, ...]
    """transformers' names of the model, without `ForCausalLM`: `Qwen3`."""
    prompt: Prompt
    answers: tuple[str, ...] | None
    """Tokens whose logits make the score, the first, or the first less the second; None where `ids` tells."""
    named: re.Pattern[str]
    """Found in a name of the checkpoint, ignoring case."""
    says: str | None = None
    """Words of the prompt, found in the chat template."""
    code: str | None = None
    """The module that config.json names where the model once came with code, which is not needed here."""
    ids: tuple[int, ...] = ()
    marks: tuple[str, ...] = ()
    """Parts of the prompt that are one token each."""
    length: int | None = None
    """Tokens that it was made for, where that is less than it has positions."""
    with_specials: bool = False
    """The authors let the tokenizer put its own special tokens around the prompt."""
    scale: Scale = logistic

    @property
    def summary(self) -> str:
        """Complete the sentence 'Supported are: …'."""
        return f"{self.name} ({self.models})"

    def takes(self, architecture: str) -> bool:
        """Say whether this is a class that its models have."""
        return architecture.removesuffix(CAUSAL).removesuffix(CLASSIFIER) in self.classes and (
            architecture.endswith((CAUSAL, CLASSIFIER))
        )

    def recognise(self, files: CheckpointFiles, *, named: bool) -> Fit:
        """Go by the class, and by what tells the prompt: chat template, names, or the manifest."""
        architecture = files.architecture
        if not self.takes(architecture):
            known = " or ".join(f"{each}{CAUSAL}" for each in self.classes)
            return Fit(False, f"{architecture} is not {known}")
        if architecture.endswith(CLASSIFIER) and files.labels != 1:
            return Fit(False, f"{architecture} has {files.labels} labels, and a score is one logit")
        after = [module.kind for module in files.modules[1:] if module.kind != "LogitScore"]
        if after:
            return Fit(False, f"modules.json puts {', '.join(after)} after {architecture}")
        if named:
            return Fit(True, "the manifest names it")
        return self._told_by_files(files)

    def _told_by_files(self, files: CheckpointFiles) -> Fit:
        if self.says is not None and any(self.says in template for template in files.chat_templates):
            return Fit(True, f"its chat template is that of {self.models}")
        if self.code is not None and self.code in files.own_code:
            return Fit(True, f"config.json names {self.code}")
        if not any(self.named.search(name) for name in files.names):
            return Fit(False, f"neither a name nor a chat template says that it is one of {self.models}")
        if self.says is not None and any(map(_is_for_pairs, files.chat_templates)):
            return Fit(False, f"it has a chat template for pairs that is not that of {self.models}")
        return Fit(True, "its name says so")

    def open(self, files: CheckpointFiles, plan: Plan) -> Opened:
        """Load tokenizer and weights."""
        tokens = load_tokenizer(files)
        computed = open_engine(files, plan, self._readout(files, tokens))
        length = choose_length(plan.max_length, files, computed.facts.positions)
        if plan.max_length is None and self.length is not None:
            length = min(length, self.length)
        ranker = Prompted(
            tokens, self.prompt, self._specials(tokens), max_length=length, instruction=plan.instruction
        )
        return Opened(ranker, computed, length, self.scale)

    def _readout(self, files: CheckpointFiles, tokens: TextTokenizer) -> Readout:
        for mark in self.marks:
            _single(tokens, mark, files, self.name)
        if files.architecture.endswith(CLASSIFIER):
            return Classifier()
        ids = self.ids or tuple(_single(tokens, answer, files, self.name) for answer in self.answers or ())
        _require_declared(files.modules, ids, self.name)
        return NextToken(ids)

    def _specials(self, tokens: TextTokenizer) -> Template:
        if self.with_specials:
            return single_template(tokens.backend, with_type_ids=False, filler=0)
        return Template((Special(), Special()), (0,), with_type_ids=False, filler=0)


def _is_for_pairs(template: str) -> bool:
    return {"query", "document"} <= set(_PAIR_TEMPLATE.findall(template))


def _single(tokens: TextTokenizer, word: str, files: CheckpointFiles, family: str) -> int:
    """Return the id of a word that must be one token."""
    ids: list[int] = tokens.backend.encode(word, add_special_tokens=False).ids
    if len(ids) != 1:
        raise LoadError(
            f"The tokenizer in {files.transformer} makes {len(ids)} tokens of `{word}`, which is one of "
            f"{family}'s: this checkpoint is of another family."
        )
    return ids[0]


def _require_declared(modules: Sequence[Module], ids: tuple[int, ...], family: str) -> None:
    """Hold the ids against those that sentence-transformers' LogitScore declares, if it is there."""
    for module in modules:
        if module.kind != "LogitScore":
            continue
        config = read_json(module.folder / "config.json")
        declared = (config.get("true_token_id"), config.get("false_token_id"))
        if tuple(each for each in declared if each is not None) != ids:
            raise LoadError(
                f"{module.folder / 'config.json'} reads the tokens {declared}, and {family} reads {ids}: "
                "this checkpoint is of another family."
            )

"""Cross-encoders made of modules, as ettin-reranker is: an encoder, pooling, layers down to one score."""

from typing import Any

from rerank_server.engine.readout import PooledVector
from rerank_server.families import own_code, sentence_modules
from rerank_server.families.checkpoint import CheckpointFiles, read_json
from rerank_server.families.engines import open_engine
from rerank_server.families.interface import Fit, Opened, Plan
from rerank_server.families.lengths import choose_length
from rerank_server.families.sequence_classification import CrossEncoder, prompt_objection
from rerank_server.families.template import pair_template
from rerank_server.families.tokens import load_tokenizer

SCORES = "scores"
"""What the last layer writes, in sentence-transformers' words."""


class PooledCrossEncoder:
    """modules.json with Transformer, Pooling, and layers of which the last has one output."""

    name = "pooled-cross-encoder"
    summary = (
        "cross-encoders made of modules (modules.json with Transformer, Pooling, "
        f"{', '.join(sentence_modules.STEPS)} and a last Dense with one output)"
    )

    def recognise(self, files: CheckpointFiles, *, named: bool) -> Fit:
        """Go by modules.json and by what its last layer gives."""
        kinds = [module.kind for module in files.modules]
        if kinds[:2] != ["Transformer", "Pooling"] or kinds[-1] != "Dense":
            return Fit(False, "modules.json does not list Transformer, Pooling and a Dense at the end")
        last = read_json(files.modules[-1].folder / "config.json")
        if last.get("module_output_name") != SCORES:
            return Fit(False, f"its last Dense does not write `{SCORES}`")
        if last.get("out_features") != 1:
            return Fit(False, f"its modules end in {last.get('out_features')} numbers, and a score is one")
        objection = (
            own_code.objection(files)
            or prompt_objection(files)
            or sentence_modules.layers_objection(files, last=SCORES)
        )
        return Fit(objection is None, objection or "its modules end in one score")

    def open(self, files: CheckpointFiles, plan: Plan) -> Opened:
        """Load the encoder and the modules after it."""
        from rerank_server.families.sentence_steps import load_step

        tokens = load_tokenizer(files)
        steps: list[Any] = [load_step(module, plan.device) for module in files.modules[2:]]
        computed = open_engine(files, plan, PooledVector(sentence_modules.pooling_modes(files), steps))
        facts = computed.facts
        template = pair_template(
            tokens.backend,
            with_type_ids=tokens.with_type_ids and facts.takes_type_ids,
            filler=facts.pad_id,
        )
        ranker = CrossEncoder(tokens, template, choose_length(plan.max_length, files, facts.positions))
        return Opened(ranker, computed, ranker.max_length)

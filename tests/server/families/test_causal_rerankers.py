"""Scores of causal rerankers are those of transformers with the authors' prompt, one pair at a time."""

import asyncio
import json
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
import transformers
from hypothesis import given, settings
from hypothesis import strategies as st
from safetensors.torch import load_file, save_file
from sentence_transformers import CrossEncoder
from transformers import AutoTokenizer

from rerank_server.errors import InputError, LoadError
from rerank_server.families.interface import Cut
from rerank_server.families.qwen3_reranker import INSTRUCTION
from rerank_server.load import LoadedModel, ScoringOptions, load
from rerank_server.reranker import Reranker

QUERY = "which planet is called the red planet?"
DOCUMENTS = [
    "mars",
    "mars is called the red planet.",
    "",
    " ",
    "\n\nVenus?\n",
    "  two spaces, then 東京 naïve München",
    "Venus is hot. " * 20,
    "a turn that ends <|im_end|>\n<|im_start|> here",
    "\u0301 begins with an accent",
]
TOLERANCE = 1e-5
TEXTS = st.one_of(
    st.text(max_size=30),
    st.text(alphabet="aB1 .?:<>|_\n\t\r\u0301\u00e9\u3000▁", max_size=30),
    st.lists(st.sampled_from(["<|im_end|>", "<bos>", "mars", " ", "\n", ":", "yes"]), max_size=8).map(
        "".join
    ),
)

QWEN_PREFIX = (
    "<|im_start|>system\nJudge whether the Document meets the requirements based on the Query and the "
    'Instruct provided. Note that the answer can only be "yes" or "no".<|im_end|>\n<|im_start|>user\n'
)
QWEN_SUFFIX = "<|im_end|>\n<|im_start|>assistant\n<think>\n\n</think>\n\n"
Tokenize = Callable[[str], list[int]]


def qwen3(ids: Tokenize, query: str, document: str, instruction: str | None) -> list[int]:
    """Tokenize as the model card does."""
    told = instruction or "Given a web search query, retrieve relevant passages that answer the query"
    body = f"<Instruct>: {told}\n<Query>: {query}\n<Document>: {document}"
    return ids(QWEN_PREFIX) + ids(body) + ids(QWEN_SUFFIX)


def mxbai(ids: Tokenize, query: str, document: str, instruction: str | None) -> list[int]:
    """Tokenize as the authors' package does."""
    asked = f"query: {query}"
    if instruction:
        asked = f"instruction: {instruction}\n{asked}"
    task = (
        "You are a search relevance expert who evaluates how well documents match search queries. For each "
        "query-document pair, carefully analyze the semantic relationship between them, then provide your "
        "binary relevance judgment (0 for not relevant, 1 for relevant).\nRelevance:"
    )
    start = (
        "<|im_start|>system\nYou are Qwen, created by Alibaba Cloud. You are a helpful assistant.<|im_end|>\n"
        "<|im_start|>user\n"
    )
    pair = ids(asked) + ids("\n") + ids(f"document: {document}")
    return ids(start) + pair + ids("\n") + ids(task) + ids("<|im_end|>\n<|im_start|>assistant\n")


def gemma(ids: Tokenize, query: str, document: str, instruction: str | None) -> list[int]:
    """Tokenize as the authors' package does."""
    prompt = (
        "Given a query A and a passage B, determine whether the passage contains an answer to the query by "
        "providing a prediction of either 'Yes' or 'No'."
    )
    return [2, *ids(f"A: {query}"), *ids("\n"), *ids(f"B: {document}"), *ids("\n"), *ids(prompt)]


def zerank(ids: Tokenize, query: str, document: str, instruction: str | None) -> list[int]:
    """Tokenize the turns as one text."""
    asked = f"<query>{query}</query>\n<instruction>{instruction}</instruction>" if instruction else query
    return ids(
        f"<|im_start|>system\n{asked}<|im_end|>\n<|im_start|>user\n{document}<|im_end|>\n"
        "<|im_start|>assistant\n"
    )


def ctxl(ids: Tokenize, query: str, document: str, instruction: str | None) -> list[int]:
    """Tokenize as one text."""
    told = f" {instruction}" if instruction else ""
    return ids(
        "Check whether a given document contains information helpful to answer the query.\n"
        f"<Document> {document}\n<Query> {query}{told} ??"
    )


@dataclass(frozen=True)
class Case:
    """A family, a checkpoint that is of it, and how its authors score."""

    family: str
    architecture: str
    tokens: str
    folder: str
    encode: Callable[[Tokenize, str, str, str | None], list[int]]
    answers: tuple[str, ...]
    """None reads the vocabulary's first token."""
    takes_instruction: bool = True
    specials: bool = False
    """The authors let the tokenizer add its special tokens."""


CASES = [
    Case("qwen3-reranker", "Qwen3ForCausalLM", "qwen", "Qwen3-Reranker-0.6B", qwen3, ("yes", "no")),
    Case("mxbai-rerank-v2", "Qwen2ForCausalLM", "qwen", "mxbai-rerank-base-v2", mxbai, ("1", "0")),
    Case(
        "bge-reranker-v2-gemma", "GemmaForCausalLM", "gemma", "bge-reranker-v2-gemma", gemma, ("Yes",), False
    ),
    Case("zerank", "Qwen3ForCausalLM", "qwen", "zerank-2", zerank, ("Yes",)),
    Case("ctxl-rerank-v2", "Qwen3ForCausalLM", "qwen", "ctxl-rerank-v2-1b", ctxl, (), specials=True),
    Case("ctxl-rerank-v2", "MistralForCausalLM", "mistral", "ctxl-rerank-v2-6b", ctxl, (), specials=True),
]
each_case = pytest.mark.parametrize("case", CASES, ids=lambda case: f"{case.family} {case.architecture}")


def expected(
    case: Case, folder: Path, query: str, documents: list[str], instruction: str | None = None
) -> tuple[list[list[int]], list[float]]:
    """Score one pair at a time with nothing but transformers."""
    tokenizer = AutoTokenizer.from_pretrained(folder)
    model = getattr(transformers, case.architecture).from_pretrained(folder, dtype=torch.float32).eval()

    def ids(text: str) -> list[int]:
        encoded: list[int] = tokenizer(text, add_special_tokens=case.specials)["input_ids"]
        return encoded

    wanted = [tokenizer(answer, add_special_tokens=False)["input_ids"] for answer in case.answers] or [[0]]
    rows, scores = [], []
    for document in documents:
        row = case.encode(ids, query, document, instruction)
        with torch.inference_mode():
            logits = model(input_ids=torch.tensor([row])).logits[0, -1]
        first, *others = [logits[one].item() for [one] in wanted]
        rows.append(row)
        scores.append(first - sum(others))
    return rows, scores


def computed(
    model: LoadedModel, query: str, documents: list[str], instruction: str | None = None
) -> tuple[list[list[int]], Any]:
    """Score in one batch."""
    encoded = model.ranker.encode_query(query, instruction)
    rows = model.ranker.encode_documents(encoded, documents, Cut("document"))
    return [list(row.ids) for row in rows], model.ranker.scores(model.engine.run(rows), rows)


@each_case
@pytest.mark.parametrize("query", [QUERY, "mars", ""])
def test_rows_and_scores_are_the_authors_own(case: Case, query: str, save_causal: Any) -> None:
    folder = save_causal(case.architecture, case.tokens, case.folder)
    model = load(folder, ScoringOptions(), threads=1)
    assert model.family == case.family
    rows, scores = expected(case, folder, query, DOCUMENTS)
    own_rows, own_scores = computed(model, query, DOCUMENTS)
    assert own_rows == rows
    assert own_scores == pytest.approx(scores, abs=TOLERANCE)
    assert np.std(scores) > 1e-2, "the scores of this random model must differ, or they prove nothing"


@each_case
def test_any_texts_become_the_authors_own_rows(case: Case, save_causal: Any) -> None:
    folder = save_causal(case.architecture, case.tokens, case.folder)
    ranker = load(folder, ScoringOptions(), threads=1).ranker
    tokenizer = AutoTokenizer.from_pretrained(folder)
    told = TEXTS.filter(bool) if case.takes_instruction else st.none()

    def ids(text: str) -> list[int]:
        encoded: list[int] = tokenizer(text, add_special_tokens=case.specials)["input_ids"]
        return encoded

    @settings(max_examples=150, deadline=None)
    @given(query=TEXTS, document=TEXTS, instruction=told)
    def check(query: str, document: str, instruction: str | None) -> None:
        encoded = ranker.encode_query(query, instruction)
        [row] = ranker.encode_documents(encoded, [document], Cut("error"))
        assert list(row.ids) == case.encode(ids, query, document, instruction)

    check()


@pytest.mark.parametrize("case", [CASES[0], CASES[2]], ids=lambda case: case.family)
def test_a_model_whose_output_layer_is_its_embeddings_is_scored_alike(case: Case, save_causal: Any) -> None:
    folder = save_causal(case.architecture, case.tokens, case.folder, tie_word_embeddings=True)
    assert "lm_head.weight" not in load_file(folder / "model.safetensors")
    _, scores = expected(case, folder, QUERY, DOCUMENTS)
    model = load(folder, ScoringOptions(), threads=1)
    assert computed(model, QUERY, DOCUMENTS)[1] == pytest.approx(scores, abs=TOLERANCE)


@pytest.mark.parametrize("engine", ["causal", "packed", "padded"])
def test_every_engine_gives_these_scores(engine: str, save_causal: Any) -> None:
    case = CASES[0]
    folder = save_causal(case.architecture, case.tokens, case.folder)
    model = load(folder, ScoringOptions(), threads=1, engine=engine)
    _, scores = expected(case, folder, QUERY, DOCUMENTS)
    assert computed(model, QUERY, DOCUMENTS)[1] == pytest.approx(scores, abs=TOLERANCE)
    assert model.engine.name == engine


@each_case
def test_in_bf16_the_logits_are_read_in_fp32(case: Case, save_causal: Any) -> None:
    folder = save_causal(case.architecture, case.tokens, case.folder, initializer_range=0.05)
    _, scores = expected(case, folder, QUERY, DOCUMENTS)
    model = load(folder, ScoringOptions(dtype="bfloat16"), threads=1)
    _, rounded = computed(model, QUERY, DOCUMENTS)
    assert model.engine.dtype == "bfloat16"
    assert rounded == pytest.approx(scores, abs=0.05)
    as_bf16 = torch.from_numpy(rounded).to(torch.bfloat16).float().numpy()
    assert not np.array_equal(rounded, as_bf16), "logits out of an fp32 head are finer than bf16"


@each_case
def test_a_request_may_bring_its_own_instruction(case: Case, save_causal: Any) -> None:
    folder = save_causal(case.architecture, case.tokens, case.folder)
    model = load(folder, ScoringOptions(), threads=1)
    assert model.ranker.takes_instruction == case.takes_instruction
    if case.takes_instruction:
        rows, scores = expected(case, folder, QUERY, DOCUMENTS, "Find planets.")
        own_rows, own_scores = computed(model, QUERY, DOCUMENTS, "Find planets.")
        assert own_rows == rows != computed(model, QUERY, DOCUMENTS)[0]
        assert own_scores == pytest.approx(scores, abs=TOLERANCE)


def test_a_request_is_told_scored_and_counted_through_the_whole_path(save_causal: Any) -> None:
    case = CASES[0]
    folder = save_causal(case.architecture, case.tokens, case.folder)
    reranker = Reranker(load(folder, ScoringOptions(), threads=1))
    scores = asyncio.run(reranker.score(QUERY, DOCUMENTS, instruction="Find planets."))
    reranker.close()
    rows, wanted = expected(case, folder, QUERY, DOCUMENTS, "Find planets.")
    assert scores.values == pytest.approx(wanted, abs=TOLERANCE)
    assert scores.tokens == sum(map(len, rows))


def test_the_manifests_instruction_is_the_default(save_causal: Any) -> None:
    case = CASES[0]
    folder = save_causal(case.architecture, case.tokens, case.folder)
    model = load(folder, ScoringOptions(instruction="Find planets."), threads=1)
    assert (
        computed(model, QUERY, DOCUMENTS)[0] == expected(case, folder, QUERY, DOCUMENTS, "Find planets.")[0]
    )
    assert (
        computed(model, QUERY, DOCUMENTS, INSTRUCTION)[0]
        == expected(case, folder, QUERY, DOCUMENTS, INSTRUCTION)[0]
    )


def test_an_instruction_for_a_family_that_takes_none_is_refused(save_causal: Any) -> None:
    folder = save_causal("GemmaForCausalLM", "gemma", "bge-reranker-v2-gemma")
    with pytest.raises(LoadError, match=r"scoring\.instruction is set, and the family bge-reranker-v2-gemma"):
        load(folder, ScoringOptions(instruction="x"), threads=1)


@each_case
def test_only_the_document_is_cut(case: Case, save_causal: Any) -> None:
    folder = save_causal(case.architecture, case.tokens, case.folder)
    whole = load(folder, ScoringOptions(), threads=1)
    [[*one]], _ = computed(whole, QUERY, ["mars"])
    limit = len(one) + 5
    model = load(folder, ScoringOptions(max_length=limit), threads=1)
    long = "mars venus planet " * 30
    query = model.ranker.encode_query(QUERY)
    [row] = model.ranker.encode_documents(query, [long], Cut("document"))
    assert len(row.ids) == limit
    assert list(row.ids[: row.shared]) == list(query.ids) == one[: row.shared]
    after = list(query.after)
    assert list(row.ids[-len(after) :]) == after == one[-len(after) :]
    [[*uncut]], _ = computed(whole, QUERY, [long])
    assert list(row.ids[: limit - len(after) - 1]) == uncut[: limit - len(after) - 1]

    with pytest.raises(
        InputError, match=r"`documents\[7\]` has \d+ tokens beside \d+ .* together: shorten"
    ) as no:
        model.ranker.encode_documents(query, ["mars", long], Cut("error"), first=6)
    assert no.value.param == "documents[7]"
    with pytest.raises(InputError, match=r"`query` has \d+ tokens, and at most \d+ fit") as no:
        model.ranker.encode_query("mars venus " * 40)
    assert no.value.param == "query"


@each_case
def test_a_document_may_be_cut_to_its_own_first_tokens(case: Case, save_causal: Any) -> None:
    model = load(save_causal(case.architecture, case.tokens, case.folder), ScoringOptions(), threads=1)
    query = model.ranker.encode_query(QUERY)
    rows = model.ranker.encode_documents(query, ["mars venus planet. ", "mars"], Cut("error", 2))
    lengths = [len(row.ids) - len(query.ids) - len(query.after) for row in rows]
    frame = len(model.ranker.encode_documents(query, [""], Cut("error"))[0].ids) - len(query.ids)
    assert 2 <= lengths[0] <= 2 + frame - len(query.after)


def convert(folder: Path, yes: int, no: int | None) -> None:
    """Turn a causal checkpoint into one with one label, as its users do."""
    tensors = load_file(folder / "model.safetensors")
    head = tensors.pop("lm_head.weight")
    row = head[yes] if no is None else head[yes] - head[no]
    save_file(
        {**tensors, "score.weight": row.unsqueeze(0).clone()}, folder / "model.safetensors", {"format": "pt"}
    )
    config = json.loads((folder / "config.json").read_text())
    config |= {
        "architectures": ["Qwen3ForSequenceClassification"],
        "id2label": {"0": "LABEL_0"},
        "label2id": {"LABEL_0": 0},
    }
    (folder / "config.json").write_text(json.dumps(config))


@pytest.mark.parametrize("case", [CASES[0], CASES[3]], ids=lambda case: case.family)
def test_a_conversion_to_one_label_gets_the_prompt_and_gives_the_same_scores(
    case: Case, save_causal: Any
) -> None:
    folder = save_causal(case.architecture, case.tokens, f"{case.folder}-seq-cls")
    rows, scores = expected(case, folder, QUERY, DOCUMENTS)
    ids = AutoTokenizer.from_pretrained(folder).convert_tokens_to_ids(list(case.answers))
    convert(folder, ids[0], ids[1] if len(ids) > 1 else None)
    model = load(folder, ScoringOptions(), threads=1)
    own_rows, own_scores = computed(model, QUERY, DOCUMENTS)
    assert (model.family, own_rows) == (case.family, rows)
    assert own_scores == pytest.approx(scores, abs=TOLERANCE)


def test_zerank_divides_its_logit_by_five_between_0_and_1(save_causal: Any) -> None:
    model = load(save_causal("Qwen3ForCausalLM", "qwen", "zerank-2"), ScoringOptions(), threads=1)
    _, raw = computed(model, QUERY, DOCUMENTS)
    assert model.scale(raw) == pytest.approx(1 / (1 + np.exp(-raw / 5)), abs=1e-6)


PAIR_TEMPLATE = (
    QWEN_PREFIX
    + '<Instruct>: {{ messages | selectattr("role", "eq", "system") | map(attribute="content") | first '
    + f'| default("{INSTRUCTION}") }}}}\n'
    + '<Query>: {{ messages | selectattr("role", "eq", "query") | map(attribute="content") | first }}\n'
    + '<Document>: {{ messages | selectattr("role", "eq", "document") | map(attribute="content") | first }}'
    + QWEN_SUFFIX.replace("</think>\n\n", '</think>{{ "\\n\\n" }}')
)


def test_a_chat_template_tells_the_family_and_sentence_transformers_gives_the_same_scores(
    save_causal: Any,
) -> None:
    folder = save_causal("Qwen3ForCausalLM", "qwen", "anything", chat_template=PAIR_TEMPLATE)
    model = load(folder, ScoringOptions(), threads=1)
    assert model.family == "qwen3-reranker"
    reference = CrossEncoder(str(folder), device="cpu", local_files_only=True)
    scores = reference.predict(
        [(QUERY, document) for document in DOCUMENTS], activation_fn=torch.nn.Identity(), batch_size=1
    )
    assert computed(model, QUERY, DOCUMENTS)[1] == pytest.approx(scores, abs=TOLERANCE)


@pytest.mark.parametrize(
    ("tokens", "family", "words"),
    [
        pytest.param(
            "qwen", "mxbai-rerank-v2", "Qwen3ForCausalLM is not Qwen2ForCausalLM", id="another class"
        ),
        pytest.param(
            "gemma",
            "qwen3-reranker",
            r"\d+ tokens of `<\|im_start\|>`, which is one of",
            id="another tokenizer",
        ),
        pytest.param(
            "qwen", "auto", "ranks by a prompt .* of qwen3-reranker or zerank or", id="no sign of any"
        ),
    ],
)
def test_a_causal_model_is_never_served_at_random(
    tokens: str, family: str, words: str, save_causal: Any
) -> None:
    folder = save_causal("Qwen3ForCausalLM", tokens, "my-finetune")
    with pytest.raises(LoadError, match=words):
        load(folder, ScoringOptions(family=family), threads=1)


def test_a_manifest_may_name_the_family_that_no_file_tells(save_causal: Any) -> None:
    folder = save_causal("Qwen3ForCausalLM", "qwen", "my-finetune")
    assert load(folder, ScoringOptions(family="zerank"), threads=1).family == "zerank"


def test_other_answers_than_the_familys_are_refused(save_causal: Any) -> None:
    folder = save_causal("Qwen3ForCausalLM", "qwen", "Qwen3-Reranker-0.6B")
    modules = [{"type": "a.Transformer", "path": ""}, {"type": "a.LogitScore", "path": "1_LogitScore"}]
    (folder / "modules.json").write_text(json.dumps(modules))
    score = folder / "1_LogitScore" / "config.json"
    score.parent.mkdir()
    ids = AutoTokenizer.from_pretrained(folder).convert_tokens_to_ids(["yes", "no"])
    score.write_text(json.dumps({"true_token_id": ids[0], "false_token_id": ids[1]}))
    assert load(folder, ScoringOptions(), threads=1).family == "qwen3-reranker"
    score.write_text(json.dumps({"true_token_id": ids[1], "false_token_id": None}))
    with pytest.raises(LoadError, match=r"reads the tokens \(\d+, None\), and qwen3-reranker reads"):
        load(folder, ScoringOptions(), threads=1)

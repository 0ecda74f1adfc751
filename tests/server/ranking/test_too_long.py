"""A document that is too long is told whose bound it is over, and what is beside it."""

from collections.abc import Callable
from dataclasses import replace

import pytest

from rerank_server.errors import InputError
from rerank_server.families.interface import Cut, Ranker
from rerank_server.families.prompt import Prompt, Prompted
from rerank_server.families.sequence_classification import CrossEncoder
from rerank_server.families.template import pair_template, single_template
from rerank_server.families.tokens import TextTokenizer
from tests.server.ranking.conftest import train_tokenizer

MODEL_TAKES = 60
DOCUMENT = "mars " * 100


def cross_encoder() -> Ranker:
    tokens = TextTokenizer(train_tokenizer("wordpiece"), False, False, 0)
    return CrossEncoder(
        tokens, pair_template(tokens.backend, with_type_ids=False, filler=0), max_length=MODEL_TAKES
    )


def prompted() -> Ranker:
    tokens = TextTokenizer(train_tokenizer("byte-bpe-bos"), False, False, 0)
    prompt = Prompt(lambda query, _: (f"query {query}\n",), gap="\n", tail="\n", after=lambda *_: ("\nrank",))
    specials = single_template(tokens.backend, with_type_ids=False, filler=0)
    return Prompted(tokens, prompt, specials, max_length=MODEL_TAKES, instruction=None)


@pytest.mark.parametrize("asked", [None, 40, MODEL_TAKES, 1000])
@pytest.mark.parametrize("ranker", [cross_encoder, prompted])
def test_the_bound_and_what_is_beside_the_document_are_those_that_hold(
    ranker: Callable[[], Ranker], asked: int | None
) -> None:
    model = ranker()
    query, cut = model.encode_query("red planet"), Cut("document", max_row_tokens=asked)
    [row] = model.encode_documents(query, [DOCUMENT], cut)
    [empty] = model.encode_documents(query, [""], cut)
    with pytest.raises(InputError) as refused:
        model.encode_documents(query, [DOCUMENT], replace(cut, truncate="error"))
    bound = "the request allows 40" if asked == 40 else f"the model takes {MODEL_TAKES}"
    length, beside = len(row.ids), len(empty.ids)
    assert f"tokens beside {beside} of the query and " in str(refused.value)
    assert f", and {bound} together: shorten it to {length - beside}, or" in str(refused.value)

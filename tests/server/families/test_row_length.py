"""How long a row may be: the model's own bound, or the caller's where that is below it."""

import pytest

from rerank_server.errors import InputError
from rerank_server.families.interface import Cut


@pytest.mark.parametrize(
    ("asked", "beside", "length"),
    [
        pytest.param(None, 40, 512, id="no bound of the caller's"),
        pytest.param(100, 40, 100, id="below the model's"),
        pytest.param(512, 40, 512, id="the model's"),
        pytest.param(9_999, 40, 512, id="above the model's"),
        pytest.param(41, 40, 41, id="room for one token"),
        pytest.param(512, 600, 512, id="the model's bound is not checked here"),
    ],
)
def test_the_smaller_bound_holds(asked: int | None, beside: int, length: int) -> None:
    assert Cut("document", max_row_tokens=asked).row_length(512, beside) == length


@pytest.mark.parametrize("asked", [1, 39, 40])
def test_a_row_without_room_for_a_document_is_refused(asked: int) -> None:
    with pytest.raises(InputError, match=f"`max_row_tokens` is {asked}, and query and special tokens are 40"):
        Cut("document", max_row_tokens=asked).row_length(512, 40)

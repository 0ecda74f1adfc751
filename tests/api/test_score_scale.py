"""What a score is, in one word."""

import pytest

from rerank_api.score_scale import ScoreScale


@pytest.mark.parametrize(
    ("raw", "shown"),
    [
        pytest.param(ScoreScale.LOGIT, ScoreScale.PROBABILITY, id="a logit becomes a probability"),
        pytest.param(ScoreScale.PROBABILITY, ScoreScale.PROBABILITY, id="a probability stays one"),
        pytest.param(ScoreScale.COSINE, ScoreScale.UNIT, id="a cosine is cut at 0"),
        pytest.param(ScoreScale.DOT_PRODUCT, ScoreScale.UNIT, id="a dot product is squeezed"),
        pytest.param(ScoreScale.MAX_SIM, ScoreScale.UNIT, id="a sum of cosines becomes their mean"),
        pytest.param(ScoreScale.UNIT, ScoreScale.UNIT, id="what lies between 0 and 1 stays there"),
    ],
)
def test_sigmoid_makes_probabilities_of_logits_and_of_nothing_else(
    raw: ScoreScale, shown: ScoreScale
) -> None:
    assert raw.as_sigmoid is shown

"""What raw scores are between 0 and 1."""

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st
from hypothesis.extra.numpy import arrays

from rerank_server.families.scales import Scale, clipped, logistic, mean_of, tempered

SCALES = [
    pytest.param(logistic, id="logistic"),
    pytest.param(tempered(5.0), id="tempered"),
    pytest.param(clipped, id="cosine"),
    pytest.param(mean_of(32), id="mean of cosines"),
]


@pytest.mark.parametrize(
    ("scale", "raw", "shown"),
    [
        pytest.param(logistic, [0.0, 2.0, -2.0], [0.5, 0.880797, 0.119203], id="a logit"),
        pytest.param(tempered(5.0), [5.0, -10.0], [0.731059, 0.119203], id="a logit, divided by five"),
        pytest.param(clipped, [0.75, -0.25, 1.0000001], [0.75, 0.0, 1.0], id="a cosine is itself"),
        pytest.param(mean_of(4), [3.0, -1.0], [0.75, 0.0], id="a sum of four cosines"),
    ],
)
def test_a_raw_score_is_shown_as_its_family_means_it(
    scale: Scale, raw: list[float], shown: list[float]
) -> None:
    assert scale(np.array(raw, dtype=np.float32)) == pytest.approx(shown, abs=1e-6)


@pytest.mark.parametrize("scale", SCALES)
@given(raw=arrays(np.float32, st.integers(0, 20), elements=st.floats(-float(2**90), float(2**90), width=32)))
def test_every_scale_is_fp32_within_0_and_1_and_keeps_the_order(scale: Scale, raw: np.ndarray) -> None:
    shown = scale(raw)
    assert shown.dtype == np.float32
    assert ((shown >= 0) & (shown <= 1)).all()
    assert (np.diff(shown[np.argsort(raw)]) >= -np.finfo(np.float32).eps).all()

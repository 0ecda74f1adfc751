"""When a drain may take it that nobody sends any more."""

import pytest

from rerank_gateway.admin import Quiet


@pytest.mark.parametrize(
    ("seen", "quiet_s"),
    [
        pytest.param([(0.0, 0, 7)], 0.0, id="the first look says nothing of before"),
        pytest.param([(0.0, 0, 7), (0.1, 0, 7), (0.4, 0, 7)], 0.4, id="nothing came"),
        pytest.param([(0.0, 0, 7), (0.4, 0, 7), (0.5, 1, 7)], 0.0, id="one is under way"),
        pytest.param([(0.0, 0, 7), (0.4, 0, 7), (0.5, 0, 8)], 0.0, id="one came and went"),
        pytest.param([(0.0, 0, 7), (0.4, 0, 8), (0.7, 0, 8)], 0.3, id="and then nothing"),
        pytest.param([(0.0, 0, 7), (0.1, 0, 7), (60.0, 0, 7)], 0.6, id="the machine stood still"),
        pytest.param([(0.0, 1, 7), (60.0, 0, 8), (60.1, 0, 8)], 0.1, id="it stood still under a request"),
    ],
)
def test_quiet_is_what_was_seen_of_it(seen: list[tuple[float, int, int]], quiet_s: float) -> None:
    quiet = Quiet()
    said = [quiet.take({"active": active, "completed": completed}, now) for now, active, completed in seen]
    assert said[-1] == pytest.approx(quiet_s)

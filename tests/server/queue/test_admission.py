"""Who may wait, when to come back, how long a request has: pure decisions."""

import pytest
from hypothesis import given
from hypothesis import strategies as st

from rerank_server.admission import (
    FIRST_TOKENS_PER_CHARACTER,
    Demand,
    Estimate,
    Full,
    Limits,
    Load,
    Size,
    decide,
    default_tokens,
    retry_after,
    sampled,
)
from rerank_server.deadlines import Deadline, parse_timeout

LIMITS = Limits(large_from=100, tokens=1000, requests=4, characters=10_000)


def load(small: int = 0, large: int = 0, requests: int = 1, characters: int = 0) -> Load:
    return Load(requests, characters, {Size.SMALL: small, Size.LARGE: large})


@pytest.mark.parametrize(
    ("demand", "there", "full", "seconds"),
    [
        pytest.param(Demand(50, 200), load(), None, None, id="nothing waits"),
        pytest.param(Demand(50, 200), load(small=950), None, None, id="it just fits"),
        pytest.param(Demand(51, 200), load(small=950), Full.SMALL, 1, id="one token too many"),
        pytest.param(
            Demand(50, 200), load(large=90_000), None, None, id="large ones do not shut out a small one"
        ),
        pytest.param(
            Demand(500, 2000), load(small=1000), None, None, id="small ones do not shut out a large one"
        ),
        pytest.param(Demand(500, 2000), load(large=600), Full.LARGE, 1, id="a large one beside large ones"),
        pytest.param(
            Demand(5000, 9000),
            load(small=900),
            None,
            None,
            id="larger than the bound, when its class is empty",
        ),
        pytest.param(
            Demand(5000, 9000), load(large=100), Full.LARGE, 1, id="larger than the bound, when it is not"
        ),
        pytest.param(
            Demand(100, 9),
            load(small=1900),
            Full.SMALL,
            10,
            id="back when there is room: 1000 tokens at 100/s",
        ),
        pytest.param(Demand(5, 9), load(small=400, requests=4), Full.REQUESTS, 1, id="too many requests"),
        pytest.param(Demand(5, 900), load(5, characters=9500), Full.TEXT, 1, id="too much text"),
        pytest.param(Demand(5, 90_000), load(0, characters=0), None, None, id="much text by itself"),
    ],
)
def test_a_request_may_wait_or_not(
    demand: Demand, there: Load, full: Full | None, seconds: int | None
) -> None:
    refusal = decide(demand, there, LIMITS, tokens_per_second=100.0)
    assert (refusal and refusal.full, refusal and refusal.retry_after) == (full, seconds)


@given(st.integers(1, 10**6), st.integers(0, 10**6), st.integers(0, 10**6))
def test_what_waits_stays_within_its_bound_or_is_one_request_alone(
    tokens: int, small: int, large: int
) -> None:
    limits = Limits(large_from=1000, tokens=50_000)
    refused = decide(Demand(tokens, 0), load(small, large), limits, 1.0)
    waiting = load(small, large).tokens[limits.size(tokens)]
    assert (refused is None) == (waiting == 0 or waiting + tokens <= 50_000)
    assert refused is None or 1 <= refused.retry_after <= 60


def test_without_bounds_everything_may_wait() -> None:
    assert decide(Demand(10**9, 10**9), load(10**9, 10**9, 10**6, 10**9), Limits(16), None) is None


@pytest.mark.parametrize(
    ("tokens", "speed", "seconds"),
    [
        pytest.param(1000, None, 1, id="no speed is known"),
        pytest.param(1, 1000.0, 1, id="at least a second"),
        pytest.param(1001, 1000.0, 2, id="rounded up"),
        pytest.param(10**9, 1.0, 60, id="at most a minute"),
    ],
)
def test_retry_after_is_the_time_in_which_so_much_is_computed(
    tokens: int, speed: float | None, seconds: int
) -> None:
    assert retry_after(tokens, speed) == seconds


def test_by_default_half_a_minute_of_work_may_wait_but_never_less_than_a_few_large_requests() -> None:
    assert default_tokens(10_000.0, 1000) == 300_000
    assert default_tokens(1.0, 1000) == 4000
    assert default_tokens(None, 1000) is None


def test_an_estimate_follows_what_was_counted_and_knows_that_rows_are_cut() -> None:
    estimate = Estimate(max_length=100)
    assert estimate.tokens("", ["x" * 100]) == int(100 * FIRST_TOKENS_PER_CHARACTER)
    assert estimate.tokens("", ["x" * 10**6, ""]) == 100
    for _ in range(100):
        estimate.learn(sampled("", ["x" * 50] * 100, [50] * 100, whole_below=100))
    assert estimate.tokens("", ["x" * 90]) == pytest.approx(90, rel=0.1)
    before = estimate.tokens("", ["x" * 90])
    estimate.learn(sampled("", ["x" * 10**6], [100], whole_below=100))
    assert estimate.tokens("", ["x" * 90]) == before, "a row that was cut says nothing"


@pytest.mark.parametrize(
    ("documents", "lengths", "tokens"),
    [
        pytest.param([" " * 5_000_000], [3], 0.25, id="one document of megabytes of spaces"),
        pytest.param([" " * 900] * 10_000, [3] * 10_000, 0.15, id="ten thousand documents of spaces"),
        pytest.param(["x" * 1000] * 10_000, [1000] * 10_000, 0.65, id="as many of a token a character"),
    ],
)
def test_one_request_does_not_spoil_the_estimate_for_the_others(
    documents: list[str], lengths: list[int], tokens: float
) -> None:
    estimate = Estimate(max_length=10_000)
    estimate.learn(sampled("", documents, lengths, whole_below=10_000))
    assert estimate.tokens("", ["x" * 10_000]) == pytest.approx(10_000 * tokens, rel=0.02)


@given(st.lists(st.tuples(st.text(max_size=9), st.integers(1, 9)), max_size=20), st.integers(1, 12))
def test_only_rows_that_no_bound_can_have_cut_are_sampled(
    rows: list[tuple[str, int]], whole_below: int
) -> None:
    documents, lengths = [text for text, _ in rows], [length for _, length in rows]
    whole = [(len(text) + 1, length) for text, length in rows if length < whole_below]
    found = sampled("?", documents, lengths, whole_below)
    assert (found.characters, found.tokens) == (sum(c for c, _ in whole), sum(n for _, n in whole))


@pytest.mark.parametrize(
    ("text", "seconds"),
    [("2", 2.0), ("2.5", 2.5), (" 0.25 ", 0.25), ("3s", 3.0), ("500ms", 0.5), ("500 ms", 0.5)],
)
def test_a_timeout_is_a_number_of_seconds_or_says_its_unit(text: str, seconds: float) -> None:
    assert parse_timeout(text) == seconds


@pytest.mark.parametrize(
    "text", ["", "0", "-1", "nan", "inf", "1e3", "1,5", "2 minutes", "٣", "ms", "1" * 10]
)
def test_any_other_timeout_is_refused_with_a_sentence(text: str) -> None:
    with pytest.raises(ValueError, match=r"The header X-Request-Timeout is .*such as `2\.5` or `500ms`"):
        parse_timeout(text)


def test_a_caller_may_ask_for_less_time_and_not_for_more() -> None:
    deadlines = [Deadline.of(header, 60.0, began=100.0) for header in (None, "5", "600")]
    assert [deadline.seconds for deadline in deadlines] == [60.0, 5.0, 60.0]
    assert [deadlines[1].left(now) for now in (100.0, 104.0, 200.0)] == [5.0, 1.0, 0.0]

"""Who of several operators acts."""

from rerank_operator.leader import ANSWER_S, LEASE_S, RENEW_S, RETRY_S


def test_a_leader_that_cannot_renew_has_stopped_before_another_takes_over() -> None:
    until_it_has_stopped = RETRY_S + RENEW_S + ANSWER_S + RETRY_S
    assert until_it_has_stopped < LEASE_S

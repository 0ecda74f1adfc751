"""What one entry of Envoy's access log says: whether it is the last, and whether it counts."""

import pytest
from envoy.data.accesslog.v3 import accesslog_pb2
from google.protobuf.duration_pb2 import Duration

from rerank_gateway.access_logs import use_of
from rerank_gateway.metering import Use

END, STILL = accesslog_pb2.DownstreamEnd, accesslog_pb2.DownstreamPeriodic


@pytest.mark.parametrize("told", [float("inf"), float("nan"), 1e19, -1.0])
def test_what_a_server_cannot_have_counted_counts_nothing(told):
    assert use_of(entry(END, 0.02, tokens=told)).tokens == 0


def entry(kind, duration_s, details="via_upstream", action="owes_nothing", tokens=7):
    made = accesslog_pb2.HTTPAccessLogEntry()
    common = made.common_properties
    common.access_log_type = kind
    common.duration.CopyFrom(Duration(nanos=round(duration_s % 1 * 1e9), seconds=int(duration_s)))
    refusals = common.metadata.filter_metadata["envoy.filters.http.rbac"].fields
    refusals["keys_enforced_effective_policy_id"].string_value = "app"
    refusals["debts_enforced_effective_policy_id"].string_value = action
    common.metadata.filter_metadata["rerank.usage"].fields["tokens"].number_value = tokens
    made.response.response_code.value = 200
    made.response.response_code_details = details
    return made


@pytest.mark.parametrize(
    ("told", "ended", "counts", "tokens"),
    [
        pytest.param(entry(END, 0.02), True, True, 7, id="a quick one"),
        pytest.param(entry(STILL, 0.501), False, True, 0, id="the first word of a long one"),
        pytest.param(entry(STILL, 0.82), False, True, 0, id="the first word, late"),
        pytest.param(entry(STILL, 1.002), False, False, 0, id="the second"),
        pytest.param(entry(STILL, 0.98), False, False, 0, id="the second, a little early"),
        pytest.param(entry(END, 1.3), True, False, 7, id="the last"),
        pytest.param(entry(END, 0.001, "local_rate_limited"), True, False, 7, id="refused by Envoy"),
        pytest.param(
            entry(END, 0.001, "rbac_access_denied", "owes_requests_17_600"),
            True,
            False,
            7,
            id="owes requests",
        ),
        pytest.param(
            entry(END, 0.001, "rbac_access_denied", "owes_tokens_17_600"), True, False, 7, id="owes tokens"
        ),
    ],
)
def test_each_request_that_no_limit_refused_counts_once(told, ended, counts, tokens):
    assert use_of(told) == Use("app", "", 200, tokens=tokens, ended=ended, counts=counts)

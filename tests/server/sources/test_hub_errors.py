import errno
import os

import httpx2
import pytest
from huggingface_hub.errors import HfHubHTTPError, LocalEntryNotFoundError

from rerank_server.sources.hub_errors import HubRequest, explain
from rerank_server.sources.interface import SourceError
from rerank_server.sources.patience import Patience

REQUEST = HubRequest("acme/reranker", "main", "https://hub.example.org", "hf_secret")


def system_error(number, path=None):
    return OSError(number, os.strerror(number), path)


def answer(status):
    asked = httpx2.Request("GET", "https://hub.example.org/api/models/acme/reranker?signature=signed")
    return HfHubHTTPError(
        f"Error {status} for {asked.url}", response=httpx2.Response(status, request=asked, json={})
    )


def wrapped(cause):
    error = LocalEntryNotFoundError("not in the cache")
    error.__cause__ = cause
    return error


@pytest.mark.parametrize(
    ("error", "words", "transient"),
    [
        pytest.param(system_error(errno.ENOSPC, "/cache/x"), "The disk is full", False, id="no space"),
        pytest.param(system_error(errno.EDQUOT), "The disk is full", False, id="no quota"),
        pytest.param(
            system_error(errno.EROFS, "/cache"), "The cache cannot be written", False, id="read-only"
        ),
        pytest.param(system_error(errno.EACCES, "/cache"), "--cache-dir", False, id="not allowed"),
        pytest.param(OSError("Consistency check failed: 5"), "broke off", True, id="short file"),
        pytest.param(system_error(errno.EIO), "broke off", True, id="broken disk"),
        pytest.param(RuntimeError("xet: no"), "HF_HUB_DISABLE_XET=1", True, id="the transfer library"),
        pytest.param(httpx2.ConnectTimeout("timed out"), "cannot be reached (timed out)", True, id="timeout"),
        pytest.param(httpx2.ProxyError("407"), "HTTPS_PROXY", True, id="proxy"),
        pytest.param(ValueError("Expecting value"), "does not answer as a model hub", True, id="no JSON"),
        pytest.param(wrapped(answer(503)), "answered 503", True, id="inside huggingface_hub's wrapper"),
        pytest.param(wrapped(None), "does not answer as a model hub", True, id="an empty wrapper"),
        pytest.param(answer(418), "answered 418", False, id="a status that means nothing here"),
        pytest.param(answer(403), "the given token does not open it", False, id="forbidden"),
        pytest.param(answer(404), "no such page or file", False, id="not found"),
    ],
)
def test_every_failure_is_a_sentence_with_a_remedy(error, words, transient):
    told = explain(error, REQUEST)
    assert words in str(told)
    assert str(told).endswith(".")
    assert told.transient is transient
    assert "hf_secret" not in str(told) + repr(REQUEST)
    assert "signature" not in str(told)


@pytest.mark.parametrize(
    ("failures", "tries"),
    [
        pytest.param([], 1, id="at once"),
        pytest.param([SourceError("busy", transient=True)] * 2, 3, id="after two that pass"),
        pytest.param([SourceError("busy", transient=True)] * 9, 3, id="never, and it gives up"),
        pytest.param([SourceError("wrong")], 1, id="not worth another try"),
        pytest.param([SourceError("busy", transient=True, retry_after=99)], 1, id="asked to wait too long"),
    ],
)
def test_patience_is_bounded(failures, tries):
    left, made = list(failures), []

    def work():
        made.append(1)
        if left:
            raise left.pop()
        return "done"

    patience = Patience(pauses=(0.0, 0.0), longest=10)
    if len(failures) >= tries:
        with pytest.raises(SourceError):
            patience.retrying(work)
    else:
        assert patience.retrying(work) == "done"
    assert len(made) == tries

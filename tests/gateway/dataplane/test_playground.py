"""The playground's files as a browser gets them: through the real Envoy, from the real agent."""

import re
import signal
from collections.abc import Callable
from contextlib import AbstractContextManager, ExitStack, closing
from importlib import resources
from typing import Any

import pytest

from rerank_gateway import bootstrap
from rerank_gateway.bounds import RETRY_AFTER_S
from rerank_gateway.paths import PLAYGROUND_FILES

TYPES = {
    "css": "text/css; charset=utf-8",
    "html": "text/html; charset=utf-8",
    "js": "text/javascript; charset=utf-8",
    "svg": "image/svg+xml",
}
PACKAGED = resources.files("rerank_gateway") / "playground"


def test_every_packaged_file_has_its_path_and_no_path_lacks_its_file() -> None:
    assert sorted(PLAYGROUND_FILES.values()) == sorted(file.name for file in PACKAGED.iterdir())


@pytest.mark.parametrize(("path", "name"), PLAYGROUND_FILES.items())
def test_a_file_comes_whole_with_its_type_and_closed_to_everything_foreign(
    caller: Any, path: str, name: str
) -> None:
    reply = caller.ask("GET", path)
    assert (reply.status, reply.body) == (200, (PACKAGED / name).read_bytes())
    assert reply.headers.get_all("content-type") == [TYPES[name.rpartition(".")[2]]]
    assert reply.headers["cache-control"] == "no-cache"
    assert reply.headers["x-content-type-options"] == "nosniff"
    assert reply.headers["referrer-policy"] == "no-referrer"
    policy = dict(rule.partition(" ")[::2] for rule in reply.headers["content-security-policy"].split("; "))
    assert policy["default-src"] == policy["frame-ancestors"] == policy["base-uri"] == "'none'"
    assert policy["form-action"] == "'none'"
    assert {policy[kind] for kind in ("script-src", "style-src", "img-src", "connect-src")} == {"'self'"}


def test_the_page_asks_for_what_is_served_and_for_nothing_from_elsewhere() -> None:
    page = (PACKAGED / "index.html").read_text(encoding="utf-8")
    wanted = set(re.findall(r'(?:src|href)="([^"]*)"', page))
    for name in PLAYGROUND_FILES.values():
        if name.endswith(".js"):
            source = (PACKAGED / name).read_text(encoding="utf-8")
            wanted |= {f"playground/{each}" for each in re.findall(r'from "\./([^"]*)"', source)}
    assert {f"/{path}" for path in wanted} == set(PLAYGROUND_FILES) - {"/"}
    assert " style=" not in page
    assert not re.search(r"<style|\son\w+=|<script(?![^>]*src=)", page)


@pytest.mark.parametrize(
    "path", ["/?a=b", "/.", "//playground//main.js", "/playground/.././", "/playground/main.js?v=1"]
)
def test_another_spelling_of_a_path_is_the_same_file(caller: Any, path: str) -> None:
    assert caller.ask("GET", path).status == 200


def test_a_browser_that_has_the_file_is_not_sent_it_again(caller: Any) -> None:
    first = caller.ask("GET", "/")
    for known in (first.headers["etag"], f'"other", W/{first.headers["etag"]}'):
        again = caller.ask("GET", "/", headers=(("if-none-match", known),))
        assert (again.status, again.body) == (304, b"")
        assert again.headers["etag"] == first.headers["etag"]
        assert again.headers["content-security-policy"] == first.headers["content-security-policy"]
    assert caller.ask("GET", "/", headers=(("if-none-match", '"other"'),)).status == 200


@pytest.mark.parametrize("path", ["/", "/playground/main.js"])
@pytest.mark.parametrize("method", ["POST", "PUT", "DELETE", "OPTIONS"])
def test_only_get_is_answered(caller: Any, method: str, path: str) -> None:
    reply = caller.ask(method, path)
    assert (reply.status, reply.error["code"], reply.headers["allow"]) == (405, "method_not_allowed", "GET")


def test_the_head_of_the_page_is_refused_as_another_method(gateway: Any, request_head: Any) -> None:
    with gateway.caller.connect() as connection:
        connection.sendall(request_head("HEAD", "/"))
        assert gateway.caller.read(connection, "HEAD").status == 405


@pytest.mark.parametrize(
    "path",
    [
        "/playground",
        "/playground/",
        "/playground/index.html",
        "/playground/main.js/",
        "/playground/../listing.py",
        "/playground/..%2flisting.py",
        "/playground%2Fmain.js",
        "/playground/none.js",
        "/index.html",
        "/favicon.ico",
        "/main.js",
    ],
)
def test_nothing_beside_the_files_is_there(caller: Any, path: str) -> None:
    reply = caller.ask("GET", path)
    assert (reply.status, reply.error["code"]) == (404, "not_found")


def test_the_page_of_a_gateway_whose_agent_is_away_says_to_come_back(
    gateway_parts: Any, wait_for: Callable[..., Any]
) -> None:
    _, run_agent, run_envoy = gateway_parts
    with run_envoy() as caller:
        with run_agent():
            wait_for(lambda: caller.ask("GET", "/").status == 200)
        for path in ("/", "/?a", "/playground/main.js"):
            away = caller.ask("GET", path)
            assert (away.status, away.error["code"]) == (503, "gateway_starting")


def test_who_asks_for_the_page_all_the_time_keeps_the_agent_from_nothing_else(
    keyed_gateway: Callable[..., AbstractContextManager[Any]],
    request_head: Callable[..., bytes],
    wait_for: Callable[[Callable[[], bool]], None],
) -> None:
    """The agent stands still meanwhile, so that nothing depends on how quick it is."""
    limits = bootstrap._PAGE_LIMITS
    at_once, waiting = limits["max_connections"], limits["max_pending_requests"]
    with keyed_gateway() as gateway, ExitStack() as connections:

        def active(cluster: str) -> int:
            stats = gateway.administration(f"/stats?filter=^cluster.{cluster}.upstream_rq_active$")
            return int(stats.rpartition(": ")[2])

        gateway.agent.send_signal(signal.SIGSTOP)
        asking = []

        def ask() -> None:
            asking.append(connections.enter_context(closing(gateway.caller.connect())))
            asking[-1].sendall(request_head("GET", "/"))

        # A request that has no connection yet waits too: the rest come when the first ones have theirs.
        for _ in range(at_once):
            ask()
        wait_for(lambda: active("page") == at_once)
        for _ in range(waiting):
            ask()
        wait_for(lambda: active_requests(gateway) == at_once + waiting)
        refused = gateway.caller.ask("GET", "/playground/main.js")
        assert (refused.status, refused.error["code"]) == (429, "overloaded")
        assert refused.headers["retry-after"] == str(RETRY_AFTER_S)
        gateway.agent.send_signal(signal.SIGCONT)
        assert {gateway.caller.read(each, "GET").status for each in asking} == {200}


def active_requests(gateway: Any) -> int:
    stats = gateway.administration("/stats?filter=^http.gateway.downstream_rq_active$")
    return int(stats.rpartition(": ")[2])

"""The playground in a real browser before a real gateway."""

import json
import os
import subprocess
import sys
from pathlib import Path
from typing import Any

import pytest

from rerank_api.status import ModelState
from tests.browser.chromium import CONTROL, SHIFT, Browser, Page

KEY = "sk-TheSecretOfThisTab"
PANDA = (
    "The giant panda (Ailuropoda melanoleuca), sometimes called a panda bear or simply panda, "
    "is a bear species endemic to China."
)
RANKED = "document.querySelectorAll('#ranking li').length"
SCREENSHOT = "PLAYGROUND_SCREENSHOT"
"""The environment variable that names a file for a picture of the example's ranking."""


def rank(page: Page) -> None:
    """Click on Rank, and wait for an answer or a refusal."""
    page.run("document.getElementById('rank').click()")
    page.wait("document.getElementById('ranking').ariaBusy === 'false'")


def put(page: Page, element: str, text: str) -> None:
    """Put a text into a field, as by pasting."""
    page.run(f"document.getElementById({json.dumps(element)}).focus()")
    page.write(text)


def results(page: Page) -> list[dict[str, Any]]:
    """Return what is shown of each result, the bar's length as a share of its track."""
    return list(
        page.run(
            """[...document.querySelectorAll('#ranking li')].map((item) => ({
                score: item.querySelector('.score').textContent,
                place: item.querySelector('.place').textContent,
                text: item.querySelector('p.document').textContent,
                bar: item.querySelector('.bar div').getBoundingClientRect().width
                   / item.querySelector('.bar').getBoundingClientRect().width,
            }))"""
        )
    )


def opened(page: Page, url: str) -> Page:
    """Open the page, and wait until its models are there."""
    page.open(url)
    page.wait("document.getElementById('model').value")
    return page


def answering(**answer: Any) -> str:
    """Return the query that the stage's server answers so."""
    return "Answer: " + json.dumps(answer)


def scored(*scores: float) -> str:
    return answering(results=[{"index": i, "relevance_score": score} for i, score in enumerate(scores)])


def test_the_example_ranks_the_giant_panda_first_with_three_bars(page: Page, quickstart: str) -> None:
    opened(page, quickstart)
    assert page.text("state") == "Ready: embedding on cpu"
    assert page.text("count").startswith("3 documents;")
    rank(page)
    shown = results(page)
    assert [(each["place"], each["text"]) for each in shown] == [
        ("index 2", PANDA),
        ("index 1", "it is a bear"),
        ("index 0", "hi"),
    ]
    scores = [float(each["score"].removeprefix("Score ")) for each in shown]
    assert scores == sorted(scores, reverse=True)
    assert [each["bar"] for each in shown] == pytest.approx(scores, abs=0.01)
    summary = page.text("summary")
    assert summary.startswith("3 of 3 documents ranked by all-minilm-l6-v2 in ")
    assert " ms, as seen from this tab, 48 tokens. Best: index 2, score 0." in summary
    assert page.text("scale") == "Bars run from 0 to 1."
    if wanted := os.environ.get(SCREENSHOT):
        page.screenshot(Path(wanted))


def test_what_is_known_of_the_model_is_shown_beside_its_state(page: Page, quickstart: str) -> None:
    opened(page, quickstart)
    facts = page.run(
        "[...document.getElementById('facts').querySelectorAll('dt, dd')].map((each) => each.textContent)"
    )
    assert [text.rstrip(":") for text in facts] == [
        *("Family", "embedding"),
        *("Longest input, in tokens", "256"),
        *("Scale of scores", "cosine"),
    ]


def test_top_n_keeps_the_best(page: Page, quickstart: str) -> None:
    opened(page, quickstart)
    put(page, "top-n", "1")
    rank(page)
    assert [each["text"] for each in results(page)] == [PANDA]
    assert page.text("summary").startswith("1 of 3 documents ranked")


@pytest.mark.parametrize(
    ("field", "text", "code", "param"),
    [
        pytest.param("query", "", "422 invalid_value", "query", id="no query"),
        pytest.param("documents", " \n ", "422 invalid_value", "documents", id="no documents"),
        pytest.param("top-n", "0", "422 invalid_value", "top_n", id="none of the best"),
    ],
)
def test_what_the_api_refuses_is_said_in_its_words_at_the_field(
    page: Page, quickstart: str, field: str, text: str, code: str, param: str
) -> None:
    opened(page, quickstart)
    rank(page)
    put(page, field, text)
    rank(page)
    said = page.text("problem")
    assert said.startswith(f"{code}: ")
    assert said.endswith(f"Field: {param}")
    assert results(page) == []
    assert [node["role"] for node in page.accessible()].count("alert") == 1
    assert page.run(f"document.getElementById({json.dumps(field)}).ariaInvalid") == "true"
    put(page, field, "1")
    rank(page)
    assert page.text("problem") == ""
    assert page.run("document.querySelector('[aria-invalid]')") is None
    assert len(results(page)) == {"query": 3, "documents": 1, "top-n": 1}[field]


@pytest.mark.parametrize("more", ["", "\n" + 50_000 * "雪 "], ids=["short", "longer than an argument may be"])
@pytest.mark.parametrize("button", ["copy-curl", "copy-python"])
def test_what_is_copied_runs_elsewhere_and_names_the_key_only(
    page: Page, quickstart: str, button: str, more: str
) -> None:
    opened(page, quickstart)
    put(page, "key", KEY)
    put(page, "documents", page.run("document.getElementById('documents').value") + more)
    put(page, "query", 'What\'s a "panda"? $HOME `id` \\ 大熊猫')
    page.run(f"document.getElementById({json.dumps(button)}).click()")
    page.wait("document.getElementById('copied').textContent")
    assert page.text("copied").startswith("Copied as ")
    copied = page.run("navigator.clipboard.readText()")
    assert copied == page.run("document.getElementById('snippet').value")
    assert (KEY not in copied, "RERANK_API_KEY" in copied, quickstart in copied) == (True, True, True)
    command = ["sh"] if button == "copy-curl" else [sys.executable, "-"]
    environment = {**os.environ, "RERANK_API_KEY": KEY, "NO_PROXY": "127.0.0.1", "no_proxy": "127.0.0.1"}
    done = subprocess.run(
        command, input=copied, capture_output=True, text=True, env=environment, timeout=120, check=True
    )
    if button == "copy-python":
        assert done.stdout.splitlines()[0].endswith(PANDA)
    else:
        assert json.loads(done.stdout)["results"][0]["index"] == 2


def test_nothing_copied_asks_for_a_key_that_was_not_given(page: Page, stage: Any) -> None:
    opened(page, stage.url)
    for button in ("copy-curl", "copy-python"):
        page.run(f"document.getElementById({json.dumps(button)}).click()")
        page.wait("document.getElementById('copied').textContent")
        assert "RERANK_API_KEY" not in page.run("document.getElementById('snippet').value")


def test_where_the_browser_lets_nothing_be_copied_it_is_selected(page: Page, stage: Any) -> None:
    opened(page, stage.url)
    page.run("delete Navigator.prototype.clipboard")
    page.run("document.getElementById('copy-curl').click()")
    page.wait("document.getElementById('copied').textContent")
    assert "press Ctrl+C" in page.text("copied")
    assert page.focused() == "snippet"
    assert page.run("getSelection().toString()").startswith(f"curl '{stage.url}/v1/rerank'")


def test_the_keyboard_alone_does_it_all(page: Page, stage: Any) -> None:
    stage.publish(stage.model("first"), stage.model("second"))
    opened(page, stage.url)
    order = []
    for _ in range(9):
        page.press("Tab")
        order.append(page.focused())
        outline = page.run("getComputedStyle(document.activeElement).outlineStyle")
        assert outline == "solid", f"{order[-1]} does not show that it has the focus"
    assert order == [
        *("model", "key", "query", "documents", "line"),  # of radio buttons, the one that is checked
        *("top-n", "rank", "copy-curl", "copy-python"),
    ]
    for _ in range(8):
        page.press("Tab", SHIFT)
    assert page.focused() == "model"
    page.press("ArrowDown")
    page.wait("document.getElementById('model').value === 'second'")
    page.tab_to("query")
    page.write("a question")
    page.tab_to("documents")
    page.write("one\nand more\n\ntwo\n\n\nthree")
    page.tab_to("line")
    page.press("ArrowRight")
    page.wait("document.getElementById('count').textContent.startsWith('3 documents')")
    page.tab_to("top-n")
    page.write("2")
    page.tab_to("rank")
    page.press("Enter")
    page.wait(f"{RANKED} === 3")
    assert [each["text"] for each in results(page)] == ["one\nand more", "two", "three"]
    assert "ranked by second" in page.text("summary")
    assert page.focused() == "rank"
    page.press("Tab")
    page.press("Space")
    page.wait("document.getElementById('copied').textContent === 'Copied as curl.'")
    page.press("Tab", SHIFT)
    page.press("Tab", SHIFT)
    page.press("Tab", SHIFT)
    page.press("Tab", SHIFT)
    assert page.focused() == "documents"
    page.write("only one")
    page.press("Enter", CONTROL)
    page.wait(f"{RANKED} === 1")


def test_everything_has_a_role_and_a_name(page: Page, stage: Any) -> None:
    opened(page, stage.url)
    rank(page)
    nodes = page.accessible()
    named = {(node["role"], node["name"]) for node in nodes}
    assert {
        ("heading", "Rerank playground"),
        ("form", "Request"),
        ("combobox", "Model"),
        ("textbox", "API key"),
        ("textbox", "Query"),
        ("textbox", "Documents"),
        ("group", "A document is"),
        ("radio", "a line"),
        ("radio", "a paragraph, up to a blank line"),
        ("spinbutton", "Keep the best (top_n, optional)"),
        ("button", "Rank"),
        ("button", "Copy as curl"),
        ("button", "Copy as Python"),
        ("region", "Ranking"),
        ("list", "Ranking"),
    } <= named
    told = [node for node in nodes if node["role"] == "status"]
    assert {node["live"] for node in told} == {"polite"}
    assert len([node for node in nodes if node["role"] == "listitem"]) == 3
    interactive = {"button", "combobox", "textbox", "radio", "spinbutton"}
    assert [node for node in nodes if node["role"] in interactive and not node["name"]] == []
    described = {node["name"]: node["description"] for node in nodes if node["role"] in interactive}
    assert described["Model"] == "Ready: It answers."
    assert described["Documents"].startswith("3 documents;")


@pytest.mark.parametrize(
    ("scores", "shown", "bars", "scale"),
    [
        pytest.param(
            (4.5, 0.25, -11.0625),
            ("4.5000", "0.2500", "-11.0625"),
            (1, 0.732, 0.02),
            "Bars run from -11.0625, the lowest score, to 4.5000, the highest.",
            id="logits",
        ),
        pytest.param(
            (-1.5, -3.5),
            ("-1.5000", "-3.5000"),
            (1, 0.02),
            "Bars run from -3.5000, the lowest score, to -1.5000, the highest.",
            id="all negative",
        ),
        pytest.param(
            (-2, -2),
            ("-2.0000", "-2.0000"),
            (1, 1),
            "Bars run from -2.0000, the lowest score, to -2.0000, the highest.",
            id="equal",
        ),
        pytest.param(
            (1, 0.5, 0.0000123),
            ("1.0000", "0.5000", "1.23e-5"),
            (1, 0.5, 0),
            "Bars run from 0 to 1.",
            id="shares",
        ),
        pytest.param((), (), (), "", id="none"),
    ],
)
def test_bars_suit_the_scores_and_the_numbers_are_there(
    page: Page,
    stage: Any,
    scores: tuple[float, ...],
    shown: tuple[str, ...],
    bars: tuple[float, ...],
    scale: str,
) -> None:
    opened(page, stage.url)
    put(page, "query", scored(*scores))
    rank(page)
    seen = results(page)
    assert tuple(each["score"] for each in seen) == tuple(f"Score {number}" for number in shown)
    assert [each["bar"] for each in seen] == pytest.approx(bars, abs=0.01)
    assert page.text("scale") == scale
    assert page.text("problem") == ""


@pytest.mark.parametrize(
    ("query", "said"),
    [
        pytest.param(
            answering(status=401, error={"message": "The key is unknown.", "code": "invalid_api_key"}),
            "401 invalid_api_key: The key is unknown.",
            id="an unknown key",
        ),
        pytest.param(answering(status=502), "502: What answered is not the gateway", id="no error body"),
        pytest.param(answering(), "An answer that is no ranking: ", id="no results"),
        pytest.param(
            answering(results=[{"index": 3, "relevance_score": 1}]),
            "An answer that is no ranking",
            id="an index too far",
        ),
        pytest.param(
            answering(results=[{"index": "length", "relevance_score": 1}]),
            "An answer that is no ranking",
            id="an index that is none",
        ),
    ],
)
def test_other_failures_are_said_in_words(page: Page, stage: Any, query: str, said: str) -> None:
    opened(page, stage.url)
    put(page, "query", query)
    rank(page)
    assert page.text("problem").startswith(said)
    assert page.text("summary") == "Not ranked."


def test_a_model_without_a_replica_and_a_gateway_out_of_reach_are_told_apart(page: Page, stage: Any) -> None:
    stage.publish(stage.model(state=ModelState.IDLE, message="Scaled to zero."))
    opened(page, stage.url)
    rank(page)
    assert page.text("problem").startswith("503 model_not_ready: The model `stage` has no ready replica")
    assert page.text("problem").endswith("Try again in 2 s.")
    page.call(
        "Network.emulateNetworkConditions",
        offline=True,
        latency=0,
        downloadThroughput=-1,
        uploadThroughput=-1,
    )
    rank(page)
    assert page.text("problem").startswith("No answer: The gateway could not be reached")


def test_texts_are_never_markup(page: Page, stage: Any) -> None:
    evil = "<img src=x onerror=\"document.title='hit'\"><script>document.title='hit'</script>"
    stage.publish(stage.model(message=evil))
    opened(page, stage.url)
    long = evil + "🐼" * 700
    put(page, "documents", f"{evil}\n{long}")
    rank(page)
    assert [each["text"] for each in results(page)] == [evil, long]
    assert page.run("document.querySelectorAll('img, #ranking script, #state script').length") == 0
    assert page.text("state") == f"Ready: {evil}"
    put(page, "query", answering(status=400, error={"message": evil, "code": evil, "param": evil}))
    rank(page)
    assert evil in page.text("problem")
    assert page.run("document.title") == "Rerank playground"


def test_markup_could_not_be_made_of_a_text_even_by_mistake(browser: Browser, stage: Any) -> None:
    page = browser.page()
    opened(page, stage.url)
    with pytest.raises(RuntimeError, match="TrustedHTML"):
        page.run("document.body.innerHTML = '<b>x</b>'")
    page.run(
        "document.body.append(Object.assign(document.createElement('style'), {textContent: '* {top: 0}'}))"
    )
    assert any("style-src 'self'" in each for each in page.complaints())
    page.close()


def test_a_models_state_is_shown_and_followed(page: Page, stage: Any) -> None:
    stage.publish(
        stage.model("broken", ModelState.FAILED, "No such repository."),
        stage.model("coming", ModelState.LOADING, "Reading weights.", 0.43),
        stage.model("resting", ModelState.IDLE, "Scaled to zero."),
        stage.model("here"),
    )
    opened(page, stage.url)
    listed = page.run("[...document.getElementById('model').options].map((option) => option.text)")
    assert listed == ["broken (Failed)", "coming (Loading 43 %)", "here (Ready)", "resting (Idle)"]
    assert page.run("document.getElementById('model').value") == "here"
    assert page.run("document.getElementById('facts').hidden") is True
    for name, state in (
        ("broken", "Failed: No such repository."),
        ("resting", "Idle: Scaled to zero."),
        ("coming", "Loading 43 %: Reading weights."),
    ):
        page.run(
            f"(document.getElementById('model').value = '{name}',"
            " document.getElementById('model').dispatchEvent(new Event('change')))"
        )
        assert page.text("state") == state
        assert page.run("document.getElementById('progress').hidden") is (name != "coming")
    stage.publish(stage.model("coming"), stage.model("here"))
    page.wait("document.getElementById('state').textContent === 'Ready: It answers.'")
    assert page.run("document.getElementById('model').value") == "coming"
    assert page.text("turned") == "coming is Ready now."
    stage.publish(stage.model("here"))
    page.wait("document.getElementById('model').value === 'here'")
    assert page.text("turned") == "coming is not there any more: here is picked now."


def test_a_gateway_without_models_says_so_until_there_is_one(page: Page, stage: Any) -> None:
    stage.publish()
    page.open(stage.url)
    page.wait("document.getElementById('state').textContent.startsWith('There are no models here yet')")
    stage.publish(stage.model())
    page.wait("document.getElementById('model').value === 'stage'")


def test_the_key_reaches_the_api_and_stays_nowhere(page: Page, stage: Any) -> None:
    opened(page, stage.url)
    rank(page)
    put(page, "key", KEY)
    rank(page)
    assert stage.keys == [None, f"Bearer {KEY}"]
    for button in ("copy-curl", "copy-python"):
        page.run(f"document.getElementById({json.dumps(button)}).click()")
        page.wait("document.getElementById('copied').textContent")
        assert KEY not in page.run("navigator.clipboard.readText()")
    assert page.run("location.href") == f"{stage.url}/"
    assert page.run("[localStorage.length, sessionStorage.length, document.cookie]") == [0, 0, ""]
    assert page.run("indexedDB.databases().then((all) => all.length)") == 0
    assert page.run("caches.keys().then((all) => all.length)") == 0
    assert KEY not in page.run("document.documentElement.outerHTML")
    assert [request["url"] for request in page.requests() if KEY in request["url"]] == []
    assert page.run(
        "(({type, autocomplete, name}) => ({type, autocomplete, name}))(document.getElementById('key'))"
    ) == {"type": "password", "autocomplete": "off", "name": ""}
    page.call("Page.reload")
    page.wait("document.getElementById('model')?.value && document.getElementById('key').value === ''")


def test_a_key_that_no_header_can_carry_is_told_apart(page: Page, stage: Any) -> None:
    opened(page, stage.url)
    put(page, "key", "ключ")
    rank(page)
    assert page.text("problem").startswith("The API key: ")
    assert stage.keys == []


def test_no_request_leaves_the_origin(page: Page, stage: Any) -> None:
    opened(page, stage.url)
    rank(page)
    page.run("document.getElementById('copy-python').click()")
    page.wait("document.getElementById('copied').textContent")
    asked = [request["url"] for request in page.requests()]
    assert f"{stage.url}/v1/rerank" in asked
    assert [url for url in asked if not url.startswith(f"{stage.url}/")] == []


CONTRASTS = """
(() => {
  const parse = (color) => color.match(/[\\d.]+/g).map(Number);
  const luminance = ([r, g, b]) => [r, g, b].map((c) => c / 255)
    .map((c) => c <= 0.04045 ? c / 12.92 : ((c + 0.055) / 1.055) ** 2.4)
    .reduce((sum, c, at) => sum + c * [0.2126, 0.7152, 0.0722][at], 0);
  const ground = (element) => {
    for (let each = element; each; each = each.parentElement) {
      const color = parse(getComputedStyle(each).backgroundColor);
      if (color.length === 3 || color[3] === 1) return color;
    }
    throw new Error("no background");
  };
  const found = [];
  for (const element of document.body.querySelectorAll("*")) {
    const says = [...element.childNodes].some((node) => node.nodeType === 3 && node.textContent.trim())
      || ["INPUT", "TEXTAREA", "SELECT"].includes(element.tagName);
    if (!says || !element.checkVisibility() || element.tagName === "OPTION") continue;
    const [one, other] = [parse(getComputedStyle(element).color), ground(element)].map(luminance);
    const ratio = (Math.max(one, other) + 0.05) / (Math.min(one, other) + 0.05);
    found.push([element.cloneNode().outerHTML, ratio]);
  }
  return found;
})()
"""


@pytest.mark.parametrize("scheme", ["light", "dark"])
def test_every_text_has_a_contrast_of_at_least_4_5(page: Page, stage: Any, scheme: str) -> None:
    page.emulate(scheme)
    for state in (ModelState.READY, ModelState.LOADING, ModelState.IDLE, ModelState.FAILED):
        stage.publish(stage.model(state=state))
        opened(page, stage.url)
        rank(page)
        contrasts = page.run(CONTRASTS)
        assert len(contrasts) > 20
        assert [each for each in contrasts if each[1] < 4.5] == []


def test_dark_and_light_follow_what_the_user_prefers(page: Page, stage: Any) -> None:
    opened(page, stage.url)
    ground = "getComputedStyle(document.body).backgroundColor"
    light = page.run(ground)
    page.emulate("dark")
    assert (light, page.run(ground)) == ("rgb(255, 255, 255)", "rgb(18, 19, 22)")


@pytest.mark.parametrize("width", [360, 800, 1200])
def test_nothing_is_cut_off_at_any_width(page: Page, stage: Any, width: int) -> None:
    page.resize(width, 800)
    name = "an/organisation-with-a-very-long-name/and-a-model-with-a-name-that-is-no-shorter-v2-m3"
    stage.publish(stage.model(name, message="x" * 300))
    opened(page, stage.url)
    put(page, "key", KEY)
    put(page, "documents", f"short\n{'long' * 100}")
    rank(page)
    assert page.run("0 <= document.getElementById('summary').getBoundingClientRect().top")
    assert page.run("document.getElementById('summary').getBoundingClientRect().bottom < innerHeight")
    page.run("document.getElementById('copy-curl').click()")
    page.wait("document.getElementById('copied').textContent")
    assert page.run("document.documentElement.scrollWidth") <= width
    outside = page.run(
        "[...document.body.querySelectorAll('*')].filter((each) => each.checkVisibility()"
        " && each.getBoundingClientRect().right > innerWidth + 0.5).map((each) => each.outerHTML)"
    )
    assert outside == []


def test_below_a_prefix_of_a_proxy_it_stays_below(page: Page, below_a_prefix: str) -> None:
    opened(page, below_a_prefix)
    rank(page)
    assert len(results(page)) == 3
    page.run("document.getElementById('copy-curl').click()")
    page.wait("document.getElementById('copied').textContent")
    assert page.run("document.getElementById('snippet').value").startswith(
        f"curl '{below_a_prefix}v1/rerank'"
    )


@pytest.mark.parametrize(
    ("text", "separator", "documents"),
    [
        pytest.param("a\nb\n", "line", ["a", "b"], id="lines"),
        pytest.param("\n a \n\n\t\nb\r\nc", "line", ["a", "b", "c"], id="empty lines"),
        pytest.param("a\nb\n\nc", "blank", ["a\nb", "c"], id="paragraphs"),
        pytest.param("\n\na\n \t \n\nb\n", "blank", ["a", "b"], id="blank lines of spaces"),
        pytest.param("a\r\nb\r\n\r\nc", "blank", ["a\r\nb", "c"], id="other line ends"),
        pytest.param(" \n ", "line", [], id="nothing"),
        pytest.param(" \n \n ", "blank", [], id="no paragraph"),
    ],
)
def test_a_text_is_cut_into_documents(
    page: Page, stage: Any, text: str, separator: str, documents: list[str]
) -> None:
    page.open(stage.url)
    cut = f"module.split({json.dumps(text)}, {json.dumps(separator)})"
    assert page.run(f"import('/playground/request.js').then((module) => {cut})") == documents

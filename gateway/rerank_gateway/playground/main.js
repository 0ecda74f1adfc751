// The page: what its fields and buttons do. The key lives in its field alone: in this tab's memory, nowhere else.

import { Problem, base, models, rerank } from "./api.js";
import { describe, isUnderWay, list } from "./models.js";
import { show, summary } from "./ranking.js";
import { curl, python, split } from "./request.js";

const SOON_MS = 2_000;
const LATER_MS = 10_000;

const at = (id) => document.getElementById(id);
const key = () => at("key").value.trim();

// --- what is asked

function documents() {
  return split(at("documents").value, document.querySelector("input[name=separator]:checked").value);
}

/** The body of the request. What is wrong with it, the API says; only what no JSON can hold is told here. */
function body() {
  const made = { model: at("model").value, query: at("query").value.trim(), documents: documents() };
  const topN = at("top-n");
  if (topN.validity.badInput) throw new Problem("top_n", "It must be a whole number, or empty for all.", { field: "top_n" });
  if (topN.value !== "") made.top_n = Number(topN.value);
  return made;
}

function count() {
  const { length } = documents();
  at("count").textContent = `${length} ${length === 1 ? "document" : "documents"}; empty ones are left out, and the first has index 0.`;
}

// --- the ranking

let underWay = null;

async function rank() {
  underWay?.abort();
  const mine = new AbortController();
  underWay = mine;
  at("ranking").setAttribute("aria-busy", "true");
  forget();
  at("summary").textContent = "Ranking…";
  try {
    const asked = body();
    const answered = await rerank(asked, key(), mine.signal);
    if (underWay !== mine) return;
    at("scale").textContent = show(at("ranking"), answered.answer, asked.documents);
    at("summary").textContent = summary(answered, asked);
  } catch (problem) {
    if (underWay !== mine || problem.name === "AbortError") return;
    at("ranking").replaceChildren();
    at("ranking").hidden = true;
    at("scale").textContent = "";
    at("summary").textContent = "Not ranked.";
    tell(problem);
  }
  at("ranking").setAttribute("aria-busy", "false");
  underWay = null;
  bringIntoView();
}

/** On a narrow screen the ranking is below the form: go there, unless its beginning can be seen. */
function bringIntoView() {
  const { top } = at("result").getBoundingClientRect();
  if (top < 0 || top > innerHeight * 0.7) at("result").scrollIntoView();
}

const FIELDS = { model: "model", query: "query", documents: "documents", top_n: "top-n" };

function tell(problem) {
  const lines = [`${problem.title ?? "The page failed"}: ${problem.message}`];
  if (problem.field) lines.push(`Field: ${problem.field}`);
  if (problem.retryAfter) lines.push(`Try again in ${problem.retryAfter} s.`);
  at("problem").replaceChildren(...lines.map((line) => {
    const paragraph = document.createElement("p");
    paragraph.textContent = line;
    return paragraph;
  }));
  const blamed = at(FIELDS[problem.field?.split(/[.[]/)[0]]);
  blamed?.setAttribute("aria-invalid", "true");
  blamed?.setAttribute("aria-errormessage", "problem");
}

function forget() {
  at("problem").replaceChildren();
  for (const field of Object.values(FIELDS)) {
    at(field).removeAttribute("aria-invalid");
    at(field).removeAttribute("aria-errormessage");
  }
}

// --- the models

let known = [];
let asking = 0;
let timer;

const picked = () => known.find((model) => model.id === at("model").value) ?? null;

async function refresh() {
  clearTimeout(timer);
  if (document.hidden) return; // it goes on when the tab is looked at again
  const mine = ++asking;
  try {
    const told = await models(key());
    if (mine !== asking) return;
    const before = picked();
    known = told;
    list(at("model"), known);
    describePicked();
    if (before) turned(before, picked());
    say("");
  } catch (problem) {
    if (mine !== asking) return;
    if (known.length === 0) at("state").textContent = "The models are not known.";
    say(`${problem.title ?? "The page failed"}: ${problem.message}`);
  }
  timer = setTimeout(refresh, isUnderWay(picked()) ? SOON_MS : LATER_MS);
}

/** Say what became of the model that was picked. */
function turned(before, now) {
  if (now?.id !== before.id) {
    at("turned").textContent = `${before.id} is not there any more${now ? `: ${now.id} is picked now` : ""}.`;
  } else if (now.state !== before.state) {
    at("turned").textContent = `${before.id} is ${now.state} now.`;
  }
}

function describePicked() {
  describe({ state: at("state"), progress: at("progress"), facts: at("facts") }, picked());
}

/** Show what is wrong with the list. The same words are not said again each time. */
function say(words) {
  if (at("models-problem").textContent !== words) at("models-problem").textContent = words;
}

// --- to take away

async function copy(write, what) {
  let text;
  try {
    forget();
    text = write(`${base}/v1/rerank`, body(), key() !== "");
  } catch (problem) {
    tell(problem);
    return;
  }
  at("snippet").value = text;
  at("snippet").hidden = false;
  try {
    await navigator.clipboard.writeText(text);
    at("copied").textContent = `Copied as ${what}.`;
  } catch { // browsers hand the clipboard to pages from https and from this machine only
    at("snippet").focus();
    at("snippet").select();
    at("copied").textContent = "The browser lets this page copy nothing: it is selected below, press Ctrl+C.";
  }
}

// --- events

at("form").addEventListener("submit", (event) => {
  event.preventDefault();
  rank();
});
for (const id of ["query", "documents"]) {
  at(id).addEventListener("keydown", (event) => {
    if (event.key !== "Enter" || !(event.ctrlKey || event.metaKey)) return;
    event.preventDefault();
    rank();
  });
}
at("documents").addEventListener("input", count);
for (const radio of document.querySelectorAll("input[name=separator]")) radio.addEventListener("change", count);
at("model").addEventListener("change", () => {
  describePicked();
  refresh();
});
at("key").addEventListener("change", refresh);
at("copy-curl").addEventListener("click", () => copy(curl, "curl"));
at("copy-python").addEventListener("click", () => copy(python, "Python"));
document.addEventListener("visibilitychange", refresh);

count();
refresh();

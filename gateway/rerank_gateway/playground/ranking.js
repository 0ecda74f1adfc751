// An answer as a list of bars.

const LONG = 600;
const SLIVER = 0.02; // of the track: the lowest score is there, too

/** Say what bars run from and to: 0 and 1 where all scores lie between, else the lowest and the highest of them. */
export function scale(scores) {
  const [low, high] = [Math.min(...scores), Math.max(...scores)];
  return low >= 0 && high <= 1 ? { low: 0, high: 1, fixed: true } : { low, high, fixed: false };
}

/** The share of the track that a score fills, 0 to 1. */
export function share(score, { low, high, fixed }) {
  if (fixed) return score;
  return high === low ? 1 : SLIVER + (1 - SLIVER) * ((score - low) / (high - low));
}

/** A score with four decimals, or with three digits where those would be zeros. */
export function written(score) {
  return score !== 0 && Math.abs(score) < 0.001 ? score.toExponential(2) : score.toFixed(4);
}

/** "3 of 3 documents ranked in 84 ms, 49 tokens. ..." */
export function summary({ answer, took }, body) {
  const counted = `${answer.results.length} of ${body.documents.length} ${body.documents.length === 1 ? "document" : "documents"}`;
  const tokens = answer.usage?.total_tokens;
  const cost = Number.isFinite(tokens) ? `, ${tokens} tokens` : "";
  const best = answer.results[0];
  const first = best ? ` Best: index ${best.index}, score ${written(best.relevance_score)}.` : "";
  return `${counted} ranked by ${answer.model ?? body.model} in ${Math.round(took)} ms, as seen from this tab${cost}.${first}`;
}

/** Fill the list; return the sentence that explains the bars. */
export function show(list, answer, documents) {
  const axis = scale(answer.results.map((result) => result.relevance_score));
  list.replaceChildren(...answer.results.map((result) => item(result, documents[result.index], axis)));
  list.hidden = answer.results.length === 0;
  if (list.hidden) return "";
  if (axis.fixed) return "Bars run from 0 to 1.";
  return `Bars run from ${written(axis.low)}, the lowest score, to ${written(axis.high)}, the highest.`;
}

function item({ index, relevance_score: score }, text, axis) {
  const numbers = element("div", "numbers", labelled("score", "Score", written(score)), labelled("place", "index", index));
  numbers.firstChild.title = String(score);
  const fill = element("div", "");
  fill.style.width = `${(100 * share(score, axis)).toFixed(2)}%`;
  const bar = element("div", "bar", fill);
  bar.setAttribute("aria-hidden", "true");
  return element("li", "", numbers, bar, shown(text));
}

function shown(text) {
  if (text.length <= LONG) return element("p", "document", text);
  const characters = [...text.slice(0, LONG)].slice(0, -1).join(""); // no half of a surrogate pair at its end
  return element("details", "", element("summary", "document", `${characters}…`), element("p", "document", text));
}

function labelled(className, label, value) {
  return element("span", className, `${label} ${value}`);
}

/** Make an element; texts become text nodes, never markup. */
function element(name, className, ...children) {
  const made = document.createElement(name);
  if (className) made.className = className;
  made.append(...children);
  return made;
}

// What is asked of the gateway. The page's own address is the base: it may lie below a prefix of a proxy.

export const base = new URL(".", location.href).href.replace(/\/$/, "");

/** What went wrong, in words; `field` is the path of the field to blame, as `documents[3]`, where one is. */
export class Problem extends Error {
  constructor(title, message, { field = null, retryAfter = null } = {}) {
    super(message);
    this.title = title;
    this.field = field;
    this.retryAfter = retryAfter;
  }
}

/** Return the entries of `GET /v1/models`. Throws a Problem. */
export async function models(key) {
  const { data } = await ask("/v1/models", { headers: authorization(key) });
  return Array.isArray(data) ? data : [];
}

/** Return the answer of `POST /v1/rerank`, and the milliseconds until it was read. Throws a Problem. */
export async function rerank(body, key, signal) {
  const headers = { "Content-Type": "application/json", ...authorization(key) };
  const began = performance.now();
  const answer = await ask("/v1/rerank", { method: "POST", headers, body: JSON.stringify(body), signal });
  const took = performance.now() - began;
  const sound = Array.isArray(answer.results) && answer.results.every(
    (result) => Number.isFinite(result?.relevance_score) && Number.isInteger(result.index) && result.index in body.documents);
  if (!sound) throw new Problem("An answer that is no ranking", "The gateway sent no `results` with an `index` and a `relevance_score` each.");
  return { answer, took };
}

function authorization(key) {
  if (!key) return {};
  if (!/^[\x21-\x7e]+$/.test(key)) {
    throw new Problem("The API key", "It has spaces, or letters that a key cannot have: check what was pasted.");
  }
  return { Authorization: `Bearer ${key}` };
}

async function ask(path, options) {
  let response;
  let text;
  try {
    // A redirect could carry the key to where nobody meant it to go.
    response = await fetch(base + path, { cache: "no-store", redirect: "error", ...options });
    text = await response.text();
  } catch (error) {
    if (error.name === "AbortError") throw error;
    throw new Problem("No answer", "The gateway could not be reached: check that it runs, and try again.");
  }
  const content = parsed(text);
  if (response.ok && content !== null && typeof content === "object") return content;
  throw refusal(response, content?.error);
}

function parsed(text) {
  try {
    return JSON.parse(text);
  } catch {
    return null;
  }
}

function refusal(response, error) {
  const title = [response.status, error?.code].filter(Boolean).join(" ");
  const message = error?.message ?? `What answered is not the gateway, or something between here and it: ${response.status} ${response.statusText}`.trim();
  return new Problem(title, message, { field: typeof error?.param === "string" ? error.param : null, retryAfter: response.headers.get("Retry-After") });
}

// The models to pick from, and how the picked one stands.

const FACTS = [
  ["family", "Family"],
  ["max_model_len", "Longest input, in tokens"],
  ["score_scale", "Scale of scores"],
];

/** "Ready", or "Loading 43 %". */
export function standing(model) {
  const state = model.state ?? "Unknown";
  if (state === "Ready" || !Number.isFinite(model.progress)) return state;
  return `${state} ${Math.floor(model.progress * 100 + 1e-9)} %`;
}

/** Whether a model will stand otherwise soon, by itself. */
export function isUnderWay(model) {
  return !["Ready", "Idle", "Failed"].includes(model?.state);
}

/** Show the models in the select. What was picked stays picked while it is there; else the first that is ready is. */
export function list(select, models) {
  const kept = models.find((model) => model.id === select.value);
  const picked = kept ?? models.find((model) => model.state === "Ready") ?? models[0];
  const before = new Map([...select.options].map((option) => [option.value, option]));
  const options = models.map((model) => {
    const option = before.get(model.id) ?? new Option("", model.id);
    const text = `${model.id} (${standing(model)})`;
    if (option.textContent !== text) option.textContent = text;
    return option;
  });
  // An open list of options closes when it is changed, so it is changed only where it must be.
  if (options.length !== select.options.length || options.some((option, at) => option !== select.options[at])) {
    select.replaceChildren(...options);
  }
  if (picked && select.value !== picked.id) select.value = picked.id;
  return picked ?? null;
}

/** Show how the picked model stands, or that there is none. */
export function describe({ state, progress, facts }, model) {
  progress.hidden = !model || !isUnderWay(model) || !Number.isFinite(model.progress);
  if (!progress.hidden) progress.value = model.progress;
  if (!model) {
    state.textContent = "There are no models here yet: apply a RerankModel, and it appears.";
    facts.hidden = true;
    return;
  }
  const word = document.createElement("span");
  word.className = "state";
  word.dataset.state = model.state ?? "";
  word.textContent = standing(model);
  state.replaceChildren(word, ...said(model));
  const known = FACTS.filter(([name]) => ["string", "number"].includes(typeof model[name]));
  facts.replaceChildren(...known.map(([name, words]) => fact(words, String(model[name]))));
  facts.hidden = known.length === 0;
}

/** A model's message behind the word for its state. Some messages begin with that word. */
function said({ state, message }) {
  if (typeof message !== "string") return [];
  const rest = message.startsWith(`${state}: `) ? message.slice(state.length + 2) : message;
  return rest === "" ? [] : [`: ${rest}`];
}

function fact(words, value) {
  const [pair, term, definition] = ["div", "dt", "dd"].map((name) => document.createElement(name));
  term.textContent = `${words}:`;
  definition.textContent = value;
  pair.append(term, definition);
  return pair;
}

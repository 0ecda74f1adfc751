// The request that the form describes, and how to send the same from elsewhere.

/** Cut a text into documents: "line" makes one of each line, "blank" one of each paragraph. Empty ones are left out. */
export function split(text, separator) {
  const parts = text.split(separator === "blank" ? /\r?\n(?:[ \t]*\r?\n)+/ : /\r?\n/);
  return parts.map((part) => part.trim()).filter((part) => part !== "");
}

/** Characters of a body up to which it is an argument: each may be three bytes, and Linux takes 128 KiB of one. */
const LONGEST_ARGUMENT = 32 * 1024;

/** Write the command for a POSIX shell. Nothing in single quotes means anything to it, nor in such a document. */
export function curl(url, body, withKey) {
  const lines = [`curl ${quoted(url)}`, "-H 'Content-Type: application/json'"];
  if (withKey) lines.push('-H "Authorization: Bearer $RERANK_API_KEY"');
  const text = JSON.stringify(body);
  const isLong = text.length > LONGEST_ARGUMENT;
  lines.push(isLong ? `--data-binary @- <<'JSON'\n${text}\nJSON` : `-d ${quoted(text)}`);
  return lines.join(" \\\n  ") + "\n";
}

/** Write a program for Python's standard library. A body of texts, lists and numbers is Python as it is JSON. */
export function python(url, body, withKey) {
  const headers = ['"Content-Type": "application/json"'];
  if (withKey) headers.push("\"Authorization\": f\"Bearer {os.environ['RERANK_API_KEY']}\"");
  return [
    "import json",
    ...(withKey ? ["import os"] : []),
    "import urllib.request",
    "",
    `body = ${JSON.stringify(body, null, 4)}`,
    "request = urllib.request.Request(",
    `    ${JSON.stringify(url)},`,
    "    json.dumps(body).encode(),",
    `    {${headers.join(", ")}},`,
    ")",
    "with urllib.request.urlopen(request) as answer:",
    '    for result in json.load(answer)["results"]:',
    '        print(result["relevance_score"], body["documents"][result["index"]])',
    "",
  ].join("\n");
}

function quoted(text) {
  return `'${text.replaceAll("'", "'\\''")}'`;
}

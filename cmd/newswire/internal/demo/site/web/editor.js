// The editor: a form that writes SQL, and runs what then stands in the text.

/** A text as a PostgreSQL literal. PostgreSQL's text has no NUL. */
export function literal(text) {
  return "'" + text.replaceAll("\0", "").replaceAll("'", "''") + "'";
}

/** A list of texts as a PostgreSQL array. */
export function array(texts) {
  return texts.length ? `ARRAY[${texts.map(literal).join(", ")}]` : "'{}'";
}

/** @param {{title: string, summary: string, tags: string, status: string}} article */
export function insert({ title, summary, tags, status }) {
  const list = tags.split(",").map((tag) => tag.trim()).filter(Boolean);
  return [
    "INSERT INTO articles (title, summary, tags, status)",
    "VALUES (",
    `  ${literal(title)},`,
    `  ${summary.trim() ? literal(summary) : "NULL"},`,
    `  ${array(list)},`,
    `  ${literal(status)}`,
    ");",
  ].join("\n");
}

const examples = {
  several: `BEGIN;
INSERT INTO articles (title, tags) VALUES ('First of three', ARRAY['tech']);
INSERT INTO articles (title, tags) VALUES ('Second of three', ARRAY['sport']);
INSERT INTO articles (title, tags) VALUES ('Third of three', ARRAY['tech', 'sport']);
COMMIT;`,
  rollback: `BEGIN;
INSERT INTO articles (title, tags) VALUES ('Nobody will see this', ARRAY['tech']);
ROLLBACK;`,
  denied: "DROP TABLE articles;",
};

export function startEditor() {
  const form = document.getElementById("editor");
  const sql = document.getElementById("sql");
  const example = document.getElementById("example");
  const result = document.getElementById("result");
  const save = form.querySelector("button[type=submit]");
  const { title, summary, tags, status } = form.elements;

  const render = () => {
    sql.value = insert({ title: title.value, summary: summary.value, tags: tags.value, status: status.value });
    example.value = "";
  };
  for (const field of [title, summary, tags, status]) field.addEventListener("input", render);
  render();
  example.addEventListener("change", () => {
    if (example.value) sql.value = examples[example.value];
    else render();
  });

  form.addEventListener("submit", async (event) => {
    event.preventDefault();
    save.disabled = true;
    const [good, text] = await run(sql.value);
    save.disabled = false;
    result.className = `result ${good ? "good" : "bad"}`;
    result.textContent = `${new Date().toLocaleTimeString()}  ${text}`;
  });
}

/** @returns {Promise<[boolean, string]>} */
async function run(sql) {
  try {
    const response = await fetch("/demo/sql", {
      method: "POST",
      headers: { "Content-Type": "application/json" },
      body: JSON.stringify({ sql }),
    });
    const answer = await response.json();
    if (response.ok) return [true, `${answer.tags.join(", ") || "nothing to run"} in ${answer.ms} ms`];
    const more = [answer.detail, answer.hint].filter(Boolean).join(" ");
    return [false, `${answer.message}${more ? ` (${more})` : ""} [${answer.code}]`];
  } catch (err) {
    return [false, `The demo does not answer: ${err.message}`];
  }
}

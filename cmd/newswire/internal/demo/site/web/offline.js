// The list of what was handed over to Kafka.

const KEPT = 100; // rows shown
const EVERY = 1000; // ms between looks

const reasons = {
  ack_timeout: "never acknowledged",
  disconnected: "was not connected",
  slow_reader: "was connected but did not read",
};

export function startOffline() {
  const table = document.getElementById("offline");
  const note = document.getElementById("offline-note");
  const body = table.tBodies[0];
  let from = 0;

  async function look() {
    const response = await fetch(`/demo/offline?from=${from}`);
    if (!response.ok) throw new Error(`status ${response.status}`);
    const { records, next } = await response.json();
    if (next < from) { // the demo was started again and counts anew
      from = 0;
      body.replaceChildren();
      return;
    }
    from = next;
    for (const record of records) body.prepend(row(record));
    while (body.rows.length > KEPT) body.lastElementChild.remove();
    if (body.rows.length) {
      table.hidden = false;
      note.hidden = true;
    }
  }

  async function again() {
    if (document.visibilityState === "visible") await look().catch(() => {}); // the readers' cards tell that it is down
    setTimeout(again, EVERY);
  }
  again();
}

function row({ reader, reason, attempts, first_sent, handed_over, message }) {
  const line = document.createElement("tr");
  const cell = (label, text, className = "") => {
    const td = document.createElement("td");
    const value = document.createElement("span");
    value.textContent = text;
    td.dataset.label = label;
    td.className = className;
    td.append(value);
    line.append(td);
  };
  cell("Reader", reader ?? "?");
  cell("Article", message?.data?.title ?? JSON.stringify(message?.key ?? message?.id ?? "?"));
  cell("Reason", reasons[reason] ?? reason ?? "?");
  cell("Attempts", String(attempts ?? "?"), "number");
  cell("First sent", time(first_sent), "number");
  cell("Handed over", time(handed_over), "number");
  return line;
}

function time(text) {
  return text ? new Date(text).toLocaleTimeString() : "never";
}

// Shows /v1/status, once a second.
const state = document.getElementById("state");
const reasons = document.getElementById("reasons");
const rows = document.getElementById("rows");

function fill(list, tag, texts) {
  list.replaceChildren(...texts.map((text) => {
    const item = document.createElement(tag);
    item.textContent = text;
    return item;
  }));
}

function row(name, value) {
  const tr = document.createElement("tr");
  const th = document.createElement("th");
  th.scope = "row";
  th.textContent = name;
  const td = document.createElement("td");
  td.textContent = value;
  tr.append(th, td);
  return tr;
}

async function show() {
  try {
    const s = await (await fetch("/v1/status")).json();
    state.textContent = s.ready ? "ready" : "not ready";
    state.className = s.ready ? "ready" : "not";
    fill(reasons, "li", s.reasons);
    rows.replaceChildren(
      row("Gateway", s.addresses.gateway),
      row("Up for", `${Math.round(s.uptime_seconds)} s`),
      row("Sessions", s.sessions),
      row("Journal: first kept, last, synced", `${s.journal.oldest} · ${s.journal.head} · ${s.journal.synced}`),
      row("Routed up to", s.routed),
      row("Confirmed to the slot", s.journal.confirmed_lsn),
      row("Messages not settled", s.ledger.unsettled_messages),
      row("Pairs pending", s.ledger.pending_pairs),
      row("Waiting for Kafka", s.ledger.offline_backlog),
      row("Kafka", s.kafka),
    );
  } catch (err) {
    state.textContent = "no answer";
    state.className = "not";
  }
}

show();
setInterval(show, 1000);

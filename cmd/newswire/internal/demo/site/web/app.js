// The demo's page: an editor, readers, the offline topic and telephones, each in
// a file of its own.
import { startEditor } from "/demo/editor.js";
import { startOffline } from "/demo/offline.js";
import { startPhones } from "/demo/phones.js";
import { ReaderCard } from "/demo/reader.js";

startEditor();
startOffline();

const info = await (await fetch("/demo/info")).json();
for (const name of ["psql", "kcat"]) document.getElementById(name).textContent = info.commands[name];
document.getElementById("topic").textContent = info.topic;

for (const button of document.querySelectorAll("[data-copy]")) {
  button.addEventListener("click", async () => {
    await navigator.clipboard.writeText(document.getElementById(button.dataset.copy).textContent);
    button.textContent = "Copied";
    setTimeout(() => (button.textContent = "Copy"), 1500);
  });
}

// Which readers there are is the page's business; what they follow is kept by
// the server, so it is told to it only once for each demo directory.
const key = `newswire demo ${info.instance}`;
const defaults = [
  { name: "ann", follow: ["tech"], mute: [] },
  { name: "ben", follow: ["sport"], mute: [] },
  { name: "cem", follow: ["*"], mute: ["tech"] },
];

function remembered() {
  try {
    return JSON.parse(localStorage.getItem(key)) ?? { introduced: [], added: [] };
  } catch {
    return { introduced: [], added: [] };
  }
}

function remember(change) {
  const memory = remembered();
  change(memory);
  try {
    localStorage.setItem(key, JSON.stringify(memory));
  } catch {
    // Then added readers last as long as the page.
  }
}

const list = document.getElementById("readers");
const cards = new Map(); // name -> ReaderCard

function addReader({ name, follow, mute }, removable) {
  const known = remembered().introduced.includes(name);
  const card = new ReaderCard(name, known ? {} : { follow, mute });
  card.onWelcome = ({ ack_timeout_ms: first }) => {
    remember((memory) => memory.introduced.includes(name) || memory.introduced.push(name));
    document.getElementById("timing").textContent =
      `Each reader is a WebSocket of its own, with the browser client that sites use. What is not acknowledged within ${seconds(first)} ` +
      `comes again, then once more after ${seconds(2 * first)}, and ${seconds(4 * first)} later it is handed over; ` +
      `to a reader who is away, after ${seconds(first)}.`;
  };
  if (removable) {
    card.onRemove = () => {
      cards.delete(name);
      remember((memory) => (memory.added = memory.added.filter((other) => other !== name)));
    };
  }
  cards.set(name, card);
  list.append(card.element);
  card.connect();
}

function seconds(ms) {
  return `${+(ms / 1000).toFixed(1)}\u00a0s`;
}

for (const reader of defaults) addReader(reader, false);
for (const name of remembered().added) addReader({ name }, true);
startPhones(() => [...cards.keys()], `${location.protocol}//${location.hostname}:${info.devices_port}`);

document.getElementById("add-reader").addEventListener("submit", (event) => {
  event.preventDefault();
  const input = event.target.elements.name;
  const name = input.value.trim();
  const taken = cards.has(name) ? `${name} is already here.` : "";
  input.setCustomValidity(taken);
  if (!name || taken) return input.reportValidity();
  event.target.reset();
  remember((memory) => memory.added.push(name));
  addReader({ name }, true);
});
document.getElementById("reader-name").addEventListener("input", (event) => event.target.setCustomValidity(""));

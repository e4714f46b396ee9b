// A reader: one connection of the browser client, and the card that shows it.
import { connect } from "/newswire.js";

const KEPT = 50; // articles shown

export class ReaderCard {
  /** Called with the server's welcome. */ onWelcome = () => {};
  #client = null;
  #items = new Map(); // message id -> its line
  #remove = null;

  /**
   * @param {string} name
   * @param {{follow?: string[], mute?: string[]}} sets  replace what the server has stored
   */
  constructor(name, sets) {
    this.name = name;
    this.sets = sets;
    this.element = document.getElementById("reader-card").content.cloneNode(true).firstElementChild;
    this.element.dataset.reader = name;
    this.#part("h3").textContent = name;
    this.#part(".tagging input").setAttribute("aria-label", `Tag for ${name} to follow or mute`);
    this.#part(".tagging").addEventListener("submit", (event) => this.#tag(event));
    this.#part(".toggle").addEventListener("click", () => {
      if (this.#client?.state === "stopped") this.connect();
      else this.#client?.close();
    });
    this.#part(".remove").addEventListener("click", () => {
      this.#client?.close();
      this.element.remove();
      this.#remove();
    });
  }

  /** With it, the card can be removed. */
  set onRemove(handle) {
    this.#remove = handle;
    this.#part(".remove").hidden = false;
  }

  connect() {
    this.#client = connect({
      url: location.origin,
      getToken: () => this.#token(),
      ...this.sets,
      ack: "manual",
      storage: sessionStorage, // the next demo is another journal
      onMessage: (message, control) => this.#show(message, control),
      onGap: () => (this.#part(".gap").hidden = false),
      onState: (change) => this.#state(change),
      onSubscriptions: (sets) => this.#sets(sets),
    });
  }

  async #token() {
    const response = await fetch(`/demo/token?reader=${encodeURIComponent(this.name)}`);
    const answer = await response.json();
    if (!response.ok) throw new Error(answer.message);
    return answer.token;
  }

  #part(selector) {
    return this.element.querySelector(selector);
  }

  #state({ state, code, reason, retryInMs, transport, welcome }) {
    this.element.dataset.state = state;
    const closed = state === "stopped" && reason === "closed";
    const why = [reason, code].filter(Boolean).join(" ");
    this.#part(".state").textContent = {
      connecting: "connecting",
      online: transport === "polling" ? "online, polling" : "online",
      offline: `offline${why ? `: ${why}` : ""}, again in ${((retryInMs ?? 0) / 1000).toFixed(1)} s`,
      stopped: closed ? "disconnected" : `stopped: ${why}`,
    }[state];
    this.#part(".toggle").textContent = state === "stopped" ? "Connect" : "Disconnect";
    for (const control of this.element.querySelectorAll(".tagging button, .chips button")) {
      control.disabled = state === "stopped";
    }
    if (!welcome) return;
    this.sets = {}; // told once: from now on the server's count
    this.onWelcome(welcome);
  }

  // ---- tags -------------------------------------------------------------

  #sets({ follow, mute }) {
    this.#chips(".follow", follow, "unfollow");
    this.#chips(".mute", mute, "unmute");
  }

  #chips(selector, tags, undo) {
    this.#part(`.chips${selector}`).replaceChildren(...tags.map((tag) => {
      const chip = document.createElement("li");
      const drop = document.createElement("button");
      drop.type = "button";
      drop.textContent = "×";
      drop.setAttribute("aria-label", `${undo} ${tag}`);
      drop.addEventListener("click", () => this.#change(undo, tag));
      chip.append(tag, drop);
      return chip;
    }));
  }

  #tag(event) {
    event.preventDefault();
    const tag = event.target.elements.tag.value.trim();
    if (!tag) return;
    event.target.reset();
    this.#change(event.submitter?.value ?? "follow", tag);
  }

  async #change(what, tag) {
    const refusal = this.#part(".refusal");
    refusal.textContent = "";
    try {
      await this.#client[what]([tag]);
    } catch (err) {
      refusal.textContent = `${what} ${tag}: ${err.message}`;
    }
  }

  // ---- news -------------------------------------------------------------

  #show(message, control) {
    let item = this.#items.get(message.id);
    if (item) item.classList.remove("fresh");
    else item = this.#insert(message);
    void item.offsetWidth; // lets the animation of a repeat begin anew
    item.classList.add("fresh");
    this.#describe(item, message);

    const button = item.querySelector(".ack");
    const acknowledge = () => {
      control.ack();
      item.classList.remove("unacked");
      button.hidden = true;
    };
    button.onclick = acknowledge;
    item.classList.add("unacked");
    button.hidden = false;
    if (!this.#part(".silent").checked) acknowledge();
  }

  #insert(message) {
    const item = document.getElementById("news-item").content.cloneNode(true).firstElementChild;
    item.dataset.id = message.id;
    item.querySelector(".headline").textContent = message.data.title ?? JSON.stringify(message.key);
    item.querySelector(".tags").replaceChildren(...message.tags.map((tag) => {
      const line = document.createElement("li");
      line.textContent = tag;
      return line;
    }));
    const list = this.#part(".news");
    list.prepend(item);
    this.#items.set(message.id, item);
    if (list.childElementCount > KEPT) {
      this.#items.delete(list.lastElementChild.dataset.id);
      list.lastElementChild.remove();
    }
    // Both clocks are this machine's.
    if (message.attempt === 1 && !message.replay) {
      item.querySelector(".latency").textContent = `${Math.max(0, Date.now() - Date.parse(message.time))} ms commit to screen`;
    }
    return item;
  }

  #describe(item, { action, attempt, replay }) {
    item.classList.toggle("retract", action === "retract");
    const badge = (name, shown, text) => {
      const part = item.querySelector(name);
      part.hidden = !shown;
      if (text) part.textContent = text;
    };
    badge(".action", action !== "publish", action);
    badge(".attempt", attempt > 1, `attempt ${attempt}`);
    badge(".replay", replay);
  }
}

// newswire.js: news over one WebSocket, at least once, in commit order.
//
//   import { connect } from "https://news.example.com/newswire.js";
//   const news = connect({
//     url: "https://news.example.com",
//     getToken: async () => (await fetch("/my/newswire-token")).text(),
//     follow: ["tech"],
//     onMessage: (message) => show(message.data),
//   });
//
// What it promises: onMessage gets every message that the server has for this
// reader, and a message is acknowledged only after onMessage has settled for
// it. If the handler throws, the server sends the message again. Whatever
// onMessage has handled is not shown to it twice by this page. Handlers are
// started in the order of arrival; those that return promises may overlap.
//
// It has no dependencies, loads nothing and needs no eval: under a strict
// Content-Security-Policy the page allows this file in script-src and the
// WebSocket's address in connect-src.

/**
 * @typedef {object} Message
 * @property {string} id  28 hexadecimal digits that sort in commit order
 * @property {"publish"|"correct"|"retract"} action
 * @property {string[]} tags
 * @property {string} source  schema.table
 * @property {object} key  the row's primary key
 * @property {string} time  when the row was committed, RFC 3339
 * @property {number} attempt  1, 2, 3 … of this message to this reader
 * @property {boolean} replay  true when it comes from the journal after a reconnect
 * @property {object} data  the row's columns
 * @property {boolean} [truncated]  data was too large and holds the key only
 */
/** @typedef {{follow: string[], mute: string[]}} Subscriptions */
/**
 * @typedef {object} StateChange
 * @property {"connecting"|"online"|"offline"|"stopped"} state
 * @property {number} [code]  the close code that led here
 * @property {string} [reason]  in words
 * @property {number} [retryInMs]  offline: when the next attempt starts
 * @property {object} [welcome]  online: the server's welcome frame
 */
/**
 * @typedef {object} Options
 * @property {string|URL} url  the gateway; its path /v1/ws is added where there is none
 * @property {() => (string|Promise<string>)} [getToken]  gives a current token for each
 *   connection and before the present one expires; throw a StopError to give up for good
 * @property {string[]} [follow]  replaces the reader's stored follows at the first connect
 * @property {string[]} [mute]  replaces the reader's stored mutes at the first connect
 * @property {(message: Message, control: {ack(): void}) => unknown} onMessage
 * @property {(gap: {after: string}) => void} [onGap]  older news than the server keeps
 *   may be missing: reload from the site
 * @property {(change: StateChange) => void} [onState]
 * @property {(sets: Subscriptions) => void} [onSubscriptions]  also changes made in another tab
 * @property {{getItem(key: string): string|null, setItem(key: string, value: string): void,
 *   removeItem(key: string): void}} [storage]  keeps the cursor over a reload; sessionStorage by default
 * @property {"auto"|"manual"} [ack]  manual: only control.ack() and ack(ids) acknowledge, and
 *   what is not acknowledged comes to onMessage again with a higher attempt
 */

const SUBPROTOCOL = "newswire.v1";
const REMEMBERED = 512; // ids kept to recognise repeats
const FRAME_LIMIT = 16 * 1024; // bytes of one frame, the server's limit
const ACKS_PER_FRAME = 256; // 31 bytes each: half a frame
const ACK_DELAY = 20; // ms in which acks gather into one frame
const REPEAT_ACKS = 60_000; // ms before a loss whose acks may not have arrived
const BACKOFF_BASE = 500, BACKOFF_CAP = 20_000; // ms
const STEADY = 10_000; // ms online after which the backoff starts anew
const WELCOME_WAIT = 15_000; // ms from opening the socket to the welcome
const PONG_WAIT = 5_000; // ms for an answer after waking up
const REFRESH_AHEAD = 60_000; // ms before its expiry that a token is replaced
const TIMER_CAP = 3_600_000; // ms; longer timers overflow, so they are set again

/** Throw it in getToken to end the client instead of trying again. */
export class StopError extends Error {}

/**
 * Connects and stays connected until close() or a code that says stop.
 * @param {Options} options
 */
export function connect(options) {
  return new Client(options);
}

class Client {
  #options; // fixed, as is #url
  #url;
  #listening = new AbortController(); // ends the page's event listeners
  /** @type {StateChange["state"]} */ #state = "connecting";
  /** @type {WebSocket|null} */ #socket = null; // null unless opening or open
  #round = 0; // counts connections; what belongs to an earlier one is ignored
  #failures = 0; // attempts since the last steady connection
  #onlineSince = 0;
  #notBefore = 0; // the server asked not to come back earlier
  #bye = null; // the server's last words on this socket
  #away = false; // the page is in the back-forward cache
  #welcomed = false; // the server has taken follow and mute of the options
  /** @type {Subscriptions} */ #sets = { follow: [], mute: [] };
  #timers = {}; // by purpose: retry, welcome, pong, refresh, acks

  #seen = new Map(); // id -> "running" | "shown" (and not acknowledged) | "handled"; oldest first
  #unhandled = new Set(); // the ids in #seen that are not handled
  #newest = ""; // the highest handled id
  #cursor = null; // everything up to here is handled
  #cursorKey = "";

  #acks = new Set(); // to be sent
  #sentAcks = []; // {id, at}: sent on this or the last connection, lately
  #requests = []; // changes of subscriptions without an answer, in order
  #refs = 0;

  /** @param {Options} options */
  constructor(options) {
    this.#options = options;
    this.#url = socketURL(options.url);
    this.#listen();
    // Behind a microtask, so that no callback runs before connect has returned.
    queueMicrotask(() => this.#open());
  }

  /** "connecting", "online", "offline" or "stopped". */
  get state() { return this.#state; }

  /** The sets as the server last told them. @returns {Subscriptions} */
  get subscriptions() { return this.#sets; }

  // Each of the four settles with the server's answer. What is asked for while
  // there is no connection is sent, in order, once there is one.
  /** @param {string[]} tags @returns {Promise<Subscriptions>} */
  follow(tags) { return this.#request("follow", tags); }
  /** @param {string[]} tags @returns {Promise<Subscriptions>} */
  unfollow(tags) { return this.#request("unfollow", tags); }
  /** @param {string[]} tags @returns {Promise<Subscriptions>} */
  mute(tags) { return this.#request("mute", tags); }
  /** @param {string[]} tags @returns {Promise<Subscriptions>} */
  unmute(tags) { return this.#request("unmute", tags); }

  /** Acknowledges messages. @param {string|string[]} ids */
  ack(ids) {
    for (const id of [ids].flat()) this.#handled(id);
  }

  /** Ends the connection for good. Acks that wait are sent first. */
  close() {
    this.#flushAcks();
    this.#stop({ reason: "closed" });
  }

  // ---- connection -------------------------------------------------------

  async #open() {
    if (this.#state === "stopped" || this.#away) return;
    const round = ++this.#round;
    this.#clearTimers();
    // Fetching the token counts too: a getToken that hangs must not end it all.
    this.#timer("welcome", WELCOME_WAIT, () => this.#lost({ reason: "no welcome in time" }));
    this.#enter({ state: "connecting" });
    let token;
    try {
      token = await this.#options.getToken?.();
    } catch (err) {
      if (round !== this.#round) return;
      if (err instanceof StopError) this.#stop({ reason: err.message });
      else this.#lost({ reason: `getToken: ${err?.message ?? err}` });
      return;
    }
    if (round !== this.#round) return;
    this.#loadCursor(token);
    this.#dial(token);
  }

  #dial(token) {
    const socket = (this.#socket = new WebSocket(this.#url, SUBPROTOCOL));
    const mine = (handle) => (event) => {
      if (socket === this.#socket) handle(event);
    };
    socket.onopen = mine(() => this.#hello(token));
    socket.onmessage = mine((event) => this.#receive(event.data));
    socket.onclose = mine(({ code, reason }) => this.#lost({ code, reason }));
  }

  #hello(token) {
    const hello = { type: "hello" };
    if (token) hello.token = token;
    if (this.#cursor) hello.after = this.#cursor;
    // Once the server has them, its stored sets count: they may have changed since.
    // Of a reader without a token it keeps none.
    const sets = !this.#welcomed ? this.#options : token ? {} : this.#sets;
    if (sets.follow) hello.follow = sets.follow;
    if (sets.mute) hello.mute = sets.mute;
    const text = JSON.stringify(hello);
    if (tooLong(text)) return this.#stop({ reason: "hello is over 16 KiB: follow fewer tags at once" });
    this.#socket.send(text);
  }

  /** Leaves the socket without waiting for its close, which a dead network delays. */
  #drop() {
    this.#socket?.close(1000);
    this.#socket = this.#bye = null;
    this.#round++;
    this.#clearTimers();
    for (const request of this.#requests) request.sent = false;
    const now = Date.now();
    for (const { id, at } of this.#sentAcks) {
      if (now - at < REPEAT_ACKS) this.#acks.add(id); // acking twice does no harm
    }
    this.#sentAcks = [];
    if (this.#onlineSince && now - this.#onlineSince >= STEADY) this.#failures = 0;
    this.#onlineSince = 0;
  }

  /** Decides what follows a lost connection. @param {{code?: number, reason?: string}} why */
  #lost(why) {
    if (this.#state === "stopped") return;
    // The server's last words tell more than a close that the network swallowed.
    if (this.#bye) why = { code: this.#bye.code, reason: this.#bye.reason };
    this.#drop();
    if (why.code >= 4500 && why.code <= 4999) return this.#stop(why);
    const ceiling = Math.min(BACKOFF_CAP, BACKOFF_BASE * 2 ** this.#failures++);
    const retryInMs = Math.max(Math.random() * ceiling, this.#notBefore - Date.now());
    this.#enter({ state: "offline", ...why, retryInMs: Math.round(retryInMs) });
    this.#timer("retry", retryInMs, () => this.#open());
  }

  #stop(why) {
    if (this.#state === "stopped") return;
    this.#drop();
    this.#listening.abort();
    this.#enter({ state: "stopped", ...why });
    for (const { reject } of this.#requests.splice(0)) {
      reject(failure("stopped", why.reason || "the connection has ended"));
    }
  }

  /** @param {StateChange} change */
  #enter(change) {
    this.#state = change.state;
    this.#tell(this.#options.onState, change);
  }

  // ---- page life --------------------------------------------------------

  #listen() {
    const on = (target, type, handle) =>
      target.addEventListener(type, handle, { signal: this.#listening.signal });
    on(window, "online", () => this.#wake());
    on(document, "resume", () => this.#wake());
    on(document, "visibilitychange", () => {
      if (document.visibilityState === "visible") this.#wake();
    });
    // An open socket keeps a page out of the back-forward cache.
    on(window, "pagehide", () => {
      this.#away = true;
      this.#flushAcks();
      this.#drop();
      this.#enter({ state: "offline", reason: "the page is hidden" });
    });
    on(window, "pageshow", () => {
      this.#away = false;
      this.#wake();
    });
  }

  /** The page or the network is back: connect at once, or see whether the socket lives. */
  #wake() {
    if (this.#state === "offline") {
      const wait = this.#notBefore - Date.now();
      if (wait > 0) this.#timer("retry", wait, () => this.#open());
      else this.#open();
    } else if (this.#state === "online") {
      this.#send({ type: "ping" });
      this.#timer("pong", PONG_WAIT, () => {
        this.#lost({ reason: "no answer after waking up" });
        this.#wake();
      });
    }
  }

  // ---- frames -----------------------------------------------------------

  #receive(text) {
    clearTimeout(this.#timers.pong); // whatever comes shows that the socket lives
    let frame;
    try {
      frame = JSON.parse(text);
    } catch (err) {
      return report(err);
    }
    switch (frame.type) {
      case "welcome": return this.#welcome(frame);
      case "message": return this.#message(frame);
      case "subscriptions": return this.#answered(frame);
      case "error": return this.#refused(frame);
      case "token": return this.#refreshAt(frame.expires);
      case "bye":
        this.#bye = frame;
        this.#notBefore = Date.now() + (frame.retry_after_ms ?? 0);
    }
  }

  #welcome(frame) {
    clearTimeout(this.#timers.welcome);
    this.#welcomed = true;
    this.#onlineSince = Date.now();
    this.#notBefore = 0;
    this.#state = "online";
    this.#refreshAt(frame.expires);
    this.#sendRequests();
    this.#flushAcks();
    const gap = frame.resume === "gap" && { after: this.#cursor };
    if (gap) this.#setCursor(null);
    // The page's callbacks come last: they may close the connection.
    this.#enter({ state: "online", welcome: frame });
    this.#told(frame);
    if (gap) this.#tell(this.#options.onGap, gap);
  }

  #refreshAt(expires) {
    const left = Date.parse(expires) - Date.now();
    if (Number.isNaN(left)) return; // a reader without a token has no expiry
    const wait = Math.max(left - REFRESH_AHEAD, left / 2, 5_000);
    if (wait > TIMER_CAP) return this.#timer("refresh", TIMER_CAP, () => this.#refreshAt(expires));
    this.#timer("refresh", wait, () => this.#refresh(expires));
  }

  async #refresh(expires) {
    const round = this.#round;
    try {
      const token = await this.#options.getToken?.();
      if (round === this.#round && token) this.#send({ type: "token", token });
    } catch (err) {
      if (round !== this.#round) return;
      if (err instanceof StopError) return this.#stop({ reason: err.message });
      this.#refreshAt(expires); // the present token still holds
    }
  }

  #send(frame) {
    this.#socket?.send(JSON.stringify(frame));
  }

  // ---- messages and acks ------------------------------------------------

  /** @param {Message} message */
  async #message(message) {
    const { id } = message;
    const before = this.#seen.get(id);
    if (before === "handled") return this.#queueAck(id); // the ack was lost or is on its way
    if (before === "running") return; // its handler will decide
    this.#remember(id, "running");
    let acked = false;
    const ack = () => {
      if (!acked) this.#handled(id);
      acked = true;
    };
    try {
      await this.#options.onMessage(message, { ack });
      if (this.#options.ack !== "manual") ack();
    } catch (err) {
      report(err); // not acknowledged: the server sends it again
    }
    if (this.#seen.get(id) === "running") this.#remember(id, "shown");
  }

  #remember(id, how) {
    this.#seen.set(id, how);
    if (how === "handled") this.#unhandled.delete(id);
    else this.#unhandled.add(id);
    if (this.#seen.size <= REMEMBERED) return;
    const [oldest] = this.#seen.keys();
    this.#seen.delete(oldest);
    this.#unhandled.delete(oldest);
  }

  #handled(id) {
    this.#remember(id, "handled");
    if (id > this.#newest) this.#newest = id;
    // A cursor beyond something unhandled would make the server skip it.
    if (!this.#unhandled.size && this.#newest > (this.#cursor ?? "")) this.#setCursor(this.#newest);
    this.#queueAck(id);
  }

  #queueAck(id) {
    this.#acks.add(id);
    if (this.#state !== "online") return; // the next welcome sends it
    if (this.#acks.size >= ACKS_PER_FRAME) this.#flushAcks();
    else if (this.#acks.size === 1) this.#timer("acks", ACK_DELAY, () => this.#flushAcks());
  }

  #flushAcks() {
    if (this.#state !== "online") return;
    const ids = [...this.#acks], at = Date.now();
    this.#acks.clear();
    for (let i = 0; i < ids.length; i += ACKS_PER_FRAME) {
      this.#send({ type: "ack", ids: ids.slice(i, i + ACKS_PER_FRAME) });
    }
    this.#sentAcks = this.#sentAcks.filter((ack) => at - ack.at < REPEAT_ACKS);
    for (const id of ids) this.#sentAcks.push({ id, at });
  }

  // ---- cursor -----------------------------------------------------------

  /** Cursor and memory are the reader's own: another reader's would skip news. */
  #loadCursor(token) {
    const key = `newswire ${this.#url} ${subject(token)}`;
    if (key === this.#cursorKey) return;
    this.#cursorKey = key;
    this.#newest = "";
    this.#sentAcks = [];
    for (const memory of [this.#seen, this.#unhandled, this.#acks]) memory.clear();
    this.#cursor = this.#stored((storage) => storage.getItem(key));
  }

  #setCursor(id) {
    this.#cursor = id;
    this.#stored((storage) =>
      id ? storage.setItem(this.#cursorKey, id) : storage.removeItem(this.#cursorKey));
  }

  /** Storage can be full or forbidden; then the cursor lives as long as the page. */
  #stored(use) {
    try {
      return use(this.#options.storage ?? window.sessionStorage) ?? null;
    } catch {
      return null;
    }
  }

  // ---- subscriptions ----------------------------------------------------

  #request(type, tags) {
    return new Promise((resolve, reject) => {
      if (this.#state === "stopped") return reject(failure("stopped", "the connection has ended"));
      const frame = { type, tags: [...tags], ref: String(++this.#refs) };
      if (tooLong(JSON.stringify(frame))) {
        return reject(failure("frame_too_big", `${type}: over 16 KiB of tags at once`));
      }
      this.#requests.push({ frame, resolve, reject, sent: false });
      this.#sendRequests();
    });
  }

  /** Asked again after a loss: adding or dropping a tag twice changes nothing. */
  #sendRequests() {
    if (this.#state !== "online") return;
    for (const request of this.#requests) {
      if (!request.sent) this.#send(request.frame);
      request.sent = true;
    }
  }

  #answered(frame) {
    this.#told(frame);
    this.#take(frame.ref)?.resolve(this.#sets);
  }

  #refused({ ref, code, message }) {
    const request = this.#take(ref);
    if (request) request.reject(failure(code, message));
    else report(failure(code, message));
  }

  #take(ref) {
    const i = this.#requests.findIndex((request) => request.frame.ref === ref);
    return i < 0 ? undefined : this.#requests.splice(i, 1)[0];
  }

  #told({ follow, mute }) {
    this.#sets = { follow: follow ?? [], mute: mute ?? [] };
    this.#tell(this.#options.onSubscriptions, this.#sets);
  }

  // ---- small things -----------------------------------------------------

  /** A fault in the page's callback is the page's: shown there, and we go on. */
  #tell(callback, value) {
    try {
      callback?.(value);
    } catch (err) {
      report(err);
    }
  }

  #timer(name, ms, fire) {
    clearTimeout(this.#timers[name]);
    this.#timers[name] = setTimeout(fire, ms);
  }

  #clearTimers() {
    for (const name in this.#timers) clearTimeout(this.#timers[name]);
  }
}

/** @param {string|URL} url */
function socketURL(url) {
  const address = new URL(url, location.href);
  address.protocol = address.protocol.replace("http", "ws");
  if (address.pathname === "/") address.pathname = "/v1/ws";
  return address.href;
}

/** Whom a token names: unverified, and only to keep readers' cursors apart. */
function subject(token) {
  try {
    const payload = token.split(".")[1].replaceAll("-", "+").replaceAll("_", "/");
    return encodeURIComponent(JSON.parse(atob(payload)).sub);
  } catch {
    return "";
  }
}

/** @param {string} text */
function tooLong(text) {
  return new TextEncoder().encode(text).length > FRAME_LIMIT;
}

function failure(code, message) {
  return Object.assign(new Error(message), { code });
}

/** Reaches window.onerror and the console, as an uncaught error does. */
function report(err) {
  (globalThis.reportError ?? console.error)(err);
}

// newswire.js: news over one connection, at least once, in commit order.
// newswire.d.ts says what it takes, gives and promises.

/** @import {Message, Newswire, Options, StateChange, Subscriptions} from "./newswire.d.ts" */

const SUBPROTOCOL = "newswire.v1";
const FORGOTTEN = 4510; // the close code on the reader's own wish
const REMEMBERED = 512; // handled ids kept to recognise repeats
const UNHANDLED = 4096; // ids kept that hold the cursor back
const FRAME_LIMIT = 16 * 1024; // bytes of one frame, the server's limit
const ACKS_PER_FRAME = 256; // half a frame
const ACK_DELAY = 20; // ms in which acks gather into one frame
const REPEAT_ACKS = 60_000; // ms before a loss whose acks may not have arrived
const BACKOFF_BASE = 500, BACKOFF_CAP = 20_000; // ms
const STEADY = 10_000; // ms online after which the backoff starts anew
const WELCOME_WAIT = 15_000; // ms from fetching the token to the welcome
const PONG_WAIT = 10_000; // ms for an answer to a ping
const PING_EVERY = 25_000; // ms, the server's; silence of two is looked into
const REFRESH_AHEAD = 60_000; // ms before its expiry that a token is replaced
const TIMER_CAP = 3_600_000; // ms; longer timers overflow, so they are set again
const BLOCKED_AFTER = 2; // attempts that got no welcome, until it polls
const SEEK_FIRST = 2_000, SEEK_BASE = 60_000, SEEK_CAP = 900_000; // ms of polling until a WebSocket is tried
const POLL_WAIT = 25; // s, the server's most
const POLL_AGAIN = 30_000; // ms until a message that was not acknowledged is shown again
const POLL_PAUSE = 5_000; // ms for acknowledgements before the next poll

/** Throw it in getToken to end the client instead of trying again. */
export class StopError extends Error {}

/**
 * Connects and stays connected until close() or a code that says stop.
 * @param {Options} options
 * @returns {Newswire}
 */
export function connect(options) {
  return new Client(options);
}

class Client {
  #options; // fixed, as are the next two
  #url; // of the WebSocket
  #inbox;
  #listening = new AbortController(); // ends the page's event listeners
  /** @type {StateChange["state"]} */ #state = "connecting";
  /** @type {Socket|Poller|null} */ #transport = null; // null unless opening or open
  #round = 0; // counts connections; what belongs to an earlier one is ignored
  #failures = 0; // attempts since the last steady connection
  #blocked = 0; // attempts in a row that brought no WebSocket through
  #seekIn = SEEK_FIRST; // perhaps the server was just away
  #onlineSince = 0;
  #heardAt = 0;
  #notBefore = 0; // the server asked not to come back earlier
  #bye = null; // the server's last words on this connection
  #away = false; // the page is in the back-forward cache
  #welcomed = false; // the server has taken follow and mute of the options
  /** @type {Subscriptions} */ #sets = { follow: [], mute: [] };
  #timers = {}; // by purpose: retry, welcome, silence, pong, refresh, acks, socket
  #requests = []; // changes of subscriptions without an answer, in order
  #refs = 0;

  /** @param {Options} options */
  constructor(options) {
    this.#options = options;
    this.#url = socketURL(options.url);
    this.#inbox = new Inbox(options, () => this.#acksWait());
    this.#listen();
    // Behind a microtask, so that no callback runs before connect has returned.
    queueMicrotask(() => this.#open());
  }

  get state() { return this.#state; }

  get transport() {
    if (this.#state !== "online") return null;
    return this.#transport instanceof Poller ? "polling" : "websocket";
  }

  get subscriptions() { return this.#sets; }

  /** @param {string[]} tags */
  follow(tags) { return this.#request("follow", tags); }
  /** @param {string[]} tags */
  unfollow(tags) { return this.#request("unfollow", tags); }
  /** @param {string[]} tags */
  mute(tags) { return this.#request("mute", tags); }
  /** @param {string[]} tags */
  unmute(tags) { return this.#request("unmute", tags); }

  /** @param {string|string[]} ids */
  ack(ids) {
    for (const id of [ids].flat()) this.#inbox.handled(id);
  }

  close() {
    this.#sendAcks();
    this.#stop({ reason: "closed" });
  }

  // ---- connection -------------------------------------------------------

  async #open() {
    if (this.#state === "stopped" || this.#away) return;
    const round = ++this.#round;
    this.#clearTimers();
    this.#connecting();
    const token = await this.#token(round);
    if (round !== this.#round) return;
    const poll = !globalThis.WebSocket || this.#blocked >= BLOCKED_AFTER;
    if (!poll) return this.#begin(Socket, token);
    if (token) return this.#begin(Poller, token);
    this.#blocked = 0; // who has no token has nothing to poll with
    if (globalThis.WebSocket) this.#begin(Socket, token);
    else this.#stop({ reason: "this browser has no WebSocket, and polling needs a token" });
  }

  #connecting() {
    // Fetching the token counts too: a getToken that hangs must not end it all.
    this.#timer("welcome", WELCOME_WAIT, () => this.#lost({ reason: "no welcome in time" }));
    this.#enter({ state: "connecting" });
  }

  /** A current token; where there is none, round is over when it settles. */
  async #token(round, tolerate) {
    try {
      return await this.#options.getToken?.();
    } catch (err) {
      if (round !== this.#round) return;
      if (err instanceof StopError) this.#stop({ reason: err.message });
      else if (!tolerate) this.#lost({ reason: `getToken: ${err?.message ?? err}` });
    }
  }

  /** Says hello over a transport; open is a socket that is there already. */
  #begin(Transport, token, open) {
    this.#inbox.belongTo(this.#url, token, this.#options.follow);
    const hello = { type: "hello" };
    if (token) hello.token = token;
    if (this.#inbox.cursor) hello.after = this.#inbox.cursor;
    // Its stored sets count from then on; of a reader without a token it keeps none.
    const sets = !this.#welcomed ? this.#options : token ? {} : this.#sets;
    if (sets.follow) hello.follow = sets.follow;
    if (sets.mute) hello.mute = sets.mute;
    if (tooLong(JSON.stringify(hello))) {
      return this.#stop({ reason: "hello is over 16 KiB: follow fewer tags at once" });
    }
    const round = this.#round;
    const mine = (handle) => (value) => round === this.#round && handle(value);
    try {
      this.#transport = new Transport(
        this.#url, hello, mine((frame) => this.#receive(frame)), mine((why) => this.#lost(why)), open);
    } catch (err) { // a page that may open no WebSocket at all
      this.#blocked++;
      this.#lost({ reason: err.message });
    }
  }

  /** Does not wait for the close, which a dead network delays. */
  #drop() {
    this.#transport?.close();
    this.#transport = this.#bye = null;
    this.#round++;
    this.#clearTimers();
    for (const request of this.#requests) request.sent = false;
    this.#inbox.repeatAcks();
    if (this.#onlineSince && Date.now() - this.#onlineSince >= STEADY) this.#failures = 0;
    this.#onlineSince = 0;
  }

  /** @param {{code?: number, reason?: string, retryMs?: number}} why */
  #lost(why) {
    if (this.#state === "stopped") return;
    if (this.#bye) why = this.#bye;
    if (why.retryMs) this.#notBefore = Date.now() + why.retryMs;
    if (!this.#onlineSince && this.#transport) {
      if (this.#transport instanceof Poller) this.#blocked = BLOCKED_AFTER - 1; // nothing works: take turns
      else if ((why.code ?? 1006) === 1006) this.#blocked++; // no word of the server's
    }
    this.#drop();
    if (why.code === FORGOTTEN) this.#inbox.forget();
    if (why.code >= 4500 && why.code <= 4999) return this.#stop(why);
    const ceiling = Math.min(BACKOFF_CAP, BACKOFF_BASE * 2 ** this.#failures++);
    const retryInMs = Math.max(Math.random() * ceiling, this.#notBefore - Date.now());
    const { code, reason } = why;
    this.#enter({ state: "offline", code, reason, retryInMs: Math.round(retryInMs) });
    this.#timer("retry", retryInMs, () => this.#open());
  }

  #stop(why) {
    const { code, reason } = why;
    if (this.#state === "stopped") return;
    this.#drop();
    this.#listening.abort();
    this.#enter({ state: "stopped", code, reason });
    for (const { reject } of this.#requests.splice(0)) reject(failure("stopped", reason));
  }

  /** @param {StateChange} change */
  #enter(change) {
    this.#state = change.state;
    tell(this.#options.onState, change);
  }

  /** While it polls. */
  #seekSocket(wait) {
    const round = this.#round;
    this.#timer("socket", wait, () => {
      this.#seekIn = Math.min(Math.max(2 * this.#seekIn, SEEK_BASE), SEEK_CAP);
      const later = () => round === this.#round && this.#seekSocket(this.#seekIn);
      let socket;
      try {
        socket = new WebSocket(this.#url, SUBPROTOCOL);
      } catch {
        return later();
      }
      socket.onclose = later;
      socket.onopen = async () => {
        const token = await this.#token(round, true);
        if (round !== this.#round || !token) return socket.close();
        this.#sendAcks();
        this.#drop();
        this.#connecting();
        this.#begin(Socket, token, socket);
      };
    });
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
      this.#sendAcks();
      this.#drop();
      this.#enter({ state: "offline", reason: "the page is hidden" });
    });
    on(window, "pageshow", () => {
      this.#away = false;
      this.#wake();
    });
  }

  /** Page or network are back: connect at once, or see whether the connection lives. */
  #wake() {
    if (this.#state === "offline") {
      const wait = this.#notBefore - Date.now();
      if (wait > 0) this.#timer("retry", wait, () => this.#open());
      else this.#open();
    } else if (this.#state === "online") {
      this.#ping("no answer after waking up");
      if (this.transport === "polling" && globalThis.WebSocket) this.#seekSocket(0);
    }
  }

  #ping(reason) {
    this.#transport.send({ type: "ping" });
    this.#timer("pong", PONG_WAIT, () => {
      this.#lost({ reason });
      this.#wake();
    });
  }

  /** A page does not see the server's pings, and a dead network closes nothing. */
  #listenFor(every) {
    const left = this.#heardAt + 2 * every - Date.now();
    if (left <= 0) this.#ping("the server has fallen silent");
    this.#timer("silence", left > 0 ? left : every, () => this.#listenFor(every));
  }

  // ---- frames -----------------------------------------------------------

  #receive(frame) {
    clearTimeout(this.#timers.pong); // whatever comes shows that the connection lives
    this.#heardAt = Date.now();
    switch (frame.type) {
      case "welcome": return this.#welcome(frame);
      case "message": return this.#inbox.take(frame);
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
    if (this.transport === "websocket") {
      this.#blocked = 0;
      this.#seekIn = SEEK_FIRST;
    } else if (globalThis.WebSocket) {
      this.#seekSocket(this.#seekIn);
    }
    this.#refreshAt(frame.expires);
    this.#listenFor(frame.ping_ms ?? PING_EVERY);
    const after = this.#inbox.resumed(frame.resume);
    this.#sendRequests();
    this.#sendAcks();
    // The page's callbacks come last: they may close the connection.
    this.#enter({ state: "online", transport: this.transport, welcome: frame });
    this.#told(frame);
    if (frame.resume === "gap") tell(this.#options.onGap, { after });
  }

  #refreshAt(expires) {
    const left = Date.parse(expires) - Date.now();
    if (Number.isNaN(left)) return; // a reader without a token has no expiry
    const wait = Math.max(left - REFRESH_AHEAD, left / 2, 5_000);
    if (wait > TIMER_CAP) return this.#timer("refresh", TIMER_CAP, () => this.#refreshAt(expires));
    this.#timer("refresh", wait, async () => {
      const round = this.#round;
      const token = await this.#token(round, true);
      if (round !== this.#round) return;
      if (token) this.#transport.send({ type: "token", token });
      else this.#refreshAt(expires); // the present token still holds
    });
  }

  #acksWait() {
    if (this.#state !== "online") return; // the next welcome sends them
    if (this.#inbox.acks.size >= ACKS_PER_FRAME) this.#sendAcks();
    else if (this.#inbox.acks.size === 1) this.#timer("acks", ACK_DELAY, () => this.#sendAcks());
  }

  #sendAcks() {
    if (this.#state !== "online") return;
    for (const ids of this.#inbox.takeAcks()) this.#transport.send({ type: "ack", ids });
  }

  // ---- subscriptions ----------------------------------------------------

  #request(type, tags) {
    return new Promise((resolve, reject) => {
      if (this.#state === "stopped") return reject(failure("stopped", "the client has stopped"));
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
      if (!request.sent) this.#transport.send(request.frame);
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
    tell(this.#options.onSubscriptions, this.#sets);
  }

  // ---- timers -----------------------------------------------------------

  #timer(name, ms, fire) {
    clearTimeout(this.#timers[name]);
    this.#timers[name] = setTimeout(fire, ms);
  }

  #clearTimers() {
    for (const name in this.#timers) clearTimeout(this.#timers[name]);
  }
}

/** What came and became of it: shows each message once, keeps acks and cursor. */
class Inbox {
  acks = new Set(); // to be sent
  /** @type {string|null} */ cursor = null; // everything up to here is handled
  #options;
  #acksWait; // called when acks grows
  #key = ""; // the cursor's, in storage
  #floor = ""; // up to here the server takes us for informed: only repeats can come
  #handled = new Set(); // ids, oldest first
  #unhandled = new Map(); // id -> whether its handler runs; oldest first
  #newest = ""; // the highest handled id
  #sentAcks = []; // {id, at}: sent on this or the last connection, lately

  constructor(options, acksWait) {
    this.#options = options;
    this.#acksWait = acksWait;
  }

  /** Cursor and memory are the reader's own: another reader's would skip news. */
  belongTo(url, token, follow) {
    // Readers without a token are told apart by what their page follows.
    const key = `newswire ${url} ${claims(token).sub ?? `: ${follow ?? ""}`}`;
    if (key === this.#key) return;
    this.#key = key;
    this.#newest = this.#floor = "";
    this.#sentAcks = [];
    for (const memory of [this.#handled, this.#unhandled, this.acks]) memory.clear();
    this.cursor = this.#stored((storage) => storage.getItem(key));
  }

  resumed(how) {
    const after = this.cursor;
    if (how === "complete") this.#floor = after ?? "";
    if (how === "gap") this.forget();
    return after;
  }

  forget() {
    this.cursor = null;
    this.#floor = this.#newest = "";
    this.#stored((storage) => storage.removeItem(this.#key));
  }

  /** @param {Message} message */
  async take(message) {
    const { id } = message;
    // The ack was lost or is on its way.
    if (id <= this.#floor || this.#handled.has(id)) return this.#ack(id);
    if (this.#unhandled.get(id)) return; // its handler will decide
    this.#unhandled.set(id, true);
    if (this.#unhandled.size > UNHANDLED) this.#unhandled.delete(this.#unhandled.keys().next().value);
    let acked = false;
    const ack = () => {
      if (!acked) this.handled(id);
      acked = true;
    };
    try {
      await this.#options.onMessage(message, { ack });
      if (this.#options.ack !== "manual") ack();
    } catch (err) {
      report(err); // not acknowledged: the server sends it again
    }
    if (this.#unhandled.has(id)) this.#unhandled.set(id, false);
  }

  handled(id) {
    this.#unhandled.delete(id);
    this.#handled.add(id);
    if (this.#handled.size > REMEMBERED) this.#handled.delete(this.#handled.values().next().value);
    if (id > this.#newest) this.#newest = id;
    // A cursor beyond something unhandled would make the server skip it.
    if (!this.#unhandled.size && this.#newest > (this.cursor ?? "")) this.#advance(this.#newest);
    this.#ack(id);
  }

  /** Another tab of this reader may be further. */
  #advance(cursor) {
    this.cursor = cursor;
    this.#stored((storage) => {
      if (!(storage.getItem(this.#key) > cursor)) storage.setItem(this.#key, cursor);
    });
  }

  /** Storage can be full or forbidden; then the cursor lives as long as the page. */
  #stored(use) {
    try {
      const { storage } = this.#options;
      return use(storage === undefined ? window.localStorage : storage) ?? null;
    } catch {
      return null;
    }
  }

  #ack(id) {
    this.acks.add(id);
    this.#acksWait();
  }

  /** In portions for frames. */
  takeAcks() {
    const ids = [...this.acks], at = Date.now();
    this.acks.clear();
    this.#sentAcks = this.#sentAcks.filter((ack) => at - ack.at < REPEAT_ACKS);
    for (const id of ids) this.#sentAcks.push({ id, at });
    const frames = [];
    for (let i = 0; i < ids.length; i += ACKS_PER_FRAME) frames.push(ids.slice(i, i + ACKS_PER_FRAME));
    return frames;
  }

  /** The last acks may be lost with the connection; acking twice does no harm. */
  repeatAcks() {
    const now = Date.now();
    for (const { id, at } of this.#sentAcks) if (now - at < REPEAT_ACKS) this.acks.add(id);
    this.#sentAcks = [];
  }
}

/** Carries frames over a WebSocket. */
class Socket {
  #socket;

  constructor(url, hello, receive, ended, open) {
    const socket = (this.#socket = open ?? new WebSocket(url, SUBPROTOCOL));
    const begin = () => this.send(hello);
    if (open) begin();
    else socket.onopen = begin;
    socket.onmessage = ({ data }) => receive(JSON.parse(data));
    socket.onclose = ({ code, reason }) => ended({ code, reason });
  }

  send(frame) {
    if (this.#socket.readyState === WebSocket.OPEN) this.#socket.send(JSON.stringify(frame));
  }

  close() {
    this.#socket.close(1000);
  }
}

/** Speaks the frames of a session over HTTP, where no WebSocket gets through. */
class Poller {
  #base;
  #token;
  #receive;
  #ended;
  #closed = new AbortController();
  #welcomed = false;
  #shown = new Map(); // id -> when, of what is not acknowledged
  /** @type {(value?: unknown) => void} */ #goOn = () => {}; // ends a pause
  #requests = Promise.resolve(); // the last of them

  constructor(url, hello, receive, ended) {
    this.#base = url.replace("ws", "http").replace(/ws$/, "");
    this.#token = hello.token;
    this.#receive = receive;
    this.#ended = ended;
    this.#run(hello).catch((err) => this.#fail(err));
  }

  async #run({ follow, mute }) {
    let sets = await this.#ask("GET", "subscriptions"), refusal;
    if (follow || mute) {
      try {
        sets = await this.#ask("PUT", "subscriptions", { follow: follow ?? sets.follow, mute: mute ?? sets.mute });
      } catch (err) { // as over a WebSocket: the sets stay as they are
        if (err.fatal) throw err;
        refusal = err;
      }
    }
    this.#welcomed = true;
    this.#receive({ type: "welcome", resume: "none", expires: expiry(this.#token), ...sets });
    if (refusal) this.#receive({ type: "error", code: refusal.code, message: refusal.message });
    for (;;) await this.#poll();
  }

  /** What is not acknowledged comes with every poll, and is shown again now and then. */
  async #poll() {
    const began = Date.now();
    const limit = Math.min(1000, 100 + this.#shown.size);
    const answer = await this.#ask("GET", `poll?ack=manual&wait=${POLL_WAIT}&limit=${limit}`);
    const now = Date.now(), shown = this.#shown;
    this.#receive({ type: "pong" });
    this.#shown = new Map();
    for (const message of answer?.messages ?? []) {
      const before = shown.get(message.id) ?? 0, again = now - before >= POLL_AGAIN;
      this.#shown.set(message.id, again ? now : before);
      if (again) this.#receive(message);
    }
    if (answer) await this.#pause(POLL_PAUSE);
    else if (now - began < 1000) await this.#pause(1000); // something on the way does not wait
  }

  #pause(ms) {
    return new Promise((goOn) => {
      this.#goOn = goOn;
      setTimeout(goOn, ms);
    });
  }

  send(frame) {
    // Acks leave with their page; other requests keep their order.
    if (frame.type === "ack") this.#answer(frame).catch((err) => this.#fail(err));
    else this.#requests = this.#requests.then(() => this.#answer(frame)).catch((err) => this.#fail(err));
  }

  async #answer({ type, ref, tags, ids, token }) {
    switch (type) {
      case "ack":
        await this.#ask("POST", "ack", { ids });
        return this.#goOn();
      case "token":
        this.#token = token;
        return this.#receive({ type, expires: expiry(token) });
      case "ping":
        await this.#ask("GET", "subscriptions");
        return this.#receive({ type: "pong" });
    }
    try {
      this.#receive({ type: "subscriptions", ref, ...(await this.#ask("PATCH", "subscriptions", { [type]: tags })) });
    } catch (err) {
      if (err.fatal) throw err;
      this.#receive({ type: "error", ref, code: err.code, message: err.message });
    }
  }

  /** Gives the answer's body; null of an empty one. Its error is fatal where the frame is not to blame. */
  async #ask(method, path, body) {
    const headers = { Authorization: `Bearer ${this.#token}` };
    if (body) headers["Content-Type"] = "application/json";
    const response = await fetch(this.#base + path, {
      method, headers, body: body && JSON.stringify(body),
      cache: "no-store", keepalive: method === "POST", signal: method === "POST" ? null : this.#closed.signal,
    }).catch((err) => { throw failure(undefined, `polling: ${err.message}`, { fatal: true }); });
    if (response.status === 204) return null;
    const answer = await response.json().catch(() => ({}));
    if (response.ok && (answer.follow || answer.messages)) return answer;
    const { status } = response;
    throw failure(answer.code, answer.detail ?? `polling: HTTP status ${status}`, {
      fatal: ![403, 422].includes(status) || answer.code === "forbidden", status,
      retryMs: 1000 * (Number(response.headers.get("Retry-After")) || 0),
    });
  }

  #fail({ status, code, message: reason, retryMs }) {
    if (this.#closed.signal.aborted) return;
    if (code === "forbidden") this.#ended({ code: 4503, reason: code });
    else if (status !== 401) this.#ended({ reason, retryMs });
    else if (this.#welcomed) this.#ended({ code: 4001, reason: "token_expired" });
    else this.#ended({ code: 4501, reason: "unauthorized" });
  }

  close() {
    this.#closed.abort();
    this.#goOn();
  }
}

function socketURL(url) {
  const address = new URL(url, location.href);
  address.protocol = address.protocol.replace("http", "ws");
  address.pathname = address.pathname.replace(/(\/v1\/ws)?\/*$/, "/v1/ws");
  return address.href;
}

/** What a token says, unverified: whose cursor it is, and when to refresh. */
function claims(token) {
  try {
    const payload = token.split(".")[1].replaceAll("-", "+").replaceAll("_", "/");
    const { sub, exp } = JSON.parse(atob(payload));
    return { sub: encodeURIComponent(sub), exp };
  } catch {
    return {};
  }
}

function expiry(token) {
  const { exp } = claims(token);
  return exp && new Date(exp * 1000).toISOString();
}

function tooLong(text) {
  return new TextEncoder().encode(text).length > FRAME_LIMIT;
}

function failure(code, message, more) {
  return Object.assign(new Error(message), { code, ...more });
}

/** A fault in the page's callback is the page's. */
function tell(callback, value) {
  try {
    callback?.(value);
  } catch (err) {
    report(err);
  }
}

/** Reaches window.onerror and the console, as an uncaught error does. */
function report(err) {
  (globalThis.reportError ?? console.error)(err);
}

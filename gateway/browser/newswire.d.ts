// The browser client of Newswire.
//
// onMessage gets every message that the server has for this reader, and a
// message is acknowledged only after onMessage has settled for it. If it throws,
// or its promise rejects, the message is not acknowledged and the server sends
// it again. What onMessage has handled is not shown to it twice: not after a
// reconnect, and not after a reload. Handlers are started in the order of
// arrival; those that return promises may overlap.
//
// The client has no dependencies, loads nothing and needs no eval. Under a strict
// Content-Security-Policy the page allows its file in script-src, and the
// gateway in connect-src as wss: and as https:.

/** What became of one row. */
export interface Message<Data = Record<string, unknown>, Key = Record<string, unknown>> {
  type: "message";
  /** 28 hexadecimal digits that sort in commit order. */
  id: string;
  /** `correct` and `retract` are about an article that was published with the same source and key. */
  action: "publish" | "correct" | "retract";
  tags: string[];
  /** The table, `schema.table`. */
  source: string;
  /** The row's primary key. */
  key: Key;
  /** When the row was committed, RFC 3339. */
  time: string;
  /** 1, 2, 3 … of this message to this reader. Later ones may come behind newer messages. */
  attempt: number;
  /** True when it comes from the journal, after a reconnect or by a poll. */
  replay: boolean;
  /** The row's columns; the key's alone of a retraction, and where `truncated` is set. */
  data: Data;
  /** The row was too large. */
  truncated?: boolean;
}

export interface Subscriptions {
  follow: string[];
  mute: string[];
}

/** The server's first word on a connection. */
export interface Welcome extends Subscriptions {
  type: "welcome";
  session?: string;
  reader?: string;
  /** `gap`: older news than the server keeps may be missing. */
  resume: "none" | "complete" | "gap";
  ack_timeout_ms?: number;
  ping_ms?: number;
  /** When the token expires, RFC 3339. */
  expires?: string;
}

export type State = "connecting" | "online" | "offline" | "stopped";

/** `polling` where no WebSocket gets through: the same news, by HTTP requests. */
export type Transport = "websocket" | "polling";

export interface StateChange {
  state: State;
  /** offline, stopped: the close code that led here. */
  code?: number;
  /** offline, stopped: why, in words. */
  reason?: string;
  /** offline: milliseconds until the next attempt. */
  retryInMs?: number;
  /** online. */
  transport?: Transport;
  /** online. */
  welcome?: Welcome;
}

/** What lies behind `after` is no longer kept by the server, or not known to it: reload from the site. */
export interface Gap {
  after: string;
}

export interface Control {
  /** Acknowledges the message before the handler has settled, or with `ack: "manual"` at all. */
  ack(): void;
}

/** As much of Web Storage as the client uses. */
export interface CursorStorage {
  getItem(key: string): string | null;
  setItem(key: string, value: string): void;
  removeItem(key: string): void;
}

export interface Options<Data = Record<string, unknown>, Key = Record<string, unknown>> {
  /** The gateway, as http(s) or ws(s), with or without /v1/ws. */
  url: string | URL;
  /**
   * Gives a current token for each connection, and before the present one
   * expires. Throw a StopError to give up for good; after any other error it is
   * asked again. Without it the reader is anonymous.
   */
  getToken?: () => string | Promise<string>;
  /** Replaces the reader's stored follows at the first connection. */
  follow?: readonly string[];
  /** Replaces the reader's stored mutes at the first connection. */
  mute?: readonly string[];
  onMessage: (message: Message<Data, Key>, control: Control) => unknown;
  /** Told while a WebSocket connects; polling has no cursor to miss anything behind. */
  onGap?: (gap: Gap) => void;
  onState?: (change: StateChange) => void;
  /** The sets as the server tells them, also when another tab or device has changed them. */
  onSubscriptions?: (sets: Subscriptions) => void;
  /**
   * Keeps the cursor over a reload, for each gateway and reader: localStorage by
   * default; null keeps it as long as the page. Where storage is full or forbidden
   * it is kept as long as the page, too.
   */
  storage?: CursorStorage | null;
  /**
   * `manual`: only control.ack() and ack(ids) acknowledge, and what is not
   * acknowledged comes to onMessage again with a higher attempt.
   */
  ack?: "auto" | "manual";
}

/** What a change of the subscriptions is refused with. */
export interface Refusal extends Error {
  /** The server's, such as `tag_forbidden`; or `stopped`, `frame_too_big`. */
  code: string;
}

export interface Newswire {
  readonly state: State;
  /** null unless online. */
  readonly transport: Transport | null;
  /** As the server last told them. */
  readonly subscriptions: Subscriptions;
  /**
   * These four settle with the server's answer: resolved once the change is in
   * effect, rejected with a Refusal. What is asked for while there is no
   * connection is sent, in order, once there is one.
   */
  follow(tags: readonly string[]): Promise<Subscriptions>;
  unfollow(tags: readonly string[]): Promise<Subscriptions>;
  mute(tags: readonly string[]): Promise<Subscriptions>;
  unmute(tags: readonly string[]): Promise<Subscriptions>;
  /** Acknowledges messages. */
  ack(ids: string | readonly string[]): void;
  /** Ends the connection for good. Acknowledgements that wait are sent first. */
  close(): void;
}

/** Throw it in getToken to end the client instead of trying again. */
export class StopError extends Error {}

/** Connects and stays connected until close(), or a code that says stop. */
export function connect<Data = Record<string, unknown>, Key = Record<string, unknown>>(
  options: Options<Data, Key>,
): Newswire;

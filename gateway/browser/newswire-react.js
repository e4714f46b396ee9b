// newswire-react.js: the browser client as a React hook.
// newswire-react.d.ts says what it takes and gives.

import { useEffect, useMemo, useRef, useSyncExternalStore } from "react";
import { connect } from "./newswire.js";

const NOTHING = { articles: [], status: { state: "offline" }, gap: null, subscriptions: { follow: [], mute: [] } };

export function useNewswire(options) {
  const latest = useRef(options);
  const { url, reader, enabled = true, follow, mute } = options;
  const address = String(url);
  const store = useMemo(() => new Store(latest), [address, reader, enabled]);
  useEffect(() => void (latest.current = options));
  useEffect(() => (enabled ? store.open() : undefined), [store, enabled]);
  useEffect(() => store.change("follow", "unfollow", follow), [store, JSON.stringify(follow)]);
  useEffect(() => store.change("mute", "unmute", mute), [store, JSON.stringify(mute)]);
  const snapshot = useSyncExternalStore(store.subscribe, store.snapshot, () => NOTHING);
  return useMemo(() => ({ ...snapshot, ...store.actions }), [snapshot, store]);
}

/** One connection's news, in snapshots that do not change. */
class Store {
  #options; // the component's, as rendered last
  #client = null; // while it is mounted
  #state = NOTHING;
  #listeners = new Set();
  #ranks = new WeakMap(); // listed message -> id of the first one of its article
  #gone = new Map(); // article -> id of its retraction, which a repeat must not undo
  #wanted = { follow: undefined, mute: undefined }; // as told to the server

  constructor(options) {
    this.#options = options;
    this.actions = Object.fromEntries(["follow", "unfollow", "mute", "unmute"].map((change) => [
      change, (tags) => this.#client?.[change](tags) ?? Promise.reject(new Error("not connected: the component is not mounted, or enabled is false")),
    ]));
    this.actions.ack = (ids) => this.#client?.ack(ids);
  }

  subscribe = (listener) => {
    this.#listeners.add(listener);
    return () => this.#listeners.delete(listener);
  };

  snapshot = () => this.#state;

  #set(change) {
    this.#state = { ...this.#state, ...change };
    for (const listener of this.#listeners) listener();
  }

  open() {
    const current = () => this.#options.current;
    const { url, follow, mute, storage, ack, getToken } = current();
    this.#wanted = { follow, mute };
    this.#client = connect({
      url, follow, mute, storage, ack,
      getToken: getToken && (() => current().getToken?.()),
      onMessage: (message, control) => this.#take(message, control),
      onGap: (gap) => {
        this.#set({ gap });
        current().onGap?.(gap);
      },
      onState: (status) => {
        this.#set({ status });
        current().onState?.(status);
      },
      onSubscriptions: (subscriptions) => {
        this.#set({ subscriptions });
        current().onSubscriptions?.(subscriptions);
      },
    });
    return () => {
      this.#client.close();
      this.#client = null;
    };
  }

  /** Tells the server what has changed since the last rendering. */
  change(add, drop, tags = []) {
    const before = this.#wanted[add] ?? [];
    this.#wanted[add] = tags;
    const added = tags.filter((tag) => !before.includes(tag));
    const dropped = before.filter((tag) => !tags.includes(tag));
    if (added.length) this.#client?.[add](added).catch(report);
    if (dropped.length) this.#client?.[drop](dropped).catch(report);
  }

  async #take(message, control) {
    await this.#options.current.onMessage?.(message, control);
    const name = message.source + JSON.stringify(message.key);
    const known = this.#state.articles.find((other) => nameOf(other) === name);
    if (known?.id >= message.id || this.#gone.get(name) >= message.id) return; // overtaken
    const articles = this.#state.articles.filter((other) => other !== known);
    if (message.action === "retract") {
      this.#gone.set(name, message.id);
      if (this.#gone.size > 1000) this.#gone.delete(this.#gone.keys().next().value);
    } else {
      const rank = this.#ranks.get(known) ?? message.id; // a correction stays where its article stood
      this.#ranks.set(message, rank);
      const place = articles.findIndex((other) => this.#ranks.get(other) < rank);
      articles.splice(place < 0 ? articles.length : place, 0, message);
    }
    const limit = this.#options.current.limit ?? 100;
    this.#set({ articles: articles.slice(0, limit) });
  }
}

function nameOf({ source, key }) {
  return source + JSON.stringify(key);
}

function report(err) {
  if (err.code !== "stopped") (globalThis.reportError ?? console.error)(err);
}

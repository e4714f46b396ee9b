// A React hook over the browser client.

import type { Gap, Message, Newswire, Options, StateChange, Subscriptions } from "./newswire.js";

export interface NewswireOptions<Data = Record<string, unknown>, Key = Record<string, unknown>>
  extends Omit<Options<Data, Key>, "onMessage"> {
  /** Called for each message before it is listed and acknowledged; if it fails, neither is done. */
  onMessage?: Options<Data, Key>["onMessage"];
  /** Who reads: another value connects anew, with an empty list. */
  reader?: string;
  /** false: no connection. */
  enabled?: boolean;
  /** Articles that are listed; 100 by default. */
  limit?: number;
}

export interface NewswireView<Data = Record<string, unknown>, Key = Record<string, unknown>>
  extends Pick<Newswire, "follow" | "unfollow" | "mute" | "unmute" | "ack"> {
  /** Newest first, each as it was published or corrected last; what was retracted is gone. */
  articles: readonly Message<Data, Key>[];
  status: StateChange;
  /** The last gap: load the page's articles anew from the site. */
  gap: Gap | null;
  subscriptions: Subscriptions;
}

/**
 * Connects while the component is mounted, and anew when url, reader or enabled
 * changes. A changed follow or mute is told to the server as a difference.
 * Callbacks may change with each rendering.
 */
export function useNewswire<Data = Record<string, unknown>, Key = Record<string, unknown>>(
  options: NewswireOptions<Data, Key>,
): NewswireView<Data, Key>;

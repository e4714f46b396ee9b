// Web Push for readers whose page is closed.

/** Why push cannot be had. */
export class PushError extends Error {
  constructor(code: PushError["code"], message: string);
  code: "unsupported" | "denied" | "unconfigured" | "refused" | "unavailable";
}

export interface PushOptions {
  /** The devices API of newswire compensate. */
  url: string | URL;
  /** Gives the reader's current token. */
  getToken: () => string | Promise<string>;
  /** The service worker on this origin; /newswire-sw.js by default. */
  worker?: string | URL;
  /** Of the texts; the page's by default. */
  language?: string;
  /** Of the quiet hours; the browser's by default. */
  timeZone?: string;
  /** Such as {from: "22:00", to: "07:00"}. */
  quietHours?: { from: string; to: string };
}

/**
 * Subscribes this browser and registers it for the reader; gives the device as
 * the service keeps it. The first call asks the reader for permission, so it
 * belongs to a click.
 */
export function enablePush(options: PushOptions): Promise<object>;

/** Ends it: at the service first, so that nothing is sent to nobody. */
export function disablePush(options: PushOptions): Promise<void>;

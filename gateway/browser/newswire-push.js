// newswire-push.js: Web Push for readers whose page is closed.
//
//   import { enablePush } from "https://gateway.example.com/newswire-push.js";
//   button.onclick = () => enablePush({
//     url: "https://devices.example.com", // newswire compensate
//     getToken: async () => (await fetch("/my/newswire-token")).text(),
//     worker: "/newswire-sw.js",
//   });
//
// The first call asks the reader for permission, so it belongs to a click. Call
// it again whenever a page loads with the permission given: it tells the service
// the whole state, whatever browser or service have forgotten meanwhile.

/** Why push cannot be had. */
export class PushError extends Error {
  /**
   * @param {"unsupported"|"denied"|"unconfigured"|"refused"|"unavailable"} code
   * @param {string} message
   */
  constructor(code, message) {
    super(message);
    this.name = "PushError";
    this.code = code;
  }
}

/**
 * @typedef {object} PushOptions
 * @property {string|URL} url  the devices API of newswire compensate
 * @property {() => (string|Promise<string>)} getToken  gives the reader's current token
 * @property {string|URL} [worker]  the service worker on this origin; /newswire-sw.js by default
 * @property {string} [language]  of the texts; the page's by default
 * @property {string} [timeZone]  of the quiet hours; the browser's by default
 * @property {{from: string, to: string}} [quietHours]  such as {from: "22:00", to: "07:00"}
 */

/**
 * Subscribes this browser and registers it for the reader.
 * @param {PushOptions} options
 * @returns {Promise<object>} the device as the service keeps it
 */
export async function enablePush(options) {
  if (!("serviceWorker" in navigator) || !("PushManager" in window) || !("Notification" in window)) {
    throw new PushError("unsupported", "this browser has no Web Push");
  }
  if ((await Notification.requestPermission()) !== "granted") {
    throw new PushError("denied", "the reader does not want notifications");
  }
  const key = await publicKey(options);
  const subscription = (await subscribe(await install(options.worker ?? "/newswire-sw.js"), key)).toJSON();
  return call(options, "PUT", "", {
    channel: "webpush",
    address: subscription.endpoint,
    keys: subscription.keys,
    language: options.language ?? (document.documentElement.lang || navigator.language),
    time_zone: options.timeZone ?? Intl.DateTimeFormat().resolvedOptions().timeZone,
    quiet_hours: options.quietHours,
  });
}

/**
 * Ends it: at the service first, so that nothing is sent to nobody.
 * @param {PushOptions} options
 */
export async function disablePush(options) {
  const registration = await navigator.serviceWorker.getRegistration(options.worker ?? "/newswire-sw.js");
  const subscription = await registration?.pushManager.getSubscription();
  if (!subscription) return;
  await call(options, "DELETE", "?" + new URLSearchParams({ channel: "webpush", address: subscription.endpoint }));
  await subscription.unsubscribe();
}

/** Gives the registration once its worker runs: only then can it subscribe. */
async function install(script) {
  let registration;
  try {
    registration = await navigator.serviceWorker.register(script);
  } catch (err) {
    throw new PushError("unavailable", `the service worker could not be loaded: ${err.message}`);
  }
  const worker = registration.installing ?? registration.waiting;
  if (registration.active || !worker) return registration;
  await new Promise((resolve, reject) => {
    worker.addEventListener("statechange", () => {
      if (worker.state === "activated") resolve();
      if (worker.state === "redundant") reject(new PushError("unavailable", "the service worker could not be installed"));
    });
  });
  return registration;
}

async function subscribe({ pushManager }, key) {
  const options = { userVisibleOnly: true, applicationServerKey: key };
  const present = await pushManager.getSubscription();
  if (present) {
    if (same(present.options.applicationServerKey, key)) return present;
    await present.unsubscribe(); // made for another key, under which the service cannot send
  }
  try {
    return await pushManager.subscribe(options);
  } catch (err) {
    throw new PushError("unavailable", `the browser's push service gives no subscription: ${err.message}`);
  }
}

function same(buffer, key) {
  if (!buffer || buffer.byteLength !== key.length) return false;
  return new Uint8Array(buffer).every((byte, i) => byte === key[i]);
}

/** The service's VAPID key, as bytes. */
async function publicKey(options) {
  const { channels = [] } = await call(options, "GET", null);
  const text = channels.find(({ name }) => name === "webpush")?.public_key;
  if (!text) throw new PushError("unconfigured", "the service sends no Web Push");
  const binary = atob(text.replaceAll("-", "+").replaceAll("_", "/"));
  return Uint8Array.from(binary, (c) => c.charCodeAt(0));
}

/** Asks the devices API; path null asks which channels there are, which needs no token. */
async function call(options, method, query, body) {
  const address = new URL(query === null ? "/v1/channels" : "/v1/devices" + query, options.url);
  const headers = {};
  if (query !== null) headers.Authorization = "Bearer " + (await options.getToken());
  if (body) headers["Content-Type"] = "application/json";
  let answer;
  try {
    answer = await fetch(address, { method, headers, body: body && JSON.stringify(body) });
  } catch (err) {
    throw new PushError("unavailable", `the service does not answer: ${err.message}`);
  }
  const content = answer.status === 204 ? {} : await answer.json().catch(() => ({}));
  if (!answer.ok) throw new PushError("refused", content.detail ?? `the service answers ${answer.status}`);
  return content;
}

// newswire-sw.js: the service worker that shows what newswire compensate
// pushes to a reader whose page is closed.
//
// A service worker comes from the site's own origin. Where that is not the
// gateway's, the site serves a file with one line:
//
//   importScripts("https://gateway.example.com/newswire-sw.js");
//
// Its pages subscribe with newswire-push.js. The message is JSON, {title, body,
// url, tag, id, count}: shown under its tag, so that a repeat and a correction take
// the place of what is shown, silently. A tap opens url, in the page that shows
// it already or in a new one; only http and https are opened.
"use strict";

/** What a push carries, whatever its bytes are: browsers want something shown. */
function contentOf(data) {
  let sent = {};
  try {
    sent = data?.json() ?? {};
  } catch {
    sent = { body: data.text() }; // none of ours: shown as it came
  }
  const text = (value) => (typeof value === "string" ? value : "");
  return {
    title: text(sent.title) || new URL(self.registration.scope).host,
    options: {
      body: text(sent.body),
      tag: text(sent.tag),
      data: { url: addressOf(text(sent.url)), id: text(sent.id), count: Number(sent.count) || 1 },
    },
  };
}

/** The address to open: the site itself where there is none that may be opened. */
function addressOf(url) {
  const { scope } = self.registration;
  try {
    const address = new URL(url || scope, scope);
    return /^https?:$/.test(address.protocol) ? address.href : scope;
  } catch {
    return scope;
  }
}

/** Shows the page in a tab that has it, or in a new one. */
async function open(url) {
  const pages = await self.clients.matchAll({ type: "window", includeUncontrolled: true });
  const there = pages.find((page) => page.url === url);
  return there ? there.focus() : self.clients.openWindow(url);
}

/** A browser may replace a subscription by itself: pages tell the new one when they load. */
async function renew(event) {
  const options = event.oldSubscription?.options;
  if (!event.newSubscription && options) {
    await self.registration.pushManager.subscribe({ userVisibleOnly: true, applicationServerKey: options.applicationServerKey });
  }
  for (const page of await self.clients.matchAll({ type: "window", includeUncontrolled: true })) {
    page.postMessage({ type: "newswire.subscription" });
  }
}

self.addEventListener("push", (event) => {
  const { title, options } = contentOf(event.data);
  event.waitUntil(self.registration.showNotification(title, options));
});

self.addEventListener("notificationclick", (event) => {
  event.notification.close();
  event.waitUntil(open(addressOf(event.notification.data?.url)));
});

self.addEventListener("pushsubscriptionchange", (event) => event.waitUntil(renew(event)));

// Nothing is cached, so a new version has nothing to wait for.
self.addEventListener("install", (event) => event.waitUntil(self.skipWaiting()));
self.addEventListener("activate", (event) => event.waitUntil(self.clients.claim()));

// The page that the tests drive: it records every callback of the client, and
// gives the tests a hand on its clock.
import * as newswire from "/newswire.js";

const events = []; // {kind, …} in the order they came
const waiting = []; // {match, resolve}

function record(event) {
  events.push(event);
  for (const { match, resolve } of waiting) if (match(event)) resolve(event);
}

// The tests shrink time instead of waiting for it; except the 15 s in which a
// welcome must come, so that a slow machine is not taken for a dead server.
const setTimer = window.setTimeout.bind(window);
window.timeScale = 1;
window.setTimeout = (fire, ms) => setTimer(fire, ms === 15_000 ? ms : ms * window.timeScale);

window.addEventListener("error", (event) => record({ kind: "error", message: event.message }));
document.addEventListener("securitypolicyviolation", (event) =>
  record({ kind: "violation", blocked: event.blockedURI }));

window.events = events;
window.record = record;
window.StopError = newswire.StopError;

/** Resolves with the first event, past or to come, that fits. */
window.until = (match) => new Promise((resolve) => {
  const found = events.find(match);
  if (found) resolve(found);
  else waiting.push({ match, resolve });
});

/** Connects with the given options over recording callbacks. */
window.open_ = (options) => {
  window.client = newswire.connect({
    url: location.origin,
    getToken: () => window.token,
    onMessage: (message) => record({ kind: "message", id: message.id, attempt: message.attempt }),
    onState: (change) => record({ kind: "state", ...change }),
    onGap: (gap) => record({ kind: "gap", ...gap }),
    onSubscriptions: (sets) => record({ kind: "sets", ...sets }),
    ...options,
  });
};

/** What became of a promise, as plain values. */
window.outcome = (promise) => promise.then(
  (value) => ({ value }),
  (err) => ({ code: err.code, message: err.message }),
);

// The readers' telephones: what the compensation service has sent to them; and
// this browser as one more device, by Web Push.

const EVERY = 1000; // ms between looks

/**
 * @param {() => string[]} readers  names on the page
 * @param {string} devices  address of the devices API
 */
export function startPhones(readers, devices) {
  const list = document.getElementById("phones");
  const phones = new Map(); // name -> its element

  function phone(name) {
    if (phones.has(name)) return phones.get(name);
    const element = document.getElementById("phone").content.cloneNode(true).firstElementChild;
    element.dataset.phone = name;
    element.querySelector("h3").textContent = name;
    const button = element.querySelector(".subscribe");
    const said = element.querySelector(".said");
    button.hidden = !("PushManager" in window && "serviceWorker" in navigator);
    button.addEventListener("click", async () => {
      button.disabled = true;
      said.textContent = "";
      try {
        await subscribe(name, devices);
        said.textContent = "This browser is notified too.";
      } catch (err) {
        said.textContent = `Not subscribed: ${err.message}`;
      }
      button.disabled = false;
    });
    phones.set(name, element);
    list.append(element);
    return element;
  }

  async function look() {
    const names = readers();
    for (const [name, element] of phones) {
      if (names.includes(name)) continue;
      element.remove();
      phones.delete(name);
    }
    const query = names.map((name) => `reader=${encodeURIComponent(name)}`).join("&");
    const response = await fetch(`/demo/phones?${query}`);
    if (!response.ok) throw new Error(`status ${response.status}`);
    const { phones: shown } = await response.json();
    for (const name of names) show(phone(name), shown[name] ?? []);
  }

  async function again() {
    if (document.visibilityState === "visible") await look().catch(() => {}); // the readers' cards tell that it is down
    setTimeout(again, EVERY);
  }
  again();
}

function show(element, notes) {
  element.querySelector(".notes").replaceChildren(...notes.map(({ title, body, url, at }) => {
    const line = document.createElement("li");
    const headline = document.createElement(url ? "a" : "span");
    headline.className = "headline";
    headline.textContent = title;
    if (/^https?:/.test(url ?? "")) {
      headline.href = url;
      headline.rel = "noreferrer";
      headline.target = "_blank";
    }
    const text = document.createElement("div");
    text.className = "note";
    text.textContent = [new Date(at).toLocaleTimeString(), body].filter(Boolean).join(" · ");
    line.append(headline, text);
    return line;
  }));
}

/** Makes this browser a device of the reader, as a site's page would. */
async function subscribe(name, devices) {
  const { enablePush } = await import("/newswire-push.js");
  await enablePush({
    url: devices,
    getToken: async () => {
      const answer = await (await fetch(`/demo/token?reader=${encodeURIComponent(name)}`)).json();
      return answer.token;
    },
  });
}

package browser_test

import (
	"encoding/json"
	"fmt"
	"net/http"
	"net/http/httptest"
	"net/url"
	"strings"
	"sync"
	"testing"

	"newswire/gateway/browser"
	"newswire/gateway/browser/browsertest"
)

const vapidKey = "BP4z9KsN6nGRTbVYI_c7VJSPQTBtkgcy27mlmlMoZIIgDll6e3vCYLocInmYWAmS6TlzAC8wEqKK6PBru3jl7A8"

// channelsWith is the service's answer about its channels.
func channelsWith(key string) string {
	return `{"channels":[{"name":"apns"},{"name":"webpush","public_key":"` + key + `"}]}`
}

// site is a site with Web Push, and the devices API beside it.
type site struct {
	*browsertest.Tab
	url string

	mu       sync.Mutex // guards the rest
	requests []string   // of the devices API: method, address, body
	channels string     // what GET /v1/channels answers
	status   int        // of the devices API
}

// openSite loads an empty page of a site that serves the scripts.
func openSite(t *testing.T) *site {
	t.Helper()
	s := &site{status: http.StatusOK, channels: channelsWith(vapidKey)}
	mux := http.NewServeMux()
	for path, script := range map[string][]byte{"/newswire-sw.js": browser.Worker, "/newswire-push.js": browser.Push, "/sw.js": []byte(`importScripts("/newswire-sw.js");`)} {
		mux.HandleFunc("GET "+path, func(w http.ResponseWriter, r *http.Request) {
			w.Header().Set("Content-Type", "text/javascript")
			_, _ = w.Write(script)
		})
	}
	mux.HandleFunc("GET /v1/channels", func(w http.ResponseWriter, r *http.Request) {
		s.mu.Lock()
		defer s.mu.Unlock()
		fmt.Fprint(w, s.channels)
	})
	mux.HandleFunc("/v1/devices", s.devices)
	mux.HandleFunc("GET /{$}", func(w http.ResponseWriter, r *http.Request) {
		fmt.Fprint(w, `<!doctype html><html lang="de-AT"><title>News</title><script type="module">
			import * as push from "/newswire-push.js"; window.push = push;
			window.outcome = (p) => p.then((value) => ({value}), (err) => ({code: err.code, message: err.message}));</script>`)
	})
	server := httptest.NewServer(mux)
	t.Cleanup(server.Close)
	s.url, s.Tab = server.URL, browsertest.Open(t)
	s.Load(s.url + "/")
	return s
}

func (s *site) devices(w http.ResponseWriter, r *http.Request) {
	var body json.RawMessage
	_ = json.NewDecoder(r.Body).Decode(&body)
	s.mu.Lock()
	defer s.mu.Unlock()
	s.requests = append(s.requests, fmt.Sprintf("%s %s %s %s", r.Method, r.URL.RequestURI(), r.Header.Get("Authorization"), body))
	w.WriteHeader(s.status)
	if r.Method == http.MethodPut {
		fmt.Fprint(w, `{"id":"7","channel":"webpush","detail":"the endpoint leads nowhere"}`)
	}
}

// answers says what the devices API does from now on.
func (s *site) answers(status int, channels string) {
	s.mu.Lock()
	defer s.mu.Unlock()
	s.status, s.channels = status, channels
}

func (s *site) asked() []string {
	s.mu.Lock()
	defer s.mu.Unlock()
	return append([]string(nil), s.requests...)
}

// notification is one that the browser shows.
type notification struct {
	Title, Body, Tag string
	Data             struct {
		URL   string
		ID    string
		Count int
	}
}

// shown is what the browser shows, by title.
func (s *site) shown() []notification {
	return browsertest.Eval[[]notification](s.Tab, `navigator.serviceWorker.ready.then((r) => r.getNotifications()).then((all) =>
		all.map(({title, body, tag, data}) => ({title, body, tag, data})).sort((a, b) => (a.title < b.title ? -1 : 1)))`)
}

func (s *site) register(worker string) {
	browsertest.Eval[bool](s.Tab, fmt.Sprintf(`navigator.serviceWorker.register(%q).then(() => navigator.serviceWorker.ready).then(() => true)`, worker))
}

func TestAPushedMessageIsShownWithTitleAndLink(t *testing.T) {
	t.Parallel()
	for _, worker := range []string{"/newswire-sw.js", "/sw.js"} {
		s := openSite(t)
		s.Permit(s.url)
		s.register(worker)
		s.Push(s.url, `{"title":"Hafen gesperrt","body":"Seit 9 Uhr ’ruht der Verkehr","url":"https://news.example.com/42","tag":"a42","id":"0001","count":1}`)
		got := s.shown()
		if len(got) != 1 || got[0].Title != "Hafen gesperrt" || got[0].Body != "Seit 9 Uhr ’ruht der Verkehr" || got[0].Tag != "a42" ||
			got[0].Data.URL != "https://news.example.com/42" || got[0].Data.ID != "0001" {
			t.Errorf("%s: shown is %+v", worker, got)
		}
		// A correction takes the place of what it corrects; another article does not.
		s.Push(s.url, `{"title":"Other","tag":"a43","url":"/43"}`)
		s.Push(s.url, `{"title":"Hafen wieder offen","tag":"a42","url":"https://news.example.com/42"}`)
		if got := s.shown(); len(got) != 2 || got[0].Title != "Hafen wieder offen" || got[1].Title != "Other" || got[1].Data.URL != s.url+"/43" {
			t.Errorf("%s: behind the correction, shown are %+v", worker, got)
		}
	}
}

func TestWhateverIsPushedSomethingSafeIsShown(t *testing.T) {
	t.Parallel()
	s := openSite(t)
	s.Permit(s.url)
	s.register("/newswire-sw.js")
	for _, data := range []string{"", "no JSON", "null", "7", "[1]", `{"title":7,"url":{},"tag":[]}`, `{"url":"javascript:alert(1)"}`, `{"url":"https://["}`, `{"url":"data:text/html,x"}`} {
		s.Push(s.url, data)
		got := s.shown()
		if len(got) != 1 || !strings.HasPrefix(got[0].Title, "127.0.0.1:") || got[0].Data.URL != s.url+"/" || strings.Contains(data, "no JSON") != (got[0].Body == data) && data != "" {
			t.Errorf("%s: shown is %+v", data, got)
		}
		browsertest.Eval[int](s.Tab, `navigator.serviceWorker.ready.then((r) => r.getNotifications()).then((all) => all.map((n) => n.close()).length)`)
	}
}

// tap runs the worker in a scope of the test's making and taps a notification.
const tap = `(async (url, pages) => {
	const handlers = {}, calls = [];
	const scope = {
		registration: {scope: location.origin + "/"},
		addEventListener: (type, handler) => (handlers[type] = handler),
		clients: {
			matchAll: async () => pages.map((url) => ({url, focus: () => calls.push("focus " + url)})),
			openWindow: async (url) => calls.push("open " + url),
		},
	};
	new Function("self", await (await fetch("/newswire-sw.js")).text())(scope);
	let done;
	handlers.notificationclick({waitUntil: (p) => (done = p), notification: {close: () => calls.push("close"), data: {url}}});
	await done;
	return calls.join(", ");
})`

func TestATapOpensTheArticle(t *testing.T) {
	t.Parallel()
	s := openSite(t)
	for _, test := range []struct{ url, pages, want string }{
		{"https://news.example.com/42", `[]`, "close, open https://news.example.com/42"},
		{"https://news.example.com/42", `["https://news.example.com/41", "https://news.example.com/42"]`, "close, focus https://news.example.com/42"},
		{"/42", `[]`, "close, open " + s.url + "/42"},
		{"javascript:alert(1)", `[]`, "close, open " + s.url + "/"},
		{"", `[]`, "close, open " + s.url + "/"},
	} {
		if got := browsertest.Eval[string](s.Tab, fmt.Sprintf("%s(%q, %s)", tap, test.url, test.pages)); got != test.want {
			t.Errorf("a tap on %q with %s: %s, want %s", test.url, test.pages, got, test.want)
		}
	}
}

func TestAReplacedSubscriptionIsToldToThePages(t *testing.T) {
	t.Parallel()
	s := openSite(t)
	got := browsertest.Eval[string](s.Tab, `(async () => {
		const handlers = {}, calls = [];
		const scope = {
			registration: {scope: location.origin + "/", pushManager: {subscribe: async (o) => calls.push("subscribe " + o.userVisibleOnly + o.applicationServerKey)}},
			addEventListener: (type, handler) => (handlers[type] = handler),
			clients: {matchAll: async () => [{postMessage: (m) => calls.push(m.type)}]},
		};
		new Function("self", await (await fetch("/newswire-sw.js")).text())(scope);
		const event = async (e) => { let done; handlers.pushsubscriptionchange({...e, waitUntil: (p) => (done = p)}); await done; };
		await event({oldSubscription: {options: {applicationServerKey: "KEY"}}});
		await event({newSubscription: {}, oldSubscription: {options: {applicationServerKey: "KEY"}}});
		await event({});
		return calls.join(", ");
	})()`)
	if want := "subscribe trueKEY, newswire.subscription, newswire.subscription, newswire.subscription"; got != want {
		t.Errorf("%s, want %s", got, want)
	}
}

// result is what became of enablePush or disablePush.
type result struct {
	Code, Message string
	Value         struct{ ID string }
}

func (s *site) enable(more string) result {
	return browsertest.Eval[result](s.Tab, `outcome(push.enablePush({url: location.origin, getToken: async () => "t1", timeZone: "Europe/Vienna", quietHours: {from: "22:00", to: "07:00"}`+more+`}))`)
}

// fakePushService stands in for the browser's own, which is on the internet.
const fakePushService = `
	window.subscriptions = [];
	const subscription = (key, n) => ({
		options: {applicationServerKey: key}, endpoint: "https://push.example.com/" + n,
		toJSON: () => ({endpoint: "https://push.example.com/" + n, keys: {p256dh: "P", auth: "A"}}),
		unsubscribe: async () => { window.current = null; window.subscriptions.push("gone " + n); return true; },
	});
	window.current = null;
	PushManager.prototype.getSubscription = async () => window.current;
	PushManager.prototype.subscribe = async ({userVisibleOnly, applicationServerKey}) => {
		const n = window.subscriptions.push(userVisibleOnly + " " + applicationServerKey.byteLength);
		return window.current = subscription(applicationServerKey.buffer.slice(0), n);
	};`

func TestABrowserIsRegisteredWithItsWholeState(t *testing.T) {
	t.Parallel()
	s := openSite(t)
	s.Permit(s.url)
	s.Do(fakePushService)
	for range 2 { // as on every load of the page
		if r := s.enable(""); r.Code != "" || r.Value.ID != "7" {
			t.Fatalf("%+v", r)
		}
	}
	want := `PUT /v1/devices Bearer t1 {"channel":"webpush","address":"https://push.example.com/1","keys":{"p256dh":"P","auth":"A"},` +
		`"language":"de-AT","time_zone":"Europe/Vienna","quiet_hours":{"from":"22:00","to":"07:00"}}`
	if got := s.asked(); len(got) != 2 || got[0] != want || got[1] != want {
		t.Errorf("the devices API got\n%s\nwant twice\n%s", strings.Join(got, "\n"), want)
	}
	if got := browsertest.Eval[string](s.Tab, `subscriptions.join()`); got != "true 65" {
		t.Errorf("the browser was subscribed by %s", got)
	}
	// The service has another key now: the old subscription is of no use.
	s.answers(http.StatusOK, channelsWith("BB"+vapidKey[2:]))
	if r := s.enable(""); r.Code != "" {
		t.Fatalf("%+v", r)
	}
	if got := browsertest.Eval[string](s.Tab, `subscriptions.join()`); got != "true 65,gone 1,true 65" {
		t.Errorf("with another key: %s", got)
	}
	if r := browsertest.Eval[result](s.Tab, `outcome(push.disablePush({url: location.origin, getToken: () => "t1"}))`); r.Code != "" {
		t.Fatalf("%+v", r)
	}
	got := s.asked()
	if last := got[len(got)-1]; last != "DELETE /v1/devices?channel=webpush&address="+url.QueryEscape("https://push.example.com/3")+" Bearer t1 " {
		t.Errorf("the devices API got %q", last)
	}
	if got := browsertest.Eval[bool](s.Tab, `current === null`); !got {
		t.Error("the browser is still subscribed")
	}
}

func TestWhyPushCannotBeHadIsTold(t *testing.T) {
	t.Parallel()
	s := openSite(t)
	s.Forbid(s.url)
	if r := s.enable(""); r.Code != "denied" {
		t.Errorf("a reader who does not want: %+v", r)
	}
	s.Permit(s.url)
	// Chromium's own push service cannot be reached from here.
	if r := s.enable(""); r.Code != "unavailable" || !strings.Contains(r.Message, "push service") {
		t.Errorf("without a push service: %+v", r)
	}
	s.Do(fakePushService)
	s.answers(http.StatusUnprocessableEntity, channelsWith(vapidKey))
	if r := s.enable(""); r.Code != "refused" || r.Message != "the endpoint leads nowhere" {
		t.Errorf("refused by the service: %+v", r)
	}
	if r := s.enable(`, worker: "/nothing.js"`); r.Code != "unavailable" || len(s.asked()) != 1 {
		t.Errorf("without a worker: %+v", r)
	}
	s.answers(http.StatusOK, `{"channels":[]}`)
	if r := s.enable(""); r.Code != "unconfigured" {
		t.Errorf("a service without Web Push: %+v", r)
	}
	if r := s.enable(`, url: "http://127.0.0.1:9"`); r.Code != "unavailable" {
		t.Errorf("a service that is not there: %+v", r)
	}
}

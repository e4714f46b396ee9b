package browser_test

import (
	"encoding/json"
	"fmt"
	"slices"
	"strings"
	"testing"

	"github.com/robertkrimen/otto"
	"github.com/robertkrimen/otto/parser"

	"newswire/gateway/browser"
)

// oldBrowser runs newswire-poll.js where there is ECMAScript 5 and nothing else:
// no promise, no fetch, no module. Its XMLHttpRequest and setTimeout only note
// what they were asked for; the test answers, and lets time pass.
type oldBrowser struct {
	t  *testing.T
	vm *otto.Otto
}

const oldWindow = `
var window = this, requests = [], timers = [], shown = [], errors = [], refuse = "";
function XMLHttpRequest() { this.headers = {}; this.readyState = 0; requests.push(this); }
XMLHttpRequest.prototype.open = function (method, path) { this.method = method; this.path = path.replace(/&at=\d+$/, ""); };
XMLHttpRequest.prototype.setRequestHeader = function (name, value) { this.headers[name] = value; };
XMLHttpRequest.prototype.getResponseHeader = function () { return this.retryAfter; };
XMLHttpRequest.prototype.send = function (body) { this.body = body; };
XMLHttpRequest.prototype.abort = function () { this.aborted = true; };
function setTimeout(f, ms) { timers.push({f: f, ms: ms}); return timers.length; }
function clearTimeout(n) { if (n) timers[n - 1] = null; }
function answer(status, text, retryAfter) {
	var xhr = requests.shift();
	xhr.readyState = 4; xhr.status = status; xhr.responseText = text; xhr.retryAfter = retryAfter;
	xhr.onreadystatechange();
}
function elapse() { var timer = timers.pop(); timers = []; timer.f(); return timer.ms; }
`

func newOldBrowser(t *testing.T, before, options string) *oldBrowser {
	t.Helper()
	b := &oldBrowser{t, otto.New()}
	b.run(oldWindow + before)
	b.run(string(browser.Poll))
	b.run(`var client = newswirePoll({
		token: "t0k", every: 30,
		onMessage: function (m) { if (m.id === refuse) { throw new Error("not now"); } shown.push(m.id); },
		onError: function (text) { errors.push(text); }` + options + `})`)
	return b
}

func (b *oldBrowser) run(script string) otto.Value {
	b.t.Helper()
	v, err := b.vm.Run(script)
	if err != nil {
		b.t.Fatalf("%.80s…: %v", script, err)
	}
	return v
}

// asked wants the one request that is open.
func (b *oldBrowser) asked(want string) {
	b.t.Helper()
	got := b.run(`requests.length === 1 ? requests[0].method + " " + requests[0].path + " " + (requests[0].body || "-") + " " + requests[0].headers.Authorization : requests.length`).String()
	if got != want+" Bearer t0k" {
		b.t.Fatalf("asked for %s, want %s", got, want)
	}
}

func (b *oldBrowser) answer(status int, text string) {
	b.t.Helper()
	quoted, _ := json.Marshal(text)
	b.run(fmt.Sprintf("answer(%d, %s, null)", status, quoted))
}

// elapse lets the time until the next request pass, and tells it in seconds.
func (b *oldBrowser) elapse() float64 {
	b.t.Helper()
	if n := b.run("requests.length + (timers.length ? 0 : 100)").String(); n != "0" {
		b.t.Fatalf("it does not wait (%s)", n)
	}
	ms, _ := b.run("elapse()").ToFloat()
	return ms / 1000
}

func (b *oldBrowser) shown(want ...string) {
	b.t.Helper()
	got := strings.Split(b.run(`shown.join(" ")`).String(), " ")
	if !slices.Equal(got, want) && (len(want) > 0 || got[0] != "") {
		b.t.Errorf("shown are %q, want %q", got, want)
	}
}

func batch(ids ...string) string {
	var messages []string
	for _, id := range ids {
		messages = append(messages, fmt.Sprintf(`{"type":"message","id":%q,"data":{"title":"\"quoted\" 新聞"}}`, id))
	}
	return `{"messages":[` + strings.Join(messages, ",") + `],"next":"` + ids[len(ids)-1] + `"}`
}

const question = "GET /v1/poll?ack=manual&wait=0 -"

// Nothing in the script is newer than ECMAScript 5.
func TestPollingScriptIsReadByOldBrowsers(t *testing.T) {
	if _, err := parser.ParseFile(nil, "newswire-poll.js", string(browser.Poll), 0); err != nil {
		t.Errorf("newswire-poll.js is no ECMAScript 5: %v", err)
	}
	for _, newer := range []string{"let a = 1", "const a = 1", "(a) => a", "`a`", "async function a() {}", "class A {}", "for (var a of b) {}"} {
		if _, err := parser.ParseFile(nil, "", newer, 0); err == nil {
			t.Errorf("%q is taken for ECMAScript 5", newer)
		}
	}
}

func TestOldBrowserShowsOnceAndThenAcknowledges(t *testing.T) {
	b := newOldBrowser(t, "", `, follow: ["tech", "\"odd\""]`)
	b.asked(`PATCH /v1/subscriptions {"follow":["tech","\"odd\""]}`)
	b.answer(200, `{"follow":[],"mute":[]}`)
	b.asked(question)
	b.answer(204, "")
	if s := b.elapse(); s < 26 || s > 34 {
		t.Errorf("it asks again after %v s, want about 30", s)
	}
	b.asked(question)
	b.answer(200, batch("a", "b"))
	b.shown("a", "b")
	b.asked(`POST /v1/ack {"upto":"b"}`)
	b.answer(503, "") // the acknowledgement did not get through
	b.elapse()
	b.answer(200, batch("a", "b", "c"))
	b.shown("a", "b", "c")
	b.asked(`POST /v1/ack {"upto":"c"}`)
	b.answer(204, "")
	b.elapse()
	b.asked(question)
	b.answer(1223, "") // a 204 of Internet Explorer 8
	b.elapse()
	b.run("client.stop()")
	if b.run("requests[0].aborted").String() != "true" {
		t.Error("stop leaves a request open")
	}
}

func TestOldBrowserGetsAgainWhatThePageCouldNotShow(t *testing.T) {
	b := newOldBrowser(t, `refuse = "b";`, "")
	b.answer(200, batch("a", "b", "c"))
	b.shown("a")
	b.asked(`POST /v1/ack {"upto":"a"}`)
	b.answer(204, "")
	b.run(`refuse = ""`)
	b.elapse()
	b.answer(200, batch("b", "c"))
	b.shown("a", "b", "c")
	b.asked(`POST /v1/ack {"upto":"c"}`)
}

func TestOldBrowserAsksLessOftenWhileNobodyAnswers(t *testing.T) {
	b := newOldBrowser(t, "", "")
	for _, want := range []float64{30, 60, 120, 240, 300, 300} {
		b.answer(0, "")
		if s := b.elapse(); s < want*0.89 || s > want*1.11 {
			t.Errorf("it asks again after %v s, want about %v", s, want)
		}
	}
	b.run(`answer(429, "", "900")`)
	if s := b.elapse(); s < 800 {
		t.Errorf("told to wait 900 s it asks after %v", s)
	}
	b.answer(200, "<html>")
	b.elapse()
	b.answer(204, "")
	if s := b.elapse(); s > 34 {
		t.Errorf("when it is answered again it asks after %v s, want about 30", s)
	}
}

func TestOldBrowserWithoutJSONReadsNothingElse(t *testing.T) {
	b := newOldBrowser(t, "var kept = JSON; delete this.JSON; var ran = false;", "")
	if b.run("typeof JSON").String() != "undefined" {
		t.Fatal("there is a JSON still")
	}
	b.answer(200, batch("a"))
	b.shown("a")
	b.answer(204, "")
	b.elapse()
	b.answer(200, `{"messages":[(function(){ran=true})()]}`)
	if b.run("ran").String() != "false" || b.run("errors.length").String() != "1" {
		t.Errorf("what is no JSON was run, or not told: %s", b.run("errors.join()"))
	}
}

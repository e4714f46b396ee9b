package gateway

import (
	"compress/gzip"
	"context"
	"errors"
	"fmt"
	"io"
	"net/http"
	"slices"
	"strings"
	"sync/atomic"
	"testing"

	"newswire/gateway/browser"
	"newswire/gateway/gatewaytest"
)

func TestSubscriptionsOverHTTP(t *testing.T) {
	t.Parallel()
	r := newRig(t)
	session := r.join("u1", gatewaytest.Options{})
	for _, step := range []struct {
		method, body string
		status       int
		want         string
		told         bool
	}{
		{"GET", "", 200, `{"follow":[],"mute":[]}`, false},
		{"PUT", `{"follow":["b","a","b"],"mute":["m"]}`, 200, `{"follow":["a","b"],"mute":["m"]}`, true},
		{"GET", "", 200, `{"follow":["a","b"],"mute":["m"]}`, false},
		{"PATCH", `{"follow":["c"],"unfollow":["a"],"mute":["n"],"unmute":["m"]}`, 200, `{"follow":["b","c"],"mute":["n"]}`, true},
		{"PATCH", `{}`, 200, `{"follow":["b","c"],"mute":["n"]}`, false},
		{"PUT", `{"follow":["x"]}`, 200, `{"follow":["x"],"mute":[]}`, true},
		{"DELETE", "", 204, "", false},
		{"GET", "", 200, `{"follow":[],"mute":[]}`, false},
		{"DELETE", "", 204, "", false},
	} {
		told := subscriptions(session)
		got := r.ask("u1", step.method, "/v1/subscriptions", step.body)
		if got.status != step.status || strings.TrimSpace(got.body) != step.want {
			t.Errorf("%s %s: %d %s, want %d %s", step.method, step.body, got.status, got.body, step.status, step.want)
		}
		if step.told {
			r.eventually("the session is told", func() bool { return subscriptions(session) > told })
		}
	}
	endsWith(t, session, endForgotten)
	before := r.publish(1, "x")
	r.join("u1", gatewaytest.Options{}).Sync()
	if got := r.ask("u1", "GET", "/v1/poll", ""); got.status != 204 {
		t.Errorf("a reader who was forgotten and came back gets %s, want nothing (%v)", got.body, before)
	}
	// A row committed after the answer reaches who follows its tag by then.
	r.ask("u2", "PUT", "/v1/subscriptions", `{"follow":["tech"]}`)
	ids := r.publish(1, "tech")
	r.routed()
	r.wantUnread("u2", ids)
}

func TestBadRequestsAreProblems(t *testing.T) {
	t.Parallel()
	r := newRig(t, func(s *settings) { s.Limits.TagsPerReader = 2 })
	limited := "Bearer " + r.token("u2", gatewaytest.Claims{"tags": []string{"tech"}})
	for _, c := range []struct {
		method, path, body string
		status             int
		code               string
	}{
		{"PUT", "/v1/subscriptions", `{"follow":["secret"]}`, 403, "tag_forbidden"},
		{"PATCH", "/v1/subscriptions", `{"follow":["tech","secret"]}`, 403, "tag_forbidden"},
		{"PATCH", "/v1/subscriptions", `{"mute":[""]}`, 422, "bad_tag"},
		{"PATCH", "/v1/subscriptions", `{"mute":["a","b","c"]}`, 422, "too_many_tags"},
		{"PUT", "/v1/subscriptions", `[]`, 400, "bad_body"},
		{"PATCH", "/v1/subscriptions", ``, 400, "bad_body"},
		{"PUT", "/v1/subscriptions", ` null `, 400, "bad_body"},
		{"POST", "/v1/ack", ``, 400, "bad_body"},
		{"POST", "/v1/ack", `{"ids":"x"}`, 400, "bad_body"},
		{"POST", "/v1/ack", `{}`, 400, "bad_body"},
		{"POST", "/v1/ack", `{"id":"` + farID + `"}`, 400, "bad_body"},
		{"POST", "/v1/ack", `{"msg_ids":["` + farID + `"]}`, 400, "bad_body"},
		{"POST", "/v1/ack", `{"ids":null,"upto":""}`, 400, "bad_body"},
		{"POST", "/v1/ack", `{"ids":[]}{}`, 400, "bad_body"},
		{"PUT", "/v1/subscriptions", "{\"follow\":[\"tech\"],\"mute\":[\"\xff\"]}", 400, "bad_body"},
		{"POST", "/v1/ack", "{\"ids\":[\"\xff\"]}", 400, "bad_body"},
		{"PATCH", "/v1/subscriptions", `{"mute":["a\ud800"]}`, 422, "bad_tag"},
		{"PUT", "/v1/subscriptions", `{"follow":["tech"]} and more`, 400, "bad_body"},
		{"PATCH", "/v1/subscriptions", `{"follow":["tech"]}}`, 400, "bad_body"},
		{"GET", "/v1/poll?limit=0", "", 400, "bad_query"},
		{"GET", "/v1/poll?wait=26", "", 400, "bad_query"},
		{"GET", "/v1/poll?ack=Manual", "", 400, "bad_query"},
		{"HEAD", "/v1/poll", "", 405, ""},
		{"GET", "/v1/nothing", "", 404, "not_found"},
		{"GET", "/", "", 404, "not_found"},
		{"POST", "/nothing", "", 404, "not_found"},
		{"GET", "/v1/poll?token=x", "", 400, "token_in_url"},
		{"GET", "/newswire.js?access_token=x", "", 400, "token_in_url"},
	} {
		got := r.ask("", c.method, c.path, c.body, "Authorization", limited)
		if c.code == "" {
			if got.status != c.status {
				t.Errorf("%s %s: status %d, want %d", c.method, c.path, got.status, c.status)
			}
			continue
		}
		if got.status != c.status {
			t.Errorf("%s %s %s:", c.method, c.path, c.body)
		}
		wantProblem(t, got, c.status, c.code)
	}
	if _, sets, _ := r.readers.Get("u2"); len(sets.Follow)+len(sets.Mute) > 0 {
		t.Errorf("refused changes left %v", sets)
	}
	for _, c := range [][2]string{
		{"GET", "/v1/poll"}, {"POST", "/v1/ack"}, {"GET", "/v1/subscriptions"}, {"PUT", "/v1/subscriptions"},
		{"PATCH", "/v1/subscriptions"}, {"DELETE", "/v1/subscriptions"},
	} {
		got := r.ask("", c[0], c[1], "")
		wantProblem(t, got, 401, "unauthorized")
		if !strings.HasPrefix(got.header.Get("WWW-Authenticate"), "Bearer") {
			t.Errorf("%s %s: WWW-Authenticate is %q", c[0], c[1], got.header.Get("WWW-Authenticate"))
		}
	}
}

func TestOtherMethodsAreToldWhichAreTaken(t *testing.T) {
	t.Parallel()
	r := newRig(t)
	for path, want := range map[string]string{
		"POST /v1/poll": "GET", "GET /v1/ack": "POST", "PUT /v1/ack": "POST", "POST /v1/ws": "GET",
		"POST /v1/subscriptions": "GET, PUT, PATCH, DELETE", "DELETE /newswire.js": "GET, HEAD", "BREW /v1/poll": "GET",
	} {
		method, path, _ := strings.Cut(path, " ")
		got := r.ask("u1", method, path, "")
		wantProblem(t, got, 405, "method")
		if allow := got.header.Get("Allow"); allow != want {
			t.Errorf("%s %s: Allow is %q, want %q", method, path, allow, want)
		}
	}
}

func TestAckOverHTTP(t *testing.T) {
	t.Parallel()
	r := newRig(t)
	c := r.join("u1", gatewaytest.Options{Follow: []string{"tech"}, Silent: true})
	r.join("u2", gatewaytest.Options{Follow: []string{"tech"}, Silent: true}).WaitMessages(0)
	ids := r.publish(8, "tech")
	c.WaitMessages(8)
	for _, step := range []struct {
		reader, path, body string
		left               []string
	}{
		{"u1", "?msg_id=" + ids[0] + "&msg_id=" + ids[2] + "&msg_id=" + farID, "", slices.Concat(ids[1:2], ids[3:])},
		{"u1", "?msg_id=abc&msg_id=def", "", slices.Concat(ids[1:2], ids[3:])}, // ids are opaque: these are nobody's
		{"u1", "", `{"ids":["x"]}`, slices.Concat(ids[1:2], ids[3:])},
		{"u1", "", `{"ids":["` + ids[1] + `","` + ids[0] + `"]}`, ids[3:]},
		{"u2", "", `{"ids":["` + ids[7] + `"]}`, ids[3:]},
		{"nobody", "", `{"upto":"` + ids[7] + `"}`, ids[3:]},
		{"u1", "", `{"upto":"` + ids[4] + `"}`, ids[5:]},
		{"u1", "", `{"upto":"` + ids[4] + `","ids":["` + ids[7] + `"]}`, ids[5:7]},
		{"u1", "", `{"upto":"` + farID + `"}`, nil},
		{"u1", "", `{"ids":[],"growth":1}`, nil},
	} {
		if got := r.ask(step.reader, "POST", "/v1/ack"+step.path, step.body); got.status != 204 || got.body != "" {
			t.Errorf("ack %s %s: %d %s, want 204", step.path, step.body, got.status, got.body)
		}
		r.wantUnread("u1", step.left)
	}
	// Over HTTP upto means what was sent to this reader, not what it has never got.
	r.ask("u3", "PUT", "/v1/subscriptions", `{"follow":["tech"]}`)
	more := r.publish(3, "tech")
	r.routed()
	r.ask("u3", "GET", "/v1/poll?limit=1&ack=manual", "")
	r.ask("u3", "POST", "/v1/ack", `{"upto":"`+farID+`"}`)
	r.wantUnread("u3", more[1:])
}

func TestBrowsersOfListedOriginsMayAsk(t *testing.T) {
	t.Parallel()
	r := newRig(t)
	const listed, other = "https://news.example.com", "https://evil.example.com"
	for _, path := range []string{"/v1/poll", "/v1/ack", "/v1/subscriptions", "/newswire.js"} {
		if got := r.ask("u1", "GET", path, "", "Origin", listed).header.Get("Access-Control-Allow-Origin"); got != listed {
			t.Errorf("%s allows origin %q, want the listed one", path, got)
		}
		got := r.ask("u1", "GET", path, "", "Origin", other)
		if allowed := got.header.Get("Access-Control-Allow-Origin"); allowed != "" {
			t.Errorf("%s allows origin %q", path, allowed)
		}
		if !slices.Contains(got.header.Values("Vary"), "Origin") {
			t.Errorf("%s does not vary by origin", path)
		}
	}
	for _, method := range []string{"POST", "PUT", "PATCH", "DELETE"} {
		got := r.ask("", "OPTIONS", "/v1/subscriptions", "", "Origin", listed,
			"Access-Control-Request-Method", method, "Access-Control-Request-Headers", "authorization,content-type")
		h := got.header
		if got.status != 204 || h.Get("Access-Control-Allow-Origin") != listed ||
			!strings.Contains(h.Get("Access-Control-Allow-Methods"), method) ||
			!strings.Contains(h.Get("Access-Control-Allow-Headers"), "Authorization") {
			t.Errorf("preflight for %s: %d %v", method, got.status, h)
		}
	}
	if got := r.ask("", "OPTIONS", "/v1/ack", "", "Origin", other, "Access-Control-Request-Method", "POST"); got.header.Get("Access-Control-Allow-Methods") != "" {
		t.Error("preflight of another origin is allowed")
	}
	refused := r.ask("", "GET", "/v1/poll", "", "Origin", listed)
	inURL := r.ask("", "GET", "/v1/poll?token=x", "", "Origin", listed)
	for status, got := range map[int]reply{401: refused, 400: inURL} {
		if got.status != status || got.header.Get("Access-Control-Allow-Origin") != listed {
			t.Errorf("a page cannot read why it was refused: %d %v, want %d", got.status, got.header, status)
		}
	}
}

func TestScriptsHaveAnETag(t *testing.T) {
	t.Parallel()
	r := newRig(t)
	for path, script := range map[string][]byte{"/newswire.js": browser.Script, "/newswire-push.js": browser.Push, "/newswire-sw.js": browser.Worker} {
		got := r.ask("", "GET", path, "")
		etag := got.header.Get("ETag")
		if got.status != 200 || got.body != string(script) || len(etag) < 4 || !strings.HasPrefix(got.header.Get("Content-Type"), "text/javascript") {
			t.Errorf("%s: %d, %d bytes, ETag %s, %s", path, got.status, len(got.body), etag, got.header.Get("Content-Type"))
		}
		for _, header := range []string{etag, `"x", ` + etag, "W/" + etag} {
			if got := r.ask("", "GET", path, "", "If-None-Match", header); got.status != 304 || got.body != "" {
				t.Errorf("%s: If-None-Match %s: %d with %d bytes, want 304", path, header, got.status, len(got.body))
			}
		}
		if got := r.ask("", "GET", path, "", "If-None-Match", `"old"`); got.status != 200 {
			t.Errorf("%s: an old ETag is answered %d, want 200", path, got.status)
		}
	}
}

func TestScriptsAreCompressedForWhoTakesThat(t *testing.T) {
	t.Parallel()
	r := newRig(t)
	for accept, packed := range map[string]bool{
		"gzip": true, "br, GZIP;q=0.5": true, "deflate, gzip ; q=1.0": true,
		"identity": false, "gzip;q=0": false, "gzip;q=0.0, br": false, "br, *": false, "gzip;q=x": false,
	} {
		got := r.ask("", "GET", "/newswire.js", "", "Accept-Encoding", accept)
		if encoding := got.header.Get("Content-Encoding"); (encoding == "gzip") != packed || !slices.Contains(got.header.Values("Vary"), "Accept-Encoding") {
			t.Errorf("Accept-Encoding %q: Content-Encoding %q, Vary %q", accept, encoding, got.header.Values("Vary"))
		}
		body := got.body
		if packed {
			if len(body) > 8192 {
				t.Errorf("%d bytes compressed", len(body))
			}
			unpacked, err := gzip.NewReader(strings.NewReader(body))
			if err != nil {
				t.Fatal(err)
			}
			raw, err := io.ReadAll(unpacked)
			if err != nil {
				t.Fatal(err)
			}
			body = string(raw)
		}
		if body != string(browser.Script) {
			t.Errorf("Accept-Encoding %q: the script comes as something else", accept)
		}
		if again := r.ask("", "GET", "/newswire.js", "", "Accept-Encoding", accept, "If-None-Match", got.header.Get("ETag")); again.status != 304 {
			t.Errorf("Accept-Encoding %q: unchanged is answered %d", accept, again.status)
		}
	}
}

func TestSiteIsServedBesideTheGateway(t *testing.T) {
	t.Parallel()
	r := newRig(t, func(s *settings) {
		s.Site = http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) { fmt.Fprint(w, "site ", r.URL.Path) })
	})
	for path, want := range map[string]string{"/": "site /", "/articles/42": "site /articles/42"} {
		if got := r.ask("", "GET", path, ""); got.body != want {
			t.Errorf("%s: %q, want %q", path, got.body, want)
		}
	}
	if got := r.ask("", "GET", "/v1/none", ""); got.status != 404 {
		t.Errorf("what begins with /v1/ is answered %d by the site, want 404", got.status)
	}
}

func TestAReaderIsForgottenWithItsDevicesOrNotAtAll(t *testing.T) {
	t.Parallel()
	var away atomic.Bool
	var told atomic.Int32
	r := newRig(t, func(s *settings) {
		s.Forget = func(_ context.Context, reader string) error {
			if away.Load() {
				return errors.New("the database is away")
			}
			if reader != "u1" {
				t.Errorf("asked to forget %q", reader)
			}
			told.Add(1)
			return nil
		}
	})
	r.ask("u1", "PUT", "/v1/subscriptions", `{"follow":["a"]}`)
	away.Store(true)
	wantProblem(t, r.ask("u1", "DELETE", "/v1/subscriptions", ""), 503, "unavailable")
	if got := r.ask("u1", "GET", "/v1/subscriptions", ""); !strings.Contains(got.body, `"a"`) {
		t.Errorf("half forgotten: %s", got.body)
	}
	away.Store(false)
	if got := r.ask("u1", "DELETE", "/v1/subscriptions", ""); got.status != 204 || told.Load() != 1 {
		t.Errorf("forgotten: %d %s, the devices %d times", got.status, got.body, told.Load())
	}
}

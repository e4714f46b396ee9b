package main

import (
	"bufio"
	"crypto/ed25519"
	"crypto/rand"
	"encoding/base64"
	"encoding/json"
	"fmt"
	"net"
	"net/http"
	"net/http/httptest"
	"slices"
	"strings"
	"testing"
	"time"

	"github.com/golang-jwt/jwt/v5"
	"github.com/gorilla/websocket"

	"newswire/cdc/pgtest"
	"newswire/cmd/newswire/internal/harness"
	"newswire/gateway/gatewaytest"
)

// TestRevokedStaysOutThroughAKill has an identity provider with a JWKS, which
// goes away, and an engine that is killed behind a revocation.
func TestRevokedStaysOutThroughAKill(t *testing.T) {
	t.Parallel()
	public, private, err := ed25519.GenerateKey(rand.Reader)
	if err != nil {
		t.Fatal(err)
	}
	provider := httptest.NewServer(http.HandlerFunc(func(w http.ResponseWriter, _ *http.Request) {
		fmt.Fprintf(w, `{"keys":[{"kty":"OKP","crv":"Ed25519","kid":"k1","x":"%s"}]}`, base64.RawURLEncoding.EncodeToString(public))
	}))
	defer provider.Close()
	e := harness.Start(t, harness.Options{DB: pgtest.New(t), Env: []string{"NEWSWIRE_GATEWAY_AUTH_JWKS_URL=" + provider.URL}})
	with := func(reader, id, kid string) gatewaytest.Options {
		token := jwt.NewWithClaims(jwt.SigningMethodEdDSA, jwt.MapClaims{
			"sub": reader, "jti": id, "iat": time.Now().Add(-time.Minute).Unix(), "exp": time.Now().Add(time.Hour).Unix(),
		})
		token.Header["kid"] = kid
		text, err := token.SignedString(private)
		if err != nil {
			t.Fatal(err)
		}
		return gatewaytest.Options{Token: text}
	}
	stolen, left, stays := with("u1", "stolen", "k1"), with("u2", "t2", "k1"), with("u3", "t3", "k1")
	for _, c := range []struct {
		args []string
		who  gatewaytest.Options
	}{
		{[]string{"--token-id", "stolen", "--expires", time.Now().Add(2 * time.Hour).Format(time.RFC3339)}, stolen},
		{[]string{"--reader", "u2", "--issued-before", "10s"}, left},
	} {
		session := e.Dial("", c.who)
		session.Welcome()
		got := e.Run(append([]string{"revoke"}, c.args...)...)
		if got.Code != exitDone || !strings.Contains(got.Stdout, `"sessions_ended":1`) {
			t.Errorf("revoke %v: code %d, %s%s", c.args, got.Code, got.Stdout, got.Stderr)
		}
		wantEnd(t, session, 4503, "forbidden")
	}
	other := e.Dial("", stays)
	other.Welcome()

	e.Kill()
	provider.Close()
	e.Launch()
	e.AwaitReady() // with the keys that it had
	wantEnd(t, e.Dial("", stolen), 4503, "forbidden")
	wantEnd(t, e.Dial("", left), 4503, "forbidden")
	e.Dial("", stays).Welcome()
	e.Dial("", with("u1", "another", "k1")).Welcome()
	wantEnd(t, e.Dial("", with("u1", "another", "k2")), 4053, "unavailable") // perhaps the provider has it by now
	list := e.Run("revoke", "--list")
	if lines := strings.Count(list.Stdout, "\n"); list.Code != exitDone || lines != 2 || !strings.Contains(list.Stdout, `"token_id":"stolen"`) || !strings.Contains(list.Stdout, `"reader":"u2"`) {
		t.Errorf("revoke --list: code %d, %s%s", list.Code, list.Stdout, list.Stderr)
	}
	if got := e.Run("revoke", "--undo", "--reader", "u2"); got.Code != exitDone {
		t.Errorf("revoke --undo: code %d, %s", got.Code, got.Stderr)
	}
	e.Dial("", left).Welcome()
	if got := e.Run("revoke", "--undo", "--reader", "u2"); got.Code != exitFailed || got.Stderr != "newswire: revoke: no such revocation is in force\n" {
		t.Errorf("revoke --undo twice: code %d, %s", got.Code, got.Stderr)
	}
	e.Stop()
	if got := e.Run("revoke", "--reader", "u3"); got.Code != exitFailed || !strings.Contains(got.Stderr, "start it, and revoke then") {
		t.Errorf("without an engine: code %d, %s", got.Code, got.Stderr)
	}
	e.Restart()
}

func wantEnd(t *testing.T, r *gatewaytest.Reader, code int, reason string) {
	t.Helper()
	if gotCode, gotReason := r.Ended(); gotCode != code || gotReason != reason {
		t.Errorf("the session was closed with %d %q, want %d %q", gotCode, gotReason, code, reason)
	}
}

// TestNoTokenIsEverLogged shows tokens in every way, right and wrong, to an
// engine that logs all it can.
func TestNoTokenIsEverLogged(t *testing.T) {
	t.Parallel()
	db := pgtest.New(t)
	e := harness.Start(t, harness.Options{DB: db, Env: []string{"NEWSWIRE_LOG_LEVEL=debug", "NEWSWIRE_GATEWAY_LIMITS_FRAMES_PER_SECOND=5"}})
	var shown []string // every token that was shown
	token := func(more gatewaytest.Claims) string {
		text := e.Token(fmt.Sprint("u", len(shown)), more)
		shown = append(shown, text)
		return text
	}
	spoilt := func() string { text := token(nil); return text[:len(text)-6] + "AAAAAA" }
	bearer := func(text string) http.Header { return http.Header{"Authorization": {"Bearer " + text}} }

	live := e.Dial("", gatewaytest.Options{Token: token(nil), Follow: []string{"tech"}})
	live.Welcome()
	live.Ask("same", map[string]any{"type": "token", "token": shown[0]})
	live.Ask("other", map[string]any{"type": "token", "token": token(nil)})
	live.Ask("spoilt", map[string]any{"type": "token", "token": spoilt()})
	article(db, "news", "tech")
	live.WaitMessages(1)
	for _, text := range []string{spoilt(), token(gatewaytest.Claims{"exp": 1}), token(gatewaytest.Claims{"sub": "a\nb"})} {
		wantEnd(t, e.Dial("", gatewaytest.Options{Token: text}), 4501, "unauthorized")
	}
	silent := e.Dial("", gatewaytest.Options{NoHello: true, Header: bearer(token(nil))})
	silent.Send([]byte(`{"type":"hello","token":"` + token(nil) + `"`)) // not JSON
	wantEnd(t, silent, 4500, "bad_frame")
	for range 40 { // until it goes over the limit
		if live.SendKind(websocket.TextMessage, []byte(`{"type":"token","token":"`+shown[0]+`"}`)) != nil {
			break
		}
	}
	wantEnd(t, live, 4029, "rate_limited")

	for _, path := range []string{"/v1/ws", "/v1/poll", "/v1/subscriptions", "/v1/nothing", "/newswire.js"} {
		for _, header := range []http.Header{bearer(token(nil)), bearer(spoilt()), {"Authorization": {"Basic " + token(nil)}}, {"Sec-Websocket-Protocol": {"newswire.v1, " + token(nil)}}} {
			for _, query := range []string{"", "?token=" + token(nil), "?access_token=" + token(nil), "?x=" + token(nil)} {
				request(t, "http://"+e.Gateway+path+query, header)
			}
		}
	}
	for _, raw := range []string{
		"GET /v1/poll?token=" + token(nil) + " HTTP/9.9\r\n\r\n",
		"GET /v1/poll HTTP/1.1\r\nAuthorization Bearer " + token(nil) + "\r\n\r\n",
		"\x16\x03\x01" + token(nil) + "\r\n\r\n",
		"GET /v1/ws HTTP/1.1\r\nHost: x\r\nAuthorization: Bearer " + strings.Repeat(token(nil), 200) + "\r\n\r\n",
		"POST /v1/ack?msg_id=" + token(nil) + " HTTP/1.1\r\nHost: x\r\nContent-Length: 9\r\nAuthorization: Bearer " + token(nil) + "\r\n\r\n",
	} {
		exchange(t, e.Gateway, raw)
	}
	e.Run("revoke", "--reader", "u0")
	for _, log := range []string{e.Logs(), fmt.Sprint(e.Status())} {
		for n, text := range shown {
			for i, part := range strings.Split(text, ".") {
				if i > 0 && strings.Contains(log, part[len(part)-20:]) { // the first part is every token's
					t.Errorf("part %d of token %d stands in the log:\n%s", i, n, slices.Collect(linesWith(log, part[len(part)-20:])))
				}
			}
		}
	}
	if !strings.Contains(e.Logs(), "level=DEBUG") {
		t.Error("the engine logged nothing at debug: nothing was proved")
	}
}

func linesWith(text, part string) func(func(string) bool) {
	return func(yield func(string) bool) {
		for line := range strings.Lines(text) {
			if strings.Contains(line, part) && !yield(line) {
				return
			}
		}
	}
}

// request makes one and wants it answered, however.
func request(t *testing.T, url string, header http.Header) {
	t.Helper()
	req, err := http.NewRequest(http.MethodGet, url, nil)
	if err != nil {
		t.Fatal(err)
	}
	req.Header = header
	resp, err := http.DefaultClient.Do(req)
	if err != nil {
		t.Error(err)
		return
	}
	_ = resp.Body.Close()
}

// exchange sends bytes and reads one answer, or the end.
func exchange(t *testing.T, address, raw string) {
	t.Helper()
	conn, err := net.Dial("tcp", address)
	if err != nil {
		t.Fatal(err)
	}
	defer conn.Close()
	if _, err := conn.Write([]byte(raw)); err != nil {
		return // it was closed already
	}
	_ = conn.(*net.TCPConn).CloseWrite()
	_ = conn.SetReadDeadline(time.Now().Add(harness.Patience))
	if resp, err := http.ReadResponse(bufio.NewReader(conn), nil); err == nil {
		_ = resp.Body.Close()
	}
}

// TestRevocationsOverHTTP are what a site's backend makes of them.
func TestRevocationsOverHTTP(t *testing.T) {
	t.Parallel()
	e := harness.Start(t, harness.Options{DB: pgtest.New(t)})
	do := func(method, query, body string, header ...string) (int, string) {
		t.Helper()
		req, err := http.NewRequest(method, "http://"+e.Admin+"/v1/revocations"+query, strings.NewReader(body))
		if err != nil {
			t.Fatal(err)
		}
		for i := 0; i < len(header); i += 2 {
			req.Header.Set(header[i], header[i+1])
		}
		resp, err := http.DefaultClient.Do(req)
		if err != nil {
			t.Fatal(err)
		}
		defer resp.Body.Close()
		var answer json.RawMessage
		_ = json.NewDecoder(resp.Body).Decode(&answer)
		return resp.StatusCode, string(answer)
	}
	for _, c := range []struct {
		method, query, body string
		status              int
		want                string // in the answer
	}{
		{"POST", "", `{"token_id":"a"}`, 200, `{"token_id":"a","sessions_ended":0}`},
		{"POST", "", `{"reader":"u1","issued_before":"2026-01-02T03:04:05Z","expires":"2999-01-01T00:00:00Z"}`, 200, `"issued_before":"2026-01-02T03:04:05Z"`},
		{"POST", "", `{"reader":"u1","before":"2026-01-02T03:04:05Z"}`, 400, `"code":"bad_body"`},
		{"POST", "", `{}`, 400, "name either a token_id or a reader"},
		{"POST", "", `{"token_id":"a","expires":"2020-01-01T00:00:00Z"}`, 400, "lies in the past"},
		{"POST", "", `{"token_id":"` + strings.Repeat("a", 20_000) + `"}`, 400, `"code":"bad_body"`},
		{"GET", "", "", 200, `"token_id":"a"`},
		{"DELETE", "?token_id=a", "", 204, ""},
		{"DELETE", "?token_id=a", "", 404, `"code":"not_found","error":"no such revocation`},
		{"DELETE", "", "", 400, `"code":"bad_revocation"`},
		{"PUT", "", "", 405, ""},
	} {
		if status, answer := do(c.method, c.query, c.body); status != c.status || !strings.Contains(answer, c.want) {
			t.Errorf("%s %s %.60s: %d %s, want %d with %s", c.method, c.query, c.body, status, answer, c.status, c.want)
		}
	}
	// A page that an operator's browser has open cannot revoke, nor take back.
	for _, method := range []string{"POST", "DELETE"} {
		if status, _ := do(method, "?reader=u1", `{"reader":"u1"}`, "Sec-Fetch-Site", "cross-site", "Content-Type", "text/plain"); status != 403 {
			t.Errorf("%s from another site's page: status %d, want 403", method, status)
		}
	}
}

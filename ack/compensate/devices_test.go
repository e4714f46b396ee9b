package compensate

import (
	"encoding/json"
	"errors"
	"fmt"
	"net/http"
	"net/http/httptest"
	"slices"
	"strings"
	"testing"
	"time"

	"newswire/ack/compensate/channel"
	"newswire/ack/compensate/policy"
	"newswire/ack/compensate/store"
	"newswire/cdc/pgtest"
)

func TestDevicesAreTheReadersOwn(t *testing.T) {
	t.Parallel()
	g := newGround(t)
	push := &phone{props: channel.Properties{WithDevices: true, PublicKey: "BKey"}}
	sms := &phone{props: channel.Properties{WithDevices: true}}
	cfg := g.config(map[string]channel.Channel{"webpush": push, "sms": sms, "webhook": new(phone)})
	cfg.Lanes = map[string]Lane{"sms": {BackendOnly: true}}
	s := g.run(cfg)
	body := func(over map[string]any) map[string]any {
		b := map[string]any{"channel": "webpush", "address": "https://push.example/1", "keys": map[string]string{"auth": "a"}, "language": "de",
			"time_zone": "Europe/Vienna", "quiet_hours": map[string]string{"from": "22:00", "to": "07:00"}}
		for k, v := range over {
			b[k] = v
		}
		return b
	}
	for name, c := range map[string]struct {
		method, path, token string
		body                map[string]any
		status              int
		code                string
	}{
		"no token":          {"GET", "/v1/devices", "", nil, 401, "unauthorized"},
		"no keys yet":       {"GET", "/v1/devices", "later", nil, 503, "unavailable"},
		"token in URL":      {"GET", "/v1/devices?token=u1", "", nil, 400, "token_in_url"},
		"another's":         {"GET", "/v1/devices?reader=u2", "u1", nil, 403, "forbidden"},
		"put another's":     {"PUT", "/v1/devices?reader=u2", "u1", body(nil), 403, "forbidden"},
		"delete another's":  {"DELETE", "/v1/devices?reader=u2", "u1", nil, 403, "forbidden"},
		"backend, nobody":   {"GET", "/v1/devices", "backend", nil, 400, "reader_missing"},
		"unknown channel":   {"PUT", "/v1/devices", "u1", body(map[string]any{"channel": "pigeon"}), 422, "unknown_channel"},
		"without devices":   {"PUT", "/v1/devices", "u1", body(map[string]any{"channel": "webhook"}), 422, "unknown_channel"},
		"phone by a reader": {"PUT", "/v1/devices", "u1", body(map[string]any{"channel": "sms", "address": "+431"}), 403, "backend_only"},
		"no address":        {"PUT", "/v1/devices", "u1", body(map[string]any{"address": ""}), 422, "bad_address"},
		"long address":      {"PUT", "/v1/devices", "u1", body(map[string]any{"address": strings.Repeat("x", 2049)}), 422, "bad_address"},
		"control character": {"PUT", "/v1/devices", "u1", body(map[string]any{"address": "a\x00b"}), 422, "bad_address"},
		"bad device":        {"PUT", "/v1/devices", "u1", body(map[string]any{"address": "bad one"}), 422, "bad_device"},
		"zone":              {"PUT", "/v1/devices", "u1", body(map[string]any{"time_zone": "Moon/Crater"}), 422, "bad_quiet_hours"},
		"hours":             {"PUT", "/v1/devices", "u1", body(map[string]any{"quiet_hours": map[string]string{"from": "22:00"}}), 422, "bad_quiet_hours"},
		"not JSON's shape":  {"PUT", "/v1/devices", "u1", body(map[string]any{"address": 7}), 400, "bad_body"},
		"bad id":            {"DELETE", "/v1/devices?id=x", "u1", nil, 400, "bad_id"},
		"misspelt":          {"DELETE", "/v1/devices?adress=x", "u1", nil, 400, "bad_query"},
		"nothing here":      {"GET", "/v1/else", "u1", nil, 404, "not_found"},
	} {
		status, answer := s.ask(t, c.method, c.path, c.token, c.body)
		if status != c.status || answer["code"] != c.code {
			t.Errorf("%s: %d %v, want %d %s", name, status, answer, c.status, c.code)
		}
	}
	if n := pgtest.Value[int](g.db, `SELECT count(*)::int FROM newswire_compensate.devices`); n != 0 {
		t.Fatalf("%d devices after refused requests", n)
	}

	status, first := s.ask(t, "PUT", "/v1/devices", "u1", body(nil))
	if status != 200 || first["id"] == nil || first["keys"] != nil || first["time_zone"] != "Europe/Vienna" {
		t.Fatalf("registered: %d %v", status, first)
	}
	if status, again := s.ask(t, "PUT", "/v1/devices", "u1", body(map[string]any{"language": "en", "quiet_hours": nil})); status != 200 || again["id"] != first["id"] || again["quiet_hours"] != nil || again["language"] != "en" {
		t.Errorf("declared again: %d %v", status, again)
	}
	if status, answer := s.ask(t, "PUT", "/v1/devices?reader=u1", "backend", body(map[string]any{"channel": "sms", "address": "+431"})); status != 200 {
		t.Errorf("the backend registers a phone: %d %v", status, answer)
	}
	if _, answer := s.ask(t, "GET", "/v1/devices", "u1", nil); len(answer["devices"].([]any)) != 2 {
		t.Errorf("u1 has %v", answer)
	}
	// The phone changes hands: the new reader's registration counts.
	if status, _ := s.ask(t, "PUT", "/v1/devices", "u2", body(nil)); status != 200 {
		t.Error("the device cannot change hands")
	}
	if _, answer := s.ask(t, "GET", "/v1/devices", "u1", nil); len(answer["devices"].([]any)) != 1 {
		t.Errorf("after it changed hands, u1 has %v", answer)
	}
	if status, _ := s.ask(t, "DELETE", "/v1/devices", "u1", nil); status != 204 {
		t.Errorf("delete all: %d", status)
	}
	for n := range store.MaxDevices + 5 {
		s.ask(t, "PUT", "/v1/devices", "many", body(map[string]any{"address": fmt.Sprintf("https://push.example/m%d", n)}))
	}
	if _, answer := s.ask(t, "GET", "/v1/devices", "many", nil); len(answer["devices"].([]any)) != store.MaxDevices {
		t.Errorf("a reader keeps %d devices", len(answer["devices"].([]any)))
	}
	if _, answer := s.ask(t, "GET", "/v1/channels", "", nil); fmt.Sprint(answer["channels"]) != "[map[backend_only:true name:sms] map[name:webpush public_key:BKey]]" {
		t.Errorf("channels: %v", answer)
	}
}

func TestOnlyTheSitesPagesMayAskFromABrowser(t *testing.T) {
	t.Parallel()
	g := newGround(t)
	cfg := g.config(one("push", &phone{props: channel.Properties{WithDevices: true}}))
	cfg.Origins = []string{"https://news.example.com"}
	s := g.run(cfg)
	for origin, allowed := range map[string]string{"https://news.example.com": "https://news.example.com", "https://evil.example": ""} {
		req, err := http.NewRequestWithContext(t.Context(), "OPTIONS", "http://"+s.addrs.API+"/v1/devices", nil)
		if err != nil {
			t.Fatal(err)
		}
		req.Header.Set("Origin", origin)
		transport := &http.Transport{DisableKeepAlives: true}
		resp, err := transport.RoundTrip(req)
		if err != nil {
			t.Fatal(err)
		}
		resp.Body.Close()
		if got := resp.Header.Get("Access-Control-Allow-Origin"); resp.StatusCode != 204 || got != allowed {
			t.Errorf("%s: %d, allowed %q", origin, resp.StatusCode, got)
		}
	}
}

func TestAForgottenReaderIsNotTold(t *testing.T) {
	t.Parallel()
	g := newGround(t)
	p := new(phone)
	p.answer(func(channel.Device, channel.Notification) channel.Result {
		return channel.Result{Outcome: channel.Temporary, Reason: "busy", RetryAfter: time.Hour}
	})
	s := g.run(g.config(one("webhook", p)))
	late := record{n: 2, reader: "u1"}.message(t) // handed over before, arrives after
	g.records(record{n: 1, reader: "u1"})
	g.until("it waits", func() bool {
		return len(p.calls()) == 1 && pgtest.Value[int](g.db, `SELECT count(*)::int FROM newswire_compensate.deliveries WHERE state = 'waiting'`) == 1
	})
	if err := s.store.Forget(t.Context(), "u1"); err != nil {
		t.Fatal(err)
	}
	p.answer(nil)
	g.produce(late)
	g.records(record{n: 3, reader: "u1"}) // the reader has come back
	g.until("all settled", g.settled(3))
	for n, want := range map[int]string{1: "cancelled", 2: "forgotten", 3: "sent"} {
		if got := g.outcome(record{n: n, reader: "u1"}.ceID()); got != want {
			t.Errorf("record %d ended as %q, want %q", n, got, want)
		}
	}
}

func TestRequestsThatAreNoneAreToldWhy(t *testing.T) {
	api := newAPI(&Service{cfg: Config{Verify: func(token string) (Caller, error) {
		if token != "u1" {
			return Caller{}, errors.New("token is not valid here")
		}
		return Caller{Reader: token}, nil
	}}})
	for _, test := range []struct {
		method, path, authorization, body string
		status                            int
		code                              string
	}{
		{"POST", "/v1/devices", "Bearer u1", "{}", 405, "method_not_allowed"},
		{"PATCH", "/v1/devices", "Bearer u1", "{}", 405, "method_not_allowed"},
		{"PUT", "/v1/channels", "Bearer u1", "{}", 405, "method_not_allowed"},
		{"GET", "/v1/device", "Bearer u1", "", 404, "not_found"},
		{"PUT", "/v1/devices", "u1", "{}", 401, "unauthorized"},
		{"PUT", "/v1/devices", "Basic u1", "{}", 401, "unauthorized"},
		{"PUT", "/v1/devices", "bearer u1", "{}", 422, "unknown_channel"},
		{"PUT", "/v1/devices", "Bearer u1", "", 400, "bad_body"},
		{"PUT", "/v1/devices", "Bearer u1", "{} {}", 400, "bad_body"},
		{"PUT", "/v1/devices", "Bearer u1", strings.Repeat(" ", maxBody) + "{}", 400, "bad_body"},
	} {
		recorder := httptest.NewRecorder()
		r := httptest.NewRequest(test.method, test.path, strings.NewReader(test.body))
		r.Header.Set("Authorization", test.authorization)
		api.ServeHTTP(recorder, r)
		var told struct{ Code string }
		if err := json.Unmarshal(recorder.Body.Bytes(), &told); err != nil || recorder.Code != test.status || told.Code != test.code {
			t.Errorf("%s %s of %q with %.10q: %d %q, want %d %q", test.method, test.path, test.authorization, test.body, recorder.Code, told.Code, test.status, test.code)
		}
		if (recorder.Header().Get("Allow") != "") != (test.status == 405) {
			t.Errorf("%s %s: Allow is %q", test.method, test.path, recorder.Header().Get("Allow"))
		}
	}
}

// Whose number was registered once, by the site, and is reached now and then
// keeps it; an address that nothing has come to for long is deleted.
func TestDevicesThatNothingReachesAreForgotten(t *testing.T) {
	t.Parallel()
	g := newGround(t)
	g.phones(3)
	g.db.Exec(`UPDATE newswire_compensate.devices SET last_seen = now() - CASE reader WHEN 'u2' THEN interval '40 days' ELSE interval '29 days' END`)
	cfg := g.config(one("sms", &phone{props: channel.Properties{WithDevices: true}}))
	cfg.Policy.Routes = []policy.Route{{Tags: []string{"*"}, Steps: [][]string{{"sms"}}}}
	cfg.DeviceTTL = 30 * 24 * time.Hour
	g.run(cfg)
	g.records(record{n: 1, reader: "u0"})
	g.until("all settled", g.settled(1))
	recent := func() []string {
		return pgtest.Values[string](g.db, `SELECT reader || CASE WHEN last_seen > now() - interval '1 hour' THEN ' seen' ELSE '' END FROM newswire_compensate.devices ORDER BY reader`)
	}
	g.until("the one not seen for long is deleted, and who was reached is seen", func() bool { return slices.Equal(recent(), []string{"u0 seen", "u1"}) })
}

package compensate

import (
	"encoding/json"
	"errors"
	"io"
	"net/http"
	"slices"
	"strconv"
	"strings"
	"time"
	"unicode/utf8"

	"newswire/ack/compensate/channel"
	"newswire/ack/compensate/policy"
	"newswire/ack/compensate/store"
)

// api serves /v1/devices to readers and to the site's backend.
type api struct {
	s       *Service     // fixed
	handler http.Handler // fixed
}

func newAPI(s *Service) *api {
	a := &api{s: s}
	mux := http.NewServeMux()
	mux.HandleFunc("GET /v1/channels", a.channels)
	mux.HandleFunc("PUT /v1/devices", a.known(a.put))
	mux.HandleFunc("GET /v1/devices", a.known(a.get))
	mux.HandleFunc("DELETE /v1/devices", a.known(a.remove))
	for path, allowed := range map[string]string{"/v1/channels": "GET, HEAD, OPTIONS", "/v1/devices": "GET, HEAD, PUT, DELETE, OPTIONS"} {
		mux.HandleFunc("OPTIONS "+path, func(w http.ResponseWriter, _ *http.Request) { w.WriteHeader(http.StatusNoContent) })
		mux.HandleFunc(path, func(w http.ResponseWriter, r *http.Request) {
			w.Header().Set("Allow", allowed)
			problem(w, http.StatusMethodNotAllowed, "method_not_allowed", r.Method+" is not one of "+allowed+": a device is declared with PUT")
		})
	}
	mux.HandleFunc("/", func(w http.ResponseWriter, _ *http.Request) {
		problem(w, http.StatusNotFound, "not_found", "nothing is served here")
	})
	a.handler = mux
	return a
}

// ServeHTTP refuses tokens in URLs, which end up in logs, and answers browsers of
// the allowed origins.
func (a *api) ServeHTTP(w http.ResponseWriter, r *http.Request) {
	if q := r.URL.Query(); q.Has("token") || q.Has("access_token") {
		problem(w, http.StatusBadRequest, "token_in_url", "tokens go into the Authorization header, never into the URL")
		return
	}
	h := w.Header()
	h.Add("Vary", "Origin")
	if origin := r.Header.Get("Origin"); slices.Contains(a.s.cfg.Origins, origin) {
		h.Set("Access-Control-Allow-Origin", origin)
		h.Set("Access-Control-Allow-Methods", "GET, PUT, DELETE")
		h.Set("Access-Control-Allow-Headers", "Authorization, Content-Type")
		h.Set("Access-Control-Max-Age", "600")
	}
	a.handler.ServeHTTP(w, r)
}

// known lets through who has a valid token, and says whose devices are meant: a
// reader's own, or those of the reader that the site's backend names.
func (a *api) known(serve func(w http.ResponseWriter, r *http.Request, reader string, caller Caller)) http.HandlerFunc {
	return func(w http.ResponseWriter, r *http.Request) {
		scheme, token, _ := strings.Cut(r.Header.Get("Authorization"), " ")
		if !strings.EqualFold(scheme, "Bearer") {
			token = ""
		}
		caller, err := a.s.cfg.Verify(token)
		if errors.Is(err, ErrUnavailable) {
			w.Header().Set("Retry-After", "1")
			problem(w, http.StatusServiceUnavailable, "unavailable", err.Error())
			return
		}
		if err != nil {
			w.Header().Set("WWW-Authenticate", "Bearer")
			problem(w, http.StatusUnauthorized, "unauthorized", err.Error())
			return
		}
		reader := caller.Reader
		if named := r.URL.Query().Get("reader"); named != "" && named != reader {
			if !caller.Backend {
				problem(w, http.StatusForbidden, "forbidden", "this token is for the devices of its own reader")
				return
			}
			reader = named
		} else if caller.Backend && named == "" {
			problem(w, http.StatusBadRequest, "reader_missing", "name the reader: ?reader=…")
			return
		}
		if !utf8.ValidString(reader) || len(reader) > 256 {
			problem(w, http.StatusBadRequest, "bad_reader", "a reader has 1 to 256 bytes of UTF-8")
			return
		}
		r.Body = http.MaxBytesReader(w, r.Body, maxBody)
		serve(w, r, reader, caller)
	}
}

// Bounds of what is registered.
const (
	maxBody     = 16 << 10
	maxAddress  = 2048 // PostgreSQL's index takes little more
	maxLanguage = 35   // RFC 5646
)

// quietHours of a device, in its zone.
type quietHours struct {
	From string `json:"from"`
	To   string `json:"to"`
}

// deviceBody is a device as the API takes and gives it.
type deviceBody struct {
	ID         string            `json:"id,omitempty"`
	Channel    string            `json:"channel"`
	Address    string            `json:"address"`
	Keys       map[string]string `json:"keys,omitempty"`
	Language   string            `json:"language,omitempty"`
	TimeZone   string            `json:"time_zone,omitempty"`
	QuietHours *quietHours       `json:"quiet_hours,omitempty"`
	Registered *time.Time        `json:"registered,omitempty"`
	LastSeen   *time.Time        `json:"last_seen,omitempty"`
}

// shown is a device without its keys, which nobody needs back.
func shown(d store.Device) deviceBody {
	b := deviceBody{
		ID: d.ID, Channel: d.Channel, Address: d.Address, Language: d.Language, TimeZone: d.TimeZone,
		Registered: &d.Registered, LastSeen: &d.LastSeen,
	}
	if d.QuietFrom != "" {
		b.QuietHours = &quietHours{d.QuietFrom, d.QuietTo}
	}
	return b
}

func (a *api) put(w http.ResponseWriter, r *http.Request, reader string, caller Caller) {
	var body deviceBody
	text, err := io.ReadAll(r.Body)
	if err != nil || json.Unmarshal(text, &body) != nil {
		problem(w, http.StatusBadRequest, "bad_body", `want a JSON body {"channel":"…","address":"…","keys":{…},"language":"…","time_zone":"…","quiet_hours":{"from":"22:00","to":"07:00"}}`)
		return
	}
	d, status, code, detail := a.device(body, reader, caller)
	if code != "" {
		problem(w, status, code, detail)
		return
	}
	kept, err := a.s.store.Register(r.Context(), d)
	if err != nil {
		a.fault(w, err)
		return
	}
	answer(w, shown(kept))
}

// device checks a body; code is empty where it is right.
func (a *api) device(b deviceBody, reader string, caller Caller) (d store.Device, status int, code, detail string) {
	ch, there := a.s.cfg.Channels[b.Channel]
	if !there || !ch.Properties().WithDevices {
		return d, http.StatusUnprocessableEntity, "unknown_channel", "no devices of the channel " + strconv.Quote(b.Channel) + " are registered here: GET /v1/channels names those that are"
	}
	if a.s.cfg.Lanes[b.Channel].BackendOnly && !caller.Backend {
		return d, http.StatusForbidden, "backend_only", "devices of the channel " + b.Channel + " are registered by the site, which has checked whose they are"
	}
	if b.QuietHours == nil {
		b.QuietHours = &quietHours{}
	}
	d = store.Device{
		Device:  channel.Device{Reader: reader, Address: b.Address, Keys: b.Keys, Language: b.Language},
		Channel: b.Channel, TimeZone: b.TimeZone, QuietFrom: b.QuietHours.From, QuietTo: b.QuietHours.To,
	}
	switch {
	case b.Address == "" || len(b.Address) > maxAddress || !plain(b.Address):
		return d, http.StatusUnprocessableEntity, "bad_address", "address has 1 to " + strconv.Itoa(maxAddress) + " bytes without control characters"
	case len(b.Language) > maxLanguage || !plain(b.Language):
		return d, http.StatusUnprocessableEntity, "bad_language", "language is a tag such as de or de-AT"
	}
	if err := policy.CheckQuiet(d.TimeZone, d.QuietFrom, d.QuietTo); err != nil {
		return d, http.StatusUnprocessableEntity, "bad_quiet_hours", err.Error()
	}
	if err := ch.Check(d.Device); err != nil {
		return d, http.StatusUnprocessableEntity, "bad_device", err.Error()
	}
	return d, 0, "", ""
}

func plain(s string) bool {
	return utf8.ValidString(s) && !strings.ContainsFunc(s, func(r rune) bool { return r < 0x20 || r >= 0x7f && r < 0xa0 })
}

func (a *api) get(w http.ResponseWriter, r *http.Request, reader string, _ Caller) {
	devices, err := a.s.store.Devices(r.Context(), reader)
	if err != nil {
		a.fault(w, err)
		return
	}
	bodies := []deviceBody{}
	for _, d := range devices {
		bodies = append(bodies, shown(d))
	}
	answer(w, map[string]any{"devices": bodies})
}

// remove deletes the device that the query names, or all of the reader's. What
// is not there is gone already.
func (a *api) remove(w http.ResponseWriter, r *http.Request, reader string, _ Caller) {
	q := r.URL.Query()
	which := store.Selection{Reader: reader, Channel: q.Get("channel"), Address: q.Get("address")}
	for name := range q {
		if !slices.Contains([]string{"reader", "id", "channel", "address"}, name) {
			problem(w, http.StatusBadRequest, "bad_query", "a device is named by id, channel or address: nothing was deleted for "+strconv.Quote(name))
			return
		}
	}
	if q.Has("id") {
		id, err := strconv.ParseInt(q.Get("id"), 10, 64)
		if err != nil || id <= 0 {
			problem(w, http.StatusBadRequest, "bad_id", "id is a device's as PUT or GET has given it")
			return
		}
		which.ID = id
	}
	if _, err := a.s.store.RemoveDevices(r.Context(), which); err != nil {
		a.fault(w, err)
		return
	}
	w.WriteHeader(http.StatusNoContent)
}

// channels says which devices can be registered, and what a client needs to
// subscribe; everybody may know.
func (a *api) channels(w http.ResponseWriter, _ *http.Request) {
	type entry struct {
		Name      string `json:"name"`
		PublicKey string `json:"public_key,omitempty"`
		Backend   bool   `json:"backend_only,omitempty"`
	}
	entries := []entry{}
	for _, name := range a.s.cfg.names() {
		if p := a.s.cfg.Channels[name].Properties(); p.WithDevices {
			entries = append(entries, entry{name, p.PublicKey, a.s.cfg.Lanes[name].BackendOnly})
		}
	}
	answer(w, map[string]any{"channels": entries})
}

// fault answers a fault on our side; what it was stands in the log alone.
func (a *api) fault(w http.ResponseWriter, err error) {
	a.s.log.Error("request failed", "err", err)
	w.Header().Set("Retry-After", "1")
	problem(w, http.StatusServiceUnavailable, "unavailable", "the database cannot answer at the moment")
}

func answer(w http.ResponseWriter, body any) {
	w.Header().Set("Content-Type", "application/json")
	w.Header().Set("Cache-Control", "no-store")
	_ = json.NewEncoder(w).Encode(body) // the client is gone, or has it
}

// problem answers with a problem document (RFC 9457).
func problem(w http.ResponseWriter, status int, code, detail string) {
	w.Header().Set("Content-Type", "application/problem+json")
	w.Header().Set("Cache-Control", "no-store")
	w.WriteHeader(status)
	_ = json.NewEncoder(w).Encode(map[string]any{
		"type": "about:blank", "title": http.StatusText(status), "status": status, "code": code, "detail": detail,
	})
}

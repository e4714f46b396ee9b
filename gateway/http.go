package gateway

import (
	"bytes"
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"net/http"
	"slices"
	"strconv"
	"time"

	"newswire/fanout"
	"newswire/fanout/journal"
	"newswire/gateway/browser"
)

// maxBody bounds what a request may carry.
const maxBody = 256 << 10

// Handler serves everything that readers reach. Run uses it; so can a server
// that the caller owns.
func (g *Gateway) Handler() http.Handler {
	mux := http.NewServeMux()
	mux.HandleFunc("GET /v1/ws", g.serveSocket)
	mux.HandleFunc("GET /v1/poll", g.known(g.servePoll))
	mux.HandleFunc("POST /v1/ack", g.known(g.serveAck))
	mux.HandleFunc("GET /v1/subscriptions", g.known(g.serveSubscriptions))
	mux.HandleFunc("PUT /v1/subscriptions", g.known(g.serveReplace))
	mux.HandleFunc("PATCH /v1/subscriptions", g.known(g.servePatch))
	mux.HandleFunc("DELETE /v1/subscriptions", g.known(g.serveForget))
	for path, allow := range map[string]string{
		"/v1/ws": "GET", "/v1/poll": "GET", "/v1/ack": "POST", "/v1/subscriptions": "GET, PUT, PATCH, DELETE", "/v1/": "",
	} {
		mux.HandleFunc(path, otherwise(allow))
	}
	for path, script := range map[string][]byte{
		"/newswire.js": browser.Script, "/newswire-push.js": browser.Push, "/newswire-sw.js": browser.Worker,
		"/newswire-poll.js": browser.Poll,
	} {
		mux.Handle("GET "+path, serveScript(script))
		mux.HandleFunc(path, otherwise("GET, HEAD"))
	}
	if g.cfg.Site != nil {
		mux.Handle("/", g.cfg.Site)
	} else {
		mux.HandleFunc("/", otherwise(""))
	}
	return g.guard(mux)
}

// otherwise answers what no handler takes, at an address that takes the methods
// in allow, or none.
func otherwise(allow string) http.HandlerFunc {
	return func(w http.ResponseWriter, r *http.Request) {
		switch {
		case r.Method == http.MethodOptions:
			w.WriteHeader(http.StatusNoContent)
		case allow == "":
			problem(w, http.StatusNotFound, "not_found", "nothing is served here")
		default:
			w.Header().Set("Allow", allow)
			problem(w, http.StatusMethodNotAllowed, "method", "this address takes "+allow)
		}
	}
}

// guard refuses tokens in URLs, which end up in logs, and answers browsers of
// the allowed origins.
func (g *Gateway) guard(next http.Handler) http.Handler {
	return http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
		h := w.Header()
		h.Add("Vary", "Origin")
		if origin := r.Header.Get("Origin"); slices.Contains(g.cfg.Origins, origin) {
			h.Set("Access-Control-Allow-Origin", origin)
			h.Set("Access-Control-Allow-Methods", "GET, POST, PUT, PATCH, DELETE")
			h.Set("Access-Control-Allow-Headers", "Authorization, Content-Type")
			h.Set("Access-Control-Expose-Headers", "Retry-After")
			h.Set("Access-Control-Max-Age", "600")
		}
		if q := r.URL.Query(); q.Has("token") || q.Has("access_token") {
			problem(w, http.StatusBadRequest, "token_in_url", "tokens go into the Authorization header or the hello frame, never into the URL")
			return
		}
		next.ServeHTTP(w, r)
	})
}

// known lets requests with a valid token through.
func (g *Gateway) known(serve func(http.ResponseWriter, *http.Request, identity)) http.HandlerFunc {
	return func(w http.ResponseWriter, r *http.Request) {
		if g.draining.Load() {
			refuse(w, http.StatusServiceUnavailable, time.Second, "draining", "this server is going away")
			return
		}
		who, err := g.identify(r.Context(), bearerToken(r))
		if err != nil {
			g.log.Debug("token refused", "why", err, "from", g.door.client(r))
			refuseToken(w, err)
			return
		}
		defer limitAnswer(w)()
		if takeBody(w, r) {
			serve(w, r, who)
		}
	}
}

// limitAnswer bounds how long a client may take to read what a handler writes;
// lift is for what comes next on the connection.
func limitAnswer(w http.ResponseWriter) (lift func()) {
	rc := http.NewResponseController(w)
	_ = rc.SetWriteDeadline(time.Now().Add(answerTimeout))
	return func() { _ = rc.SetWriteDeadline(time.Time{}) }
}

// takeBody reads a request's body whole, so that no handler waits for one that
// drips; false when it has answered. The deadline is for the body alone: behind
// it, one would end a poll that waits.
func takeBody(w http.ResponseWriter, r *http.Request) bool {
	if r.ContentLength == 0 {
		return true
	}
	rc := http.NewResponseController(w)
	_ = rc.SetReadDeadline(time.Now().Add(bodyTimeout))
	body, err := io.ReadAll(http.MaxBytesReader(w, r.Body, maxBody))
	_ = rc.SetReadDeadline(time.Time{})
	var large *http.MaxBytesError
	switch {
	case errors.As(err, &large):
		problem(w, http.StatusRequestEntityTooLarge, "body_too_large", fmt.Sprintf("a body has at most %d bytes", maxBody))
	case err != nil:
		w.Header().Set("Connection", "close")
		problem(w, http.StatusRequestTimeout, "body_timeout", "the body did not come")
	}
	r.Body = io.NopCloser(bytes.NewReader(body))
	return err == nil
}

var errNoObject = errors.New("null is no object")

// decodeBody reads a request's body as one JSON object.
func decodeBody(r *http.Request, into any) error {
	raw, err := io.ReadAll(r.Body) // takeBody has bounded it
	if err != nil {
		return err
	}
	if bytes.Equal(bytes.TrimSpace(raw), []byte("null")) { // an empty object to encoding/json
		return errNoObject
	}
	return decodeJSON(raw, into)
}

func (g *Gateway) serveAck(w http.ResponseWriter, r *http.Request, who identity) {
	var body struct {
		IDs  *[]string `json:"ids"`
		Upto string    `json:"upto"`
	}
	texts := r.URL.Query()["msg_id"]
	if len(texts) == 0 {
		if err := decodeBody(r, &body); err != nil || body.IDs == nil && body.Upto == "" {
			problem(w, http.StatusBadRequest, "bad_body", `want ?msg_id=… or a JSON body {"ids":[…]} or {"upto":"…"}`)
			return
		}
		if body.IDs != nil {
			texts = *body.IDs
		}
	}
	ids := parseIDs(texts) // one that is none acknowledges nothing, as one of another reader's
	var last journal.ID
	if body.Upto != "" {
		var err error
		if last, err = journal.ParseID(body.Upto); err != nil {
			problem(w, http.StatusBadRequest, "bad_id", err.Error())
			return
		}
	}
	reader, _, err := g.readers.Get(who.Reader)
	if err == nil && reader != 0 && body.Upto != "" {
		var upto []journal.ID
		upto, err = g.unreadIn(reader, span{last: last}, func(*journal.Message) bool { return true })
		ids = append(ids, upto...)
	}
	if err == nil && reader != 0 {
		err = g.deps.ledger.Ack(reader, ids)
	}
	if err != nil {
		g.fault(w, err)
		return
	}
	w.WriteHeader(http.StatusNoContent)
}

type subscriptionsBody struct {
	Follow []string `json:"follow"`
	Mute   []string `json:"mute"`
}

func (g *Gateway) serveSubscriptions(w http.ResponseWriter, _ *http.Request, who identity) {
	_, sets, err := g.readers.Get(who.Reader)
	if err != nil {
		g.fault(w, err)
		return
	}
	replyJSON(w, subscriptionsBody{listed(sets.Follow), listed(sets.Mute)})
}

func (g *Gateway) serveReplace(w http.ResponseWriter, r *http.Request, who identity) {
	var body subscriptionsBody
	if decodeBody(r, &body) != nil {
		problem(w, http.StatusBadRequest, "bad_body", `want a JSON body {"follow":[…],"mute":[…]}`)
		return
	}
	g.serveEdit(w, r, who, fanout.Edit{SetFollow: &body.Follow, SetMute: &body.Mute})
}

func (g *Gateway) servePatch(w http.ResponseWriter, r *http.Request, who identity) {
	var body struct {
		Follow   []string `json:"follow"`
		Unfollow []string `json:"unfollow"`
		Mute     []string `json:"mute"`
		Unmute   []string `json:"unmute"`
	}
	if decodeBody(r, &body) != nil {
		problem(w, http.StatusBadRequest, "bad_body", `want a JSON body {"follow":[…],"unfollow":[…],"mute":[…],"unmute":[…]}`)
		return
	}
	g.serveEdit(w, r, who, fanout.Edit{Follow: body.Follow, Unfollow: body.Unfollow, Mute: body.Mute, Unmute: body.Unmute})
}

func (g *Gateway) serveEdit(w http.ResponseWriter, r *http.Request, who identity, e fanout.Edit) {
	edited, refused, err := g.edit(r.Context(), nil, who, e)
	switch {
	case refused != nil && refused.code == "tag_forbidden":
		problem(w, http.StatusForbidden, refused.code, refused.text)
		return
	case refused != nil:
		problem(w, http.StatusUnprocessableEntity, refused.code, refused.text)
		return
	case err != nil:
		g.fault(w, err)
		return
	}
	if edited.Changed {
		g.tellOthers(nil, edited)
	}
	replyJSON(w, subscriptionsBody{listed(edited.Sets.Follow), listed(edited.Sets.Mute)})
}

func (g *Gateway) serveForget(w http.ResponseWriter, r *http.Request, who identity) {
	if g.cfg.Forget != nil {
		if err := g.cfg.Forget(r.Context(), who.Reader); err != nil {
			g.log.Error("devices not deleted", "err", err)
			refuse(w, http.StatusServiceUnavailable, time.Second, "unavailable", "the devices cannot be deleted at the moment; nothing was forgotten")
			return
		}
	}
	gone, err := g.readers.Forget(r.Context(), who.Reader)
	if err == nil {
		err = g.inEffect(r.Context(), gone.Seq)
	}
	if err != nil {
		g.fault(w, err)
		return
	}
	for _, s := range g.pools.of(gone.Reader).sessionsOf(gone.Reader) {
		s.end(endForgotten, 0)
	}
	w.WriteHeader(http.StatusNoContent)
}

// fault answers a fault on our side; what it was stands in the log alone.
func (g *Gateway) fault(w http.ResponseWriter, err error) {
	if errors.Is(err, context.Canceled) {
		return // the client has gone
	}
	g.log.Error("request failed", "err", err)
	refuse(w, http.StatusServiceUnavailable, time.Second, "unavailable", "the journal cannot take this at the moment")
}

func replyJSON(w http.ResponseWriter, body any) {
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

// refuse is problem for what may be tried again.
func refuse(w http.ResponseWriter, status int, after time.Duration, code, detail string) {
	w.Header().Set("Retry-After", strconv.Itoa(int(after.Seconds())))
	problem(w, status, code, detail)
}

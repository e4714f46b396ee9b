package browser_test

import (
	"encoding/json"
	"net/http"
	"slices"
	"sync"
	"testing"
	"time"

	"newswire/gateway/browser/browsertest"
)

// mailbox is the gateway's side of polling under the test's control: a poll
// carries what was put in and not acknowledged.
type mailbox struct {
	t *testing.T

	mu       sync.Mutex // guards the rest
	grown    chan struct{}
	unread   []frame
	acked    []string
	sets     subscriptions
	requests []string // method and path, other than of polls and acks
	tokens   []string // as they came, without repeats in a row
	refuse   func(w http.ResponseWriter, r *http.Request) bool
}

type subscriptions struct {
	Follow []string `json:"follow"`
	Mute   []string `json:"mute"`
}

func newMailbox(t *testing.T) *mailbox {
	return &mailbox{t: t, grown: make(chan struct{}), sets: subscriptions{[]string{}, []string{}}}
}

func (m *mailbox) ServeHTTP(w http.ResponseWriter, r *http.Request) {
	m.mu.Lock()
	defer m.mu.Unlock()
	if token := r.Header.Get("Authorization"); len(m.tokens) == 0 || m.tokens[len(m.tokens)-1] != token {
		m.tokens = append(m.tokens, token)
	}
	if m.refuse != nil && m.refuse(w, r) {
		return
	}
	w.Header().Set("Content-Type", "application/json")
	switch r.URL.Path {
	case "/v1/poll":
		m.pollLocked(w, r)
		return
	case "/v1/ack":
		var body struct{ IDs []string }
		_ = json.NewDecoder(r.Body).Decode(&body)
		m.acked = append(m.acked, body.IDs...)
		m.unread = slices.DeleteFunc(m.unread, func(f frame) bool { return slices.Contains(body.IDs, f.ID) })
		m.growLocked()
		w.WriteHeader(http.StatusNoContent)
		return
	}
	m.requests = append(m.requests, r.Method+" "+r.URL.Path)
	switch r.Method {
	case http.MethodPut:
		_ = json.NewDecoder(r.Body).Decode(&m.sets)
	case http.MethodPatch:
		var body struct{ Follow, Unfollow, Mute, Unmute []string }
		_ = json.NewDecoder(r.Body).Decode(&body)
		if slices.Contains(body.Follow, "forbidden") {
			problem(w, http.StatusForbidden, "tag_forbidden", "the token does not permit it")
			return
		}
		without := func(dropped []string) func(string) bool {
			return func(tag string) bool { return slices.Contains(dropped, tag) }
		}
		m.sets.Follow = slices.DeleteFunc(append(m.sets.Follow, body.Follow...), without(body.Unfollow))
		m.sets.Mute = slices.DeleteFunc(append(m.sets.Mute, body.Mute...), without(body.Unmute))
	}
	_ = json.NewEncoder(w).Encode(m.sets)
}

// pollLocked waits, without the lock, until there is something.
func (m *mailbox) pollLocked(w http.ResponseWriter, r *http.Request) {
	patience := time.After(browsertest.Patience)
	for len(m.unread) == 0 {
		grown := m.grown
		m.mu.Unlock()
		select {
		case <-grown:
		case <-r.Context().Done():
		case <-patience:
		}
		m.mu.Lock()
		if r.Context().Err() != nil {
			return
		}
	}
	_ = json.NewEncoder(w).Encode(map[string]any{"messages": m.unread, "next": m.unread[len(m.unread)-1].ID})
}

func (m *mailbox) growLocked() {
	close(m.grown)
	m.grown = make(chan struct{})
}

func (m *mailbox) put(news ...frame) {
	m.mu.Lock()
	defer m.mu.Unlock()
	m.unread = append(m.unread, news...)
	m.growLocked()
}

// refusing lets refuse answer requests; true when it did.
func (m *mailbox) refusing(refuse func(http.ResponseWriter, *http.Request) bool) {
	m.mu.Lock()
	defer m.mu.Unlock()
	m.refuse = refuse
}

// until waits for a state of the mailbox.
func (m *mailbox) until(what string, look func() bool) {
	m.t.Helper()
	deadline := time.Now().Add(browsertest.Patience)
	for tick := time.NewTicker(10 * time.Millisecond); ; <-tick.C {
		m.mu.Lock()
		done := look()
		state := []any{m.acked, m.requests, m.tokens, m.sets}
		m.mu.Unlock()
		if done {
			return
		}
		if time.Now().After(deadline) {
			m.t.Fatalf("waiting for %s; acked, requests, tokens and sets are %v", what, state)
		}
	}
}

func (m *mailbox) untilAcked(ids ...string) {
	m.t.Helper()
	m.until("acks", func() bool { return slices.Equal(m.acked, ids) })
}

func problem(w http.ResponseWriter, status int, code, detail string) {
	w.Header().Set("Content-Type", "application/problem+json")
	w.WriteHeader(status)
	_ = json.NewEncoder(w).Encode(map[string]any{"code": code, "detail": detail})
}

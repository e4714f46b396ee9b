package harness

import (
	"bufio"
	"bytes"
	"context"
	"encoding/json"
	"fmt"
	"io"
	"net/http"
	"strconv"
	"strings"
	"time"

	"newswire/cdc/pgtest"
	"newswire/fanout/journal"
	"newswire/gateway/gatewaytest"
)

// client keeps no connection, so that a restarted engine is never asked
// through one to its predecessor.
var client = &http.Client{Transport: &http.Transport{DisableKeepAlives: true}}

// ask makes one request; a body that is not nil is sent as JSON.
func (e *Engine) ask(address, method, path, token string, body any) (status int, answer string, err error) {
	ctx, cancel := context.WithTimeout(context.Background(), Patience)
	defer cancel()
	var content io.Reader
	if body != nil {
		raw, err := json.Marshal(body)
		if err != nil {
			return 0, "", err
		}
		content = bytes.NewReader(raw)
	}
	req, err := http.NewRequestWithContext(ctx, method, "http://"+address+path, content)
	if err != nil {
		return 0, "", err
	}
	if token != "" {
		req.Header.Set("Authorization", "Bearer "+token)
	}
	resp, err := client.Do(req)
	if err != nil {
		return 0, "", err
	}
	defer resp.Body.Close()
	raw, err := io.ReadAll(resp.Body)
	return resp.StatusCode, string(raw), err
}

// HTTP makes a request of a reader at the gateway and wants it answered.
func (e *Engine) HTTP(reader, method, path string, body any) (status int, answer string) {
	e.t.Helper()
	status, answer, err := e.ask(e.Gateway, method, path, e.Token(reader, nil), body)
	if err != nil {
		e.t.Fatalf("%s %s: %v", method, path, err)
	}
	return status, answer
}

// Follow sets what a reader follows and mutes, without a connection.
func (e *Engine) Follow(reader string, follow, mute []string) {
	e.t.Helper()
	status, answer := e.HTTP(reader, "PUT", "/v1/subscriptions", map[string][]string{"follow": follow, "mute": mute})
	if status != http.StatusOK {
		e.t.Fatalf("PUT /v1/subscriptions: %d %s", status, answer)
	}
}

// Token signs a token as the engine wants it.
func (e *Engine) Token(reader string, more gatewaytest.Claims) string {
	e.t.Helper()
	return gatewaytest.Token(e.t, e.secret, reader, more)
}

// WSURL is where readers connect.
func (e *Engine) WSURL() string { return "ws://" + e.Gateway + "/v1/ws" }

// Dial connects a reader; o needs neither URL nor Token.
func (e *Engine) Dial(reader string, o gatewaytest.Options) *gatewaytest.Reader {
	e.t.Helper()
	o.URL = e.WSURL()
	if o.Token == "" {
		o.Token = e.Token(reader, nil)
	}
	return gatewaytest.Dial(e.t, o)
}

// Status is /v1/status.
type Status struct {
	Ready   bool     `json:"ready"`
	Reasons []string `json:"reasons"`
	Journal struct {
		Head      uint64 `json:"head"`
		Synced    uint64 `json:"synced"`
		Confirmed string `json:"confirmed_lsn"`
		Disk      struct {
			Low bool `json:"intake_waits"`
		} `json:"disk"`
	} `json:"journal"`
	Waiting struct {
		Articles int       `json:"articles"`
		Next     time.Time `json:"next"` // zero when none waits
	} `json:"waiting"`
	Ledger struct {
		Messages int `json:"unsettled_messages"`
		Pairs    int `json:"pending_pairs"`
		Backlog  int `json:"offline_backlog"`
	} `json:"ledger"`
	Sessions int    `json:"sessions"`
	Kafka    string `json:"kafka"`
}

// Status asks for /v1/status, which must be answered.
func (e *Engine) Status() Status {
	e.t.Helper()
	s, err := e.TryStatus()
	if err != nil {
		e.t.Fatal(err)
	}
	return s
}

// TryStatus is Status of an engine that may not listen yet.
func (e *Engine) TryStatus() (s Status, err error) {
	code, text, err := e.ask(e.Admin, "GET", "/v1/status", "", nil)
	if err == nil {
		err = json.Unmarshal([]byte(text), &s)
	}
	if err != nil || code != http.StatusOK {
		return s, fmt.Errorf("/v1/status: %d %w\n%s", code, err, text)
	}
	return s, nil
}

// Metric is the sum of a metric over its labels.
func (e *Engine) Metric(name string) (sum float64) {
	e.t.Helper()
	_, text, err := e.ask(e.Admin, "GET", "/metrics", "", nil)
	if err != nil {
		e.t.Fatalf("/metrics: %v", err)
	}
	lines := bufio.NewScanner(strings.NewReader(text))
	for lines.Scan() {
		series, value, _ := strings.Cut(lines.Text(), " ")
		if family, _, _ := strings.Cut(series, "{"); family == name {
			n, err := strconv.ParseFloat(value, 64)
			if err != nil {
				e.t.Fatalf("/metrics: %q: %v", lines.Text(), err)
			}
			sum += n
		}
	}
	return sum
}

// AwaitSettled waits until every message is read or handed over by everybody.
func (e *Engine) AwaitSettled() {
	e.t.Helper()
	Eventually(e.t, "the ledger to be settled", func() (bool, any) {
		s := e.Status()
		return s.Ledger.Pairs == 0 && s.Ledger.Backlog == 0, s
	})
}

// AtRest waits until PostgreSQL has noticed that the killed reader of the slot
// is gone, and gives where the slot then stands and up to where the journal
// holds everything. No engine may run.
func (e *Engine) AtRest(db *pgtest.DB) (slot, held journal.LSN) {
	e.t.Helper()
	Eventually(e.t, "the slot to be let go", func() (bool, any) {
		active := pgtest.Value[bool](db, "SELECT active FROM pg_replication_slots WHERE slot_name = $1", db.Slot)
		return !active, "still active"
	})
	return journal.LSN(db.ConfirmedFlush()), confirmedIn(e.t, e.JournalDir())
}

// Connections are what several connections of one reader got, each in order.
func Connections(readers ...*gatewaytest.Reader) (all [][]gatewaytest.Frame) {
	for _, r := range readers {
		all = append(all, r.Messages())
	}
	return all
}

// Acked are the ids that the connections of one reader acknowledged.
func Acked(readers ...*gatewaytest.Reader) (ids []string) {
	for _, r := range readers {
		ids = append(ids, r.Acked()...)
	}
	return ids
}

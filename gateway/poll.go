package gateway

import (
	"context"
	"fmt"
	"net/http"
	"strconv"
	"time"

	"newswire/fanout"
	"newswire/fanout/journal"
)

// Limits of a poll.
const (
	pollDefault = 100
	pollMost    = 1000
	pollBytes   = 4 << 20 // of one answer; the rest comes with the next poll
	pollWait    = 25 * time.Second
)

// pollRequest is what the query of a poll asks for.
type pollRequest struct {
	limit  int
	wait   time.Duration
	manual bool // stays unread until it is acknowledged
}

func parsePoll(r *http.Request) (p pollRequest, err error) {
	q := r.URL.Query()
	p = pollRequest{limit: pollDefault}
	for _, text := range q["ack"] { // one that is misspelt must not mark anything read
		if text != "manual" {
			return p, fmt.Errorf("ack=%.20q: want manual, or leave it out so that what the answer carries is marked read", text)
		}
		p.manual = true
	}
	if text := q.Get("limit"); text != "" {
		if p.limit, err = strconv.Atoi(text); err != nil || p.limit < 1 || p.limit > pollMost {
			return p, fmt.Errorf("limit=%.20q: want 1 to %d", text, pollMost)
		}
	}
	if text := q.Get("wait"); text != "" {
		seconds, err := strconv.ParseFloat(text, 64)
		if err != nil || !(seconds >= 0 && seconds <= pollWait.Seconds()) { // NaN is neither
			return p, fmt.Errorf("wait=%.20q: want 0 to %d seconds", text, int(pollWait.Seconds()))
		}
		p.wait = time.Duration(seconds * float64(time.Second))
	}
	return p, nil
}

// servePoll answers with what the reader has not read, and marks it read once
// the answer is written.
func (g *Gateway) servePoll(w http.ResponseWriter, r *http.Request, who identity) {
	w.Header().Set("Cache-Control", "no-cache, no-store")
	if r.Method != http.MethodGet { // HEAD matches GET's pattern, and would mark read what it does not bring
		w.Header().Set("Allow", http.MethodGet)
		problem(w, http.StatusMethodNotAllowed, "method", "a poll is a GET request")
		return
	}
	p, err := parsePoll(r)
	if err != nil {
		problem(w, http.StatusBadRequest, "bad_query", err.Error())
		return
	}
	edited, _, err := g.edit(r.Context(), nil, who, fanout.Edit{}) // makes a new reader known
	if err != nil {
		g.fault(w, err)
		return
	}
	g.pools.polled(edited.Reader)
	defer g.pools.polled(edited.Reader)
	news, stop := g.pools.awaitNews(edited.Reader, who.Permit)
	defer stop()
	if _, _, err := g.edit(r.Context(), nil, who, fanout.Edit{}); err != nil { // a narrower token may have come before it waited
		g.fault(w, err)
		return
	}
	patience := time.NewTimer(min(p.wait, time.Until(who.Expires)))
	defer patience.Stop()
	for {
		if g.revoked.covers(who) { // while it waited
			refuseToken(w, errRevoked)
			return
		}
		answered, err := g.answerPoll(r.Context(), w, edited.Reader, who.Permit, p)
		switch {
		case answered && err != nil:
			g.log.Error("poll was answered and cannot be recorded", "err", err)
			return
		case answered:
			return
		case err != nil:
			g.fault(w, err)
			return
		}
		select {
		case <-news:
		case <-patience.C:
			w.WriteHeader(http.StatusNoContent)
			return
		case <-g.open.Done():
			w.WriteHeader(http.StatusNoContent)
			return
		case <-r.Context().Done():
			return
		}
	}
}

// answerPoll writes what is unread and covered by permit; false when nothing is.
// One poll of a reader at a time: two never get the same message.
func (g *Gateway) answerPoll(ctx context.Context, w http.ResponseWriter, reader journal.Reader, permit fanout.Permit, p pollRequest) (answered bool, err error) {
	give, ok := g.polling.take(ctx, reader)
	if !ok {
		return false, nil // the client has gone: what it did not get stays unread
	}
	defer give() // behind the write: the next poll must see what this one marked
	body := []byte(`{"messages":[`)
	var taken []journal.Attempt
	var last journal.ID
	var through journal.Seq
	for more := true; more; {
		var unread []journal.Attempt
		unread, through, err = g.deps.ledger.Unread(reader, through, p.limit)
		if err != nil {
			return false, err
		}
		for _, a := range unread {
			m, kept, err := g.deps.journal.Message(a.Seq)
			if err != nil {
				return false, err
			}
			if !kept || !permit.Covers(m) {
				continue
			}
			if len(taken) > 0 {
				body = append(body, ',')
			}
			body = m.AppendFrame(body, a)
			taken, last = append(taken, a), m.ID
			if len(body) > pollBytes || len(taken) == p.limit {
				break
			}
		}
		more = permit != nil && len(unread) == p.limit && len(taken) == 0 // what it may not have stands before what it may
	}
	if len(taken) == 0 {
		return false, nil
	}
	body = append(append(body, `],"next":"`...), last.String()...)
	body = append(body, `"}`...)
	if err := g.deps.ledger.Sent(reader, taken); err != nil {
		return false, err
	}
	if err := writeAll(w, body, g.deps.writeTimeout); err != nil {
		return true, g.deps.ledger.Unsent(reader, taken) // stays unread
	}
	if p.manual {
		return true, nil
	}
	seqs := make([]journal.Seq, len(taken))
	for i, a := range taken {
		seqs[i] = a.Seq
	}
	return true, g.deps.ledger.Read(reader, seqs)
}

// writeAll writes an answer through to the socket.
func writeAll(w http.ResponseWriter, body []byte, timeout time.Duration) error {
	w.Header().Set("Content-Type", "application/json")
	w.Header().Set("Content-Length", strconv.Itoa(len(body)))
	rc := http.NewResponseController(w)
	if err := rc.SetWriteDeadline(time.Now().Add(timeout)); err != nil {
		return err
	}
	if _, err := w.Write(body); err != nil {
		return err
	}
	return rc.Flush()
}

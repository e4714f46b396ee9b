package engine

import (
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"net/http"
	"net/url"
	"strings"
	"syscall"
	"time"

	"newswire/ack"
	"newswire/cmd/newswire/internal/config"
	"newswire/fanout"
	"newswire/fanout/journal"

	"github.com/prometheus/client_golang/prometheus"
)

// Question is what an audit is asked: for the account of everything, or since a
// while ago, or for the story of one message, one reader, or both together.
type Question struct {
	Since   time.Duration // 0: everything that is kept
	Message string
	Reader  string
}

func (q Question) query() string {
	values := url.Values{"message": {q.Message}, "reader": {q.Reader}}
	if q.Since > 0 {
		values.Set("since", q.Since.String())
	}
	return values.Encode()
}

func parseQuestion(values url.Values) (q Question, err error) {
	q = Question{Message: values.Get("message"), Reader: values.Get("reader")}
	if text := values.Get("since"); text != "" {
		if q.Since, err = time.ParseDuration(text); err != nil {
			return q, fmt.Errorf("since=%.20q is no duration", text)
		}
	}
	return q, nil
}

// Answer is one of these.
type Answer struct {
	Report  *ack.Report  `json:"report,omitempty"`
	Message *ack.Story   `json:"message,omitempty"`
	Reader  *ReaderStory `json:"reader,omitempty"`
}

// ReaderStory is what is known of one reader, and what became of its copies.
type ReaderStory struct {
	Reader   string     `json:"reader"`
	Number   uint32     `json:"number"`
	Follow   []string   `json:"follow"`
	Mute     []string   `json:"mute"`
	LastSeen *time.Time `json:"last_seen,omitempty"` // not before this
	Copies   []ack.Copy `json:"copies"`
}

// Audit asks a running engine; when none runs it reads the journal itself.
func Audit(ctx context.Context, cfg config.Config, q Question) (Answer, error) {
	req, err := http.NewRequestWithContext(ctx, http.MethodGet, "http://"+reachable(cfg.Gateway.Admin)+"/v1/audit?"+q.query(), nil)
	if err != nil {
		return Answer{}, fmt.Errorf("audit: %w", err)
	}
	resp, err := http.DefaultClient.Do(req)
	if errors.Is(err, syscall.ECONNREFUSED) {
		return auditAtRest(ctx, cfg, q)
	}
	if err != nil {
		return Answer{}, fmt.Errorf("audit: %w", err)
	}
	defer resp.Body.Close()
	var answer struct {
		Answer
		Error string `json:"error"`
	}
	if err := json.NewDecoder(resp.Body).Decode(&answer); err != nil {
		return Answer{}, fmt.Errorf("audit: what answers on gateway.admin %s is not this engine (%s); correct gateway.admin", cfg.Gateway.Admin, resp.Status)
	}
	if answer.Error != "" {
		return Answer{}, errors.New(answer.Error)
	}
	return answer.Answer, nil
}

// auditAtRest reads the journal of an engine that does not run.
func auditAtRest(ctx context.Context, cfg config.Config, q Question) (Answer, error) {
	j, err := OpenAtRest(cfg)
	if err != nil {
		return Answer{}, fmt.Errorf("audit: %w", err)
	}
	readers, err := fanout.OpenReaders(fanout.InJournal(j), nil)
	var answer Answer
	if err == nil {
		answer, err = answerTo(q, j, readers, func(since time.Time) (ack.Report, error) { return ack.Audit(ctx, j, since) })
	}
	return answer, errors.Join(err, j.Close())
}

// serveAudit answers from the disk, as auditAtRest does.
func (e *engine) serveAudit(w http.ResponseWriter, r *http.Request) {
	w.Header().Set("Content-Type", "application/json")
	w.Header().Set("Cache-Control", "no-store")
	q, err := parseQuestion(r.URL.Query())
	if err == nil {
		err = e.ledger.Flushed(r.Context())
	}
	var answer Answer
	if err == nil {
		answer, err = answerTo(q, e.journal, e.readers, func(since time.Time) (ack.Report, error) { return e.audit(r.Context(), since) })
	}
	out := json.NewEncoder(w)
	if err != nil {
		w.WriteHeader(http.StatusBadRequest)
		_ = out.Encode(map[string]string{"error": err.Error()}) // the client is gone, or has it
		return
	}
	_ = out.Encode(answer)
}

func answerTo(q Question, j *journal.Journal, readers *fanout.Readers, report func(since time.Time) (ack.Report, error)) (Answer, error) {
	var since time.Time
	if q.Since > 0 {
		since = time.Now().Add(-q.Since)
	}
	var seq journal.Seq
	if q.Message != "" {
		var err error
		if seq, err = placeOf(j, q.Message); err != nil {
			return Answer{}, err
		}
	}
	switch {
	case q.Reader != "":
		story, err := tellReader(j, readers, q.Reader, seq, since)
		return Answer{Reader: story}, err
	case seq > 0:
		m, _, err := j.Message(seq)
		if err != nil {
			return Answer{}, err
		}
		story, err := ack.TellMessage(j, seq, m)
		return Answer{Message: &story}, err
	}
	r, err := report(since)
	return Answer{Report: &r}, err
}

// placeOf gives the place of a message that is kept.
func placeOf(j *journal.Journal, text string) (journal.Seq, error) {
	id, err := journal.ParseID(text)
	if err != nil {
		return 0, fmt.Errorf("message %.40q: %w", text, err)
	}
	place, err := j.Find(id)
	if err == nil && !place.Exact {
		err = fmt.Errorf("message %s is not in the journal: it was never there, or the retention has passed; `newswire tail` prints those that are", id)
	}
	return place.Seq, err
}

// tellReader tells what became of a reader's copies: of one message, or of all
// that are kept.
func tellReader(j *journal.Journal, readers *fanout.Readers, name string, one journal.Seq, since time.Time) (*ReaderStory, error) {
	number, sets, last, err := readers.Look(name)
	if err != nil {
		return nil, err
	}
	if number == 0 {
		return nil, fmt.Errorf("reader %.60q is not known: it has never come, or was forgotten; name the sub of its token", name)
	}
	s := &ReaderStory{Reader: name, Number: uint32(number), Follow: append([]string{}, sets.Follow...), Mute: append([]string{}, sets.Mute...), Copies: []ack.Copy{}}
	if !last.IsZero() {
		last = last.UTC()
		s.LastSeen = &last
	}
	after, through := j.Oldest()-1, j.Synced()
	if one > 0 {
		after, through = one-1, one
	}
	for after < through {
		entries, err := j.Range(after, min(after+256, through))
		if err != nil || len(entries) == 0 {
			return s, err
		}
		for _, e := range entries {
			after = e.Seq
			if e.Message == nil || e.Message.Time.Before(since) {
				continue
			}
			c, err := ack.TellCopy(j, e.Seq, e.Message, number)
			if err != nil {
				return nil, err
			}
			if one > 0 || c.State != ack.StateNone {
				s.Copies = append(s.Copies, c)
			}
		}
	}
	return s, nil
}

// auditEvery is how often a running engine recounts.
const auditEvery = time.Hour

// audited is the last recount of everything.
type audited struct {
	At     time.Time  `json:"at"`
	Report ack.Report `json:"report"`
}

// audit recounts, and remembers it for the status when it was everything.
func (e *engine) audit(ctx context.Context, since time.Time) (ack.Report, error) {
	r, err := e.ledger.Audit(ctx, since)
	if err != nil {
		return r, err
	}
	if r.Whole {
		e.lastAudit.Store(&audited{time.Now().UTC(), r})
		e.auditMetrics.set(r)
	}
	if !r.AddsUp {
		e.log.Error("the accounts do not add up; `newswire audit` names the faults", "faults", r.Wrong, "first", strings.Join(r.Faults[:1], ""))
	}
	return r, nil
}

// audits recounts from time to time.
func (e *engine) audits(ctx context.Context) error {
	tick := time.NewTicker(auditEvery)
	defer tick.Stop()
	for {
		select {
		case <-tick.C:
		case <-ctx.Done():
			return nil
		}
		if _, err := e.audit(ctx, time.Time{}); err != nil && ctx.Err() == nil {
			return err
		}
	}
}

// auditMetrics are the last recount of everything.
type auditMetrics struct {
	pairs  *prometheus.GaugeVec
	faults prometheus.Gauge
	at     prometheus.Gauge
}

func newAuditMetrics(reg prometheus.Registerer, l *ack.Ledger) *auditMetrics {
	m := &auditMetrics{
		pairs: prometheus.NewGaugeVec(prometheus.GaugeOpts{
			Name: "newswire_audit_pairs", Help: "Pairs of message and reader that are kept, by what became of them, at the last audit.",
		}, []string{"state"}),
		faults: prometheus.NewGauge(prometheus.GaugeOpts{
			Name: "newswire_audit_faults", Help: "What did not add up at the last audit.",
		}),
		at: prometheus.NewGauge(prometheus.GaugeOpts{
			Name: "newswire_audit_timestamp_seconds", Help: "When the last audit was.",
		}),
	}
	ever := func(name, help string, value func() uint64) prometheus.Collector {
		return prometheus.NewCounterFunc(prometheus.CounterOpts{Name: name, Help: help}, func() float64 { return float64(value()) })
	}
	reg.MustRegister(m.pairs, m.faults, m.at,
		ever("newswire_ledger_messages_total", "Messages that were ever routed.", func() uint64 { n, _ := l.Ever(); return n }),
		ever("newswire_ledger_pairs_total", "Pairs of message and reader that were ever routed.", func() uint64 { _, n := l.Ever(); return n }))
	return m
}

func (m *auditMetrics) set(r ack.Report) {
	for state, n := range map[string]uint64{"acked": r.Acked, "handed_over": r.Handed, "forgotten": r.Forgotten, "pending": r.Pending} {
		m.pairs.WithLabelValues(state).Set(float64(n))
	}
	m.faults.Set(float64(r.Wrong))
	m.at.SetToCurrentTime()
}

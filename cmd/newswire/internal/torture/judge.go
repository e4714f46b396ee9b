package torture

import (
	"encoding/json"
	"fmt"
	"slices"

	"newswire/ack"
	"newswire/cmd/newswire/internal/checker"
	"newswire/cmd/newswire/internal/harness"
)

// judge puts the history together and checks it.
func (r *run) judge() {
	r.t.Helper()
	h := checker.History{Positions: r.positions, Outages: r.outages, Retries: retries, Retention: r.plan.Retention, Rest: r.rest()}
	r.engine.Stop()
	r.ended(false)
	h.Lives = r.lives
	h.Commits = r.witness.commits(r.t)
	for _, one := range r.readers {
		h.Readers = append(h.Readers, one.record(r.lives))
	}
	for _, one := range r.pollers {
		h.Readers = append(h.Readers, one.history(r.lives))
	}
	h.Offline = r.records(harness.OfflineTopic)
	h.Cancelled = r.records(harness.CancelledTopic)
	for _, text := range r.wrong {
		r.t.Error(text)
	}
	found := h.Check()
	for n, v := range found {
		if n == 20 {
			r.t.Errorf("… and %d more", len(found)-n)
			break
		}
		r.t.Error(v)
	}
	r.summary(&h)
	if len(found) > 0 {
		r.save(&h)
	}
}

// summary says what the run was, so that one that tests nothing is seen.
func (r *run) summary(h *checker.History) {
	changes, frames, acks := 0, 0, 0
	for _, c := range h.Commits {
		changes += len(c.Changes)
	}
	for _, reader := range h.Readers {
		for _, s := range reader.Sessions {
			frames += len(s.Frames)
			acks += len(s.Acks)
		}
	}
	r.t.Logf("%d commits with %d row changes; %d frames, %d acknowledgements, %d hand-overs, %d cancellations; %d lives; %v; audit %+v",
		len(h.Commits), changes, frames, acks, len(h.Offline), len(h.Cancelled), len(h.Lives), r.struck, h.Rest.Audit)
	if frames == 0 || acks+len(h.Offline) == 0 || changes == 0 {
		r.t.Error("nothing was tested")
	}
}

// rest looks at the engine when everybody has gone.
func (r *run) rest() (rest checker.Rest) {
	rest.Most = r.bounds
	harness.Eventually(r.t, "the sessions to end", func() (bool, any) {
		n := r.engine.Metric("newswire_gateway_sessions")
		return n == 0, n
	})
	s := r.engine.Status()
	rest.Pairs, rest.Backlog, rest.Complaints = s.Ledger.Pairs, s.Ledger.Backlog, kafkaSays(s)
	if !s.Ready {
		rest.Complaints += fmt.Sprint(s.Reasons)
	}
	rest.Goroutines = int(r.engine.Metric("go_goroutines"))
	rest.Files = int(r.engine.Metric("process_open_fds"))
	rest.Memory = int(r.engine.Metric("process_resident_memory_bytes"))
	rest.Retained = int(r.db.CurrentLSN() - r.db.ConfirmedFlush())
	var report ack.Report
	out := r.engine.Run("audit", "--json")
	if err := json.Unmarshal([]byte(out.Stdout), &report); err != nil {
		r.t.Errorf("audit: code %d: %v\n%s%s", out.Code, err, out.Stdout, out.Stderr)
		return rest
	}
	for _, fault := range report.Faults {
		r.t.Errorf("audit: %s", fault)
	}
	if r.plan.Retention > 0 && report.Expired.Messages == 0 {
		r.t.Error("nothing has left the journal: the run was too short for its retention")
	}
	rest.Audit = &checker.Audit{
		Messages: int(report.Messages + report.Expired.Messages), Pairs: int(report.Pairs + report.Expired.Pairs),
		Acked: int(report.Acked + report.Expired.Acked), Handed: int(report.Handed + report.Expired.Handed),
		Pending: int(report.Pending), Forgotten: int(report.Forgotten + report.Expired.Forgotten), AddsUp: report.AddsUp && out.Code == 0,
	}
	return rest
}

// records gives what a topic holds.
func (r *run) records(topic string) (all []checker.Record) {
	for _, k := range harness.Records(r.t, r.kafka.Addrs, topic) {
		var v struct {
			harness.Record
			CeID    string `json:"ce_id"`
			Cause   string `json:"cause"`
			Message *words `json:"message"`
		}
		if err := json.Unmarshal(k.Value, &v); err != nil {
			r.t.Errorf("%s: %v: %s", topic, err, k.Value)
			continue
		}
		c := checker.Record{Key: k.Key, CeID: k.Headers["ce_id"], ID: v.ID, Reader: v.Reader, Reason: v.Reason, Attempts: v.Attempts, Handed: v.HandedOver, Cause: v.Cause}
		if topic == harness.CancelledTopic {
			c.CeID = v.CeID
		}
		if v.Message != nil {
			copied, err := r.book.copy(*v.Message)
			if err != nil {
				r.t.Errorf("%s: %v", topic, err)
			}
			c.Copy = copied
		}
		all = append(all, c)
	}
	return slices.Clip(all)
}

package main

import (
	"fmt"
	"testing"
	"time"

	"newswire/cdc/pgtest"
	"newswire/cmd/newswire/internal/harness"
	"newswire/gateway/gatewaytest"
)

// TestReadersWhoStopReadingCostOthersNothing lets a third of the readers leave
// their sockets unread, for more than any buffer holds: the others get all of it
// once, in order and live; those who read nothing are sent away at their write's
// deadline, and what they were owed is handed over.
func TestReadersWhoStopReadingCostOthersNothing(t *testing.T) {
	t.Parallel()
	const stalled, reading, articles, size = 3, 6, 60, 100_000
	db := pgtest.New(t)
	witness := harness.NewWitness(db)
	e := harness.Start(t, harness.Options{DB: db, AckTimeout: 5 * time.Second})
	connect := func(n int, o gatewaytest.Options) (name string, r *gatewaytest.Reader) {
		name, o.Follow = fmt.Sprint("u", n), []string{"tech"}
		return name, e.Dial(name, o)
	}
	var h harness.History
	for n := range stalled {
		name, _ := connect(n, gatewaytest.Options{Stalled: true, ReceiveBuffer: 4096})
		h.Readers = append(h.Readers, harness.Reader{Name: name, Wants: harness.Follows("tech")})
	}
	readers := make(map[string]*gatewaytest.Reader)
	for n := range reading {
		name, r := connect(stalled+n, gatewaytest.Options{})
		r.Welcome()
		readers[name] = r
	}
	harness.Eventually(t, "all to be there", func() (bool, any) { n := e.Status().Sessions; return n == stalled+reading, n })
	for n := range articles {
		db.Exec(`INSERT INTO articles (title, summary, tags) VALUES ($1, repeat('x', $2::int), '{tech}')`, fmt.Sprint(n), size)
	}
	for name, r := range readers {
		r.WaitMessages(articles)
		for _, m := range r.Messages() {
			if m.Replay {
				t.Errorf("%s got %s from the journal, as one who cannot keep up", name, m.ID)
			}
		}
	}
	harness.Eventually(t, "those who do not read to be sent away", func() (bool, any) {
		n := e.Status().Sessions
		return n == reading, n
	})
	if n := e.Metric("newswire_gateway_closed_total"); n != stalled {
		t.Errorf("%v sessions have ended, want the %d that did not read", n, stalled)
	}
	h.Articles = witness.Articles(t)
	e.AwaitSettled()
	h.Offline = harness.Records(t, e.Brokers, harness.OfflineTopic)
	for name, r := range readers {
		h.Readers = append(h.Readers, harness.Reader{
			Name: name, Wants: harness.Follows("tech"), Connections: harness.Connections(r), Acked: harness.Acked(r),
		})
	}
	verify(t, h)
	if len(h.Offline) != stalled*articles {
		t.Errorf("%d messages were handed over, want all %d of those who did not read", len(h.Offline), stalled*articles)
	}
}

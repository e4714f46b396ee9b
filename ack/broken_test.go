package ack

import (
	"context"
	"testing"
	"time"

	"newswire/fanout/journal"
)

// TestWhoWaitsForWorkLearnsThatTheJournalIsBroken takes the database away under
// the journal: the sender must not wait for ever for what cannot come.
func TestWhoWaitsForWorkLearnsThatTheJournalIsBroken(t *testing.T) {
	t.Parallel()
	j, err := journal.Open(journal.Config{Dir: t.TempDir()}, silent, nil)
	if err != nil {
		t.Fatal(err)
	}
	l, err := New(usual, j, nil, silent, nil)
	if err != nil {
		t.Fatal(err)
	}
	ran, next := make(chan error, 1), make(chan error, 1)
	go func() { ran <- j.Run(context.Background()) }()
	go func() {
		_, _, err := l.Next(context.Background(), 1)
		next <- err
	}()
	if err := j.Close(); err != nil {
		t.Fatal(err)
	}
	var u journal.Update
	u.Set(journal.SpaceTotals.Key('x'), []byte("x"))
	if err := j.ApplySync(context.Background(), u); err == nil {
		t.Fatal("a closed database took a record")
	}
	for what, done := range map[string]chan error{"Run": ran, "Next": next} {
		select {
		case err := <-done:
			if err == nil {
				t.Errorf("%s tells no error", what)
			}
		case <-time.After(2 * time.Minute):
			t.Errorf("%s has not returned", what)
		}
	}
}

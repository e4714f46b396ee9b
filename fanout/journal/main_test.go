package journal

import (
	"bytes"
	"context"
	"errors"
	"fmt"
	"io"
	"log/slog"
	"math/rand/v2"
	"os"
	"sync"
	"testing"
	"time"

	"go.uber.org/goleak"
)

func TestMain(m *testing.M) {
	if dir := os.Getenv(envChildDir); dir != "" {
		os.Exit(powerCutChild(dir, os.Getenv(envChildUnsynced) != ""))
	}
	goleak.VerifyTestMain(m)
}

var silent = slog.New(slog.NewTextHandler(io.Discard, nil))

// patience is how long a test waits for what should come at once: long enough
// for a busy machine, short enough to name the test that hangs.
const patience = 2 * time.Minute

func deadline(t testing.TB) context.Context {
	ctx, cancel := context.WithTimeout(t.Context(), patience)
	t.Cleanup(cancel)
	return ctx
}

// ended is a context that waits for nothing.
func ended() context.Context {
	ctx, cancel := context.WithCancel(context.Background())
	cancel()
	return ctx
}

// open opens a journal that is not running; it closes with the test, or sooner
// by the function.
func open(t testing.TB, dir string) (j *Journal, shut func()) {
	t.Helper()
	j, err := Open(Config{Dir: dir}, silent, nil)
	if err != nil {
		t.Fatalf("Open: %v", err)
	}
	shut = sync.OnceFunc(func() {
		if err := j.Close(); err != nil {
			t.Errorf("Close: %v", err)
		}
	})
	t.Cleanup(shut)
	return j, shut
}

// run runs the journal until the function is called, or the test ends.
func run(t testing.TB, j *Journal) (stop func()) {
	t.Helper()
	ctx, cancel := context.WithCancel(context.Background())
	done := make(chan error, 1)
	go func() { done <- j.Run(ctx) }()
	stop = sync.OnceFunc(func() {
		cancel()
		select {
		case err := <-done:
			if err != nil {
				t.Errorf("Run: %v", err)
			}
		case <-time.After(patience):
			t.Errorf("Run has not returned %s after its context ended", patience)
		}
	})
	t.Cleanup(stop)
	return stop
}

// start opens a journal and runs it; the function ends both.
func start(t testing.TB, dir string) (j *Journal, end func()) {
	t.Helper()
	j, shut := open(t, dir)
	stop := run(t, j)
	return j, func() { stop(); shut() }
}

// message makes the message that stands at an ordinal of a commit; the same
// place always gives the same message.
func message(epoch uint16, lsn LSN, ordinal, size int) Message {
	data := make([]byte, size)
	for i := range data {
		data[i] = "abcdefghijklmnopqrstuvwxyz"[(int(lsn)+ordinal+i)%26]
	}
	return Message{
		ID:     ID{Epoch: epoch, LSN: lsn, Ordinal: uint32(ordinal)},
		Action: Publish,
		Tags:   []string{"sport", fmt.Sprintf("team-%d", ordinal)},
		Source: "public.news",
		Key:    fmt.Appendf(nil, `{"id":%d}`, lsn),
		Time:   time.UnixMicro(1_700_000_000_000_000 + int64(lsn)).UTC(),
		Data:   fmt.Appendf(nil, `{"body":"%s"}`, data),
	}
}

// commit makes a commit of n messages with about size bytes of data each.
func commit(epoch uint16, lsn LSN, n, size int) Commit {
	c := Commit{Epoch: epoch, LSN: lsn, End: lsn + 8, Time: time.UnixMicro(int64(lsn)).UTC()}
	for i := range n {
		c.Messages = append(c.Messages, message(epoch, lsn, i, size))
	}
	return c
}

// noise makes data that does not compress, the same for the same seed.
func noise(seed uint64, size int) []byte {
	data := make([]byte, size)
	rng := rand.NewChaCha8([32]byte{byte(seed), byte(seed >> 8), byte(seed >> 16)})
	_, _ = rng.Read(data)
	return data
}

func mustAppend(t testing.TB, j *Journal, commits ...Commit) {
	t.Helper()
	for _, c := range commits {
		if err := j.Append(deadline(t), c); err != nil {
			t.Fatalf("Append: %v", err)
		}
	}
}

func mustSync(t testing.TB, j *Journal) {
	t.Helper()
	if err := j.WaitSynced(deadline(t), j.Head()); err != nil {
		t.Fatalf("WaitSynced(%d): %v", j.Head(), err)
	}
}

// read follows the journal from after to its head, limit entries at a time.
func read(t testing.TB, j *Journal, after Seq, limit int) []Entry {
	t.Helper()
	var all []Entry
	for head := j.Head(); after < head; {
		entries, err := j.Next(deadline(t), after, limit)
		if err != nil {
			t.Fatalf("Next(%d): %v", after, err)
		}
		if len(entries) == 0 || len(entries) > limit {
			t.Fatalf("Next(%d, %d) gave %d entries", after, limit, len(entries))
		}
		all = append(all, entries...)
		after = entries[len(entries)-1].Seq
	}
	return all
}

// wantMessages checks that entries are exactly the commits' messages, dense
// behind after.
func wantMessages(t testing.TB, entries []Entry, after Seq, commits ...Commit) {
	t.Helper()
	var want []Message
	for _, c := range commits {
		want = append(want, c.Messages...)
	}
	if len(entries) != len(want) {
		t.Fatalf("%d entries, want %d", len(entries), len(want))
	}
	for i, e := range entries {
		if e.Seq != after+Seq(i)+1 {
			t.Fatalf("entry %d has Seq %d, want %d", i, e.Seq, after+Seq(i)+1)
		}
		if err := sameMessage(e.Message, &want[i]); err != nil {
			t.Fatalf("entry %d: %v", e.Seq, err)
		}
	}
}

func sameMessage(got, want *Message) error {
	if got == nil {
		return errors.New("no message")
	}
	a, b := recordOf(got), recordOf(want)
	if !bytes.Equal(a, b) {
		return fmt.Errorf("message %s differs from %s: %.200q, want %.200q", got.ID, want.ID, a, b)
	}
	return nil
}

// recordOf is the record of a message that is right.
func recordOf(m *Message) []byte {
	record, err := appendMessage(nil, m)
	if err != nil {
		panic(err)
	}
	return record
}

package journal

import (
	"context"
	"testing"
	"testing/synctest"
	"time"
)

// gathered runs gather and gives the channel that tells how long it lasted.
func gathered(ctx context.Context, j *Journal) <-chan time.Duration {
	ended, began := make(chan time.Duration, 1), time.Now()
	go func() {
		j.gather(ctx)
		ended <- time.Since(began)
	}()
	synctest.Wait()
	return ended
}

func TestFloodGathers(t *testing.T) {
	for name, c := range map[string]struct {
		act  func(t *testing.T, j *Journal)
		want time.Duration
	}{
		"commits":           {func(t *testing.T, j *Journal) { mustAppend(t, j, commit(1, 0x20, 3, 10), commit(1, 0x30, 3, 10)) }, gatherMost},
		"nothing":           {func(*testing.T, *Journal) {}, gatherMost},
		"routed watermarks": {func(t *testing.T, j *Journal) { mustApply(t, j, nil) }, gatherMost},
		"as much as fits": {func(t *testing.T, j *Journal) {
			mustAppend(t, j, commit(1, 0x20, 1, maxTxnBytes*2/3), commit(1, 0x30, 1, maxTxnBytes*2/3))
		}, 0},
		"what is waited for":    {func(t *testing.T, j *Journal) { mustApply(t, j, func(error) {}) }, 0},
		"the end of a commit":   {func(t *testing.T, j *Journal) { appendSpooled(t, j, commit(1, 0x20, 9, 10), 3) }, 0},
		"parts of it":           {func(t *testing.T, j *Journal) { mustSpool(t, j, parts(commit(1, 0x20, 9, 10), 3)[0]) }, gatherMost},
		"a reader that follows": {func(t *testing.T, j *Journal) { mustChange(t, j) }, 0},
	} {
		t.Run(name, func(t *testing.T) {
			synctest.Test(t, func(t *testing.T) {
				j := idle()
				mustAppend(t, j, commit(1, 0x10, 3, 10)) // it has given its token
				ended := gathered(t.Context(), j)
				c.act(t, j)
				if got := <-ended; got != c.want {
					t.Errorf("it gathers for %s, want %s", got, c.want)
				}
			})
		})
	}
}

func TestFloodDoesNotGatherWhereSomebodyWaits(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		j := idle()
		mustChange(t, j)
		mustAppend(t, j, commit(1, 0x10, 3, 10))
		if got := <-gathered(t.Context(), j); got != 0 {
			t.Errorf("it gathers for %s", got)
		}
	})
}

func TestGatheringEndsWithTheJournal(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		ctx, cancel := context.WithCancel(t.Context())
		ended := gathered(ctx, idle())
		cancel()
		if got := <-ended; got != 0 {
			t.Errorf("it gathers for %s", got)
		}
	})
}

func mustApply(t *testing.T, j *Journal, done func(error)) {
	t.Helper()
	var u Update
	u.Set(spaceMeta.Key('x'), []byte("value"))
	if err := j.Apply(t.Context(), u, done); err != nil {
		t.Fatal(err)
	}
}

func mustChange(t *testing.T, j *Journal) {
	t.Helper()
	if _, err := j.AppendChange(t.Context(), Change{Name: "ann"}, Update{}); err != nil {
		t.Fatal(err)
	}
}

package store

import (
	"context"
	"errors"
	"io/fs"
	"sync"
	"testing"
	"testing/fstest"
	"time"

	"newswire/cdc/pgtest"
	"newswire/migrations"
)

func TestCheckWantsTheTablesOfThisVersion(t *testing.T) {
	db := pgtest.New(t, pgtest.WithSchema(""), pgtest.WithPublication(""), pgtest.WithoutSlot())
	st, err := New(Config{DSN: db.SuperDSN})
	if err != nil {
		t.Fatal(err)
	}
	defer st.Close()
	if err := st.Check(t.Context()); !errors.Is(err, ErrNoTables) {
		t.Errorf("without tables: %v", err)
	}
	now := migrations.Compensate()
	names, err := fs.Glob(now.Files, "*.sql")
	if err != nil || len(names) < 2 {
		t.Fatal(names, err)
	}
	before := now
	files := make(fstest.MapFS)
	for _, name := range names[:len(names)-1] {
		text, err := fs.ReadFile(now.Files, name)
		if err != nil {
			t.Fatal(err)
		}
		files[name] = &fstest.MapFile{Data: text}
	}
	before.Files = files
	for _, step := range []struct {
		set  migrations.Set
		want error
	}{{before, ErrNoTables}, {now, nil}} {
		if _, err := migrations.Apply(t.Context(), db.SuperDSN, step.set); err != nil {
			t.Fatal(err)
		}
		if err := st.Check(t.Context()); !errors.Is(err, step.want) {
			t.Errorf("with %d files: %v, want %v", step.set.Latest(), err, step.want)
		}
	}
}

// Whoever puts back says for how long: machines whose clocks differ would else call a
// provider that told them to wait.
func TestWhatIsPutBackWaitsByTheDatabasesClock(t *testing.T) {
	db := crowd(t, 1, "waiting", analyzed)
	st, err := New(Config{DSN: db.SuperDSN})
	if err != nil {
		t.Fatal(err)
	}
	defer st.Close()
	ctx, cancel := context.WithCancel(t.Context())
	var working sync.WaitGroup
	working.Go(func() { _ = st.Run(ctx) })
	defer working.Wait()
	defer cancel()
	var taken []Delivery
	for deadline := time.Now().Add(2 * time.Minute); len(taken) == 0; <-time.After(10 * time.Millisecond) { // until the first beat
		if taken, err = st.Take(ctx, "webhook", 1); err != nil || time.Now().After(deadline) {
			t.Fatal(taken, err)
		}
	}
	if ok, err := st.Claim(taken, "bundle"); !ok || err != nil {
		t.Fatalf("Claim = %t, %v", ok, err)
	}
	if err := st.PutBack(ctx, taken, Again{In: time.Hour, Reason: "wait", Untried: true}); err != nil {
		t.Fatal(err)
	}
	const want = `SELECT state = 'waiting' AND reason = 'wait' AND due BETWEEN now() + interval '50 minutes' AND now() + interval '1 hour'
		AND attempts = 0 AND bundle IS NULL AND owner IS NULL FROM newswire_compensate.deliveries`
	if !pgtest.Value[bool](db, want) {
		t.Errorf("put back it is %v", pgtest.Values[string](db, `SELECT d::text FROM newswire_compensate.deliveries d`))
	}
}

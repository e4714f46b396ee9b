package store

import (
	"context"
	"fmt"
	"testing"
	"time"

	"newswire/cdc/pgtest"
	"newswire/migrations"
)

// ground is a database with the tables and one delivery that waits.
func ground(t *testing.T) *pgtest.DB {
	t.Helper()
	db := pgtest.New(t, pgtest.WithSchema(""), pgtest.WithPublication(""), pgtest.WithoutSlot())
	if _, err := migrations.Apply(t.Context(), db.SuperDSN, migrations.Compensate()); err != nil {
		t.Fatal(err)
	}
	st := open(t, db)
	_, err := st.Add(t.Context(), []Record{{
		CeID: "m1:u1", Reader: "u1", Article: "a1", Action: "publish", Value: []byte("{}"), Expires: time.Now().Add(time.Hour),
		Targets: []Target{{Channel: "sms"}},
	}})
	if err != nil {
		t.Fatal(err)
	}
	return db
}

// open gives an instance that lives.
func open(t *testing.T, db *pgtest.DB) *Store {
	t.Helper()
	st, err := New(Config{DSN: db.SuperDSN, Lease: time.Minute})
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(st.Close)
	ctx, cancel := context.WithCancel(context.Background())
	done := make(chan error, 1)
	go func() { done <- st.Run(ctx) }()
	t.Cleanup(func() {
		cancel()
		if err := <-done; err != nil {
			t.Error(err)
		}
	})
	for deadline := time.Now().Add(2 * time.Minute); ; <-time.After(5 * time.Millisecond) {
		if pgtest.Value[int](db, fmt.Sprintf(`SELECT count(*)::int FROM newswire_compensate.instances WHERE id = '%x'`, st.me)) == 1 {
			return st
		}
		if time.Now().After(deadline) {
			t.Fatal("the instance is not known to live")
		}
	}
}

// take takes the one delivery.
func take(t *testing.T, st *Store) []Delivery {
	t.Helper()
	ds, err := st.Take(t.Context(), "sms", 10)
	if err != nil || len(ds) != 1 {
		t.Fatalf("took %d deliveries, %v; want one", len(ds), err)
	}
	return ds
}

// An instance that wakes up may take again what others have taken over from it,
// while a part of it still goes on with the first taking: that must neither send
// nor give back, nor write down, what is the second's.
func TestWhatWasTakenAnewIsNotTheFirstTakers(t *testing.T) {
	db := ground(t)
	st, other := open(t, db), open(t, db)
	old := take(t, st)
	asleep := func() {
		db.Exec(fmt.Sprintf(`UPDATE newswire_compensate.instances SET seen_at = now() - interval '1 hour' WHERE id = '%x'`, st.me))
	}
	asleep()
	if r, err := other.Recover(t.Context(), nil); err != nil || r.Taken != 1 {
		t.Fatalf("recovered %+v, %v", r, err)
	}
	if err := st.beat(t.Context()); err != nil {
		t.Fatal(err)
	}
	again := take(t, st)
	if ok, err := st.Claim(old, "m1:u1"); ok || err != nil {
		t.Fatalf("the first taking claims it: %v, %v", ok, err)
	}
	if ok, err := st.Claim(again, "m1:u1"); !ok || err != nil {
		t.Fatalf("the second taking does not claim it: %v, %v", ok, err)
	}
	state := func(want, when string) {
		t.Helper()
		if got := pgtest.Value[string](db, `SELECT state FROM newswire_compensate.deliveries`); got != want {
			t.Errorf("%s it is %s, want %s", when, got, want)
		}
	}
	if err := st.PutBack(t.Context(), old, Again{}); err != nil {
		t.Fatal(err)
	}
	state("claimed", "after the first taking put it back")
	if err := st.Settle([]Settled{{Delivery: old[0], State: "sent"}}); err != nil {
		t.Fatal(err)
	}
	state("claimed", "after the first taking told of an outcome")

	// Who slept with a claim still knows what came of it.
	asleep()
	if r, err := other.Recover(t.Context(), nil); err != nil || r.Doubtful != 1 {
		t.Fatalf("recovered %+v, %v", r, err)
	}
	state("doubtful", "while its instance sleeps")
	if err := st.Settle([]Settled{{Delivery: again[0], State: "sent"}}); err != nil {
		t.Fatal(err)
	}
	state("sent", "after its outcome was told late")
}

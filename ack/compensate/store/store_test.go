package store

import (
	"errors"
	"io/fs"
	"testing"
	"testing/fstest"

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

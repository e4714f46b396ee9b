package migrations_test

import (
	"context"
	"os"
	"slices"
	"testing"
	"testing/fstest"

	"github.com/jackc/pgx/v5"

	"newswire/cdc/pgtest"
	"newswire/migrations"
)

func TestMain(m *testing.M) { os.Exit(pgtest.Main(m)) }

// empty gives a database without tables and a superuser's connection to it.
func empty(t *testing.T) (*pgtest.DB, *pgx.Conn) {
	t.Helper()
	db := pgtest.New(t, pgtest.WithSchema(""), pgtest.WithPublication(""))
	return db, connect(t, db)
}

func connect(t *testing.T, db *pgtest.DB) *pgx.Conn {
	t.Helper()
	conn, err := pgx.Connect(t.Context(), db.SuperDSN)
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { _ = conn.Close(context.Background()) })
	return conn
}

func TestApplyRunsEachFileOnce(t *testing.T) {
	t.Parallel()
	db, conn := empty(t)
	ran, err := migrations.Apply(t.Context(), conn, migrations.CMS())
	if err != nil || !slices.Equal(ran, []string{"0001_articles.sql"}) {
		t.Fatalf("first Apply = %v, %v; want the articles", ran, err)
	}
	if ran, err = migrations.Apply(t.Context(), conn, migrations.CMS()); err != nil || len(ran) != 0 {
		t.Fatalf("second Apply = %v, %v; want nothing to do", ran, err)
	}
	db.Exec(`SET ROLE editor;
		INSERT INTO public.articles (title, tags) VALUES ('first', '{tech}');
		UPDATE public.articles SET summary = 's';
		RESET ROLE`)
	if n := pgtest.Value[int](db, `SELECT count(*)::int FROM public.articles WHERE status = 'published'`); n != 1 {
		t.Errorf("the editor's article is not there: %d rows", n)
	}
}

func TestApplyIsWholeOrNothing(t *testing.T) {
	t.Parallel()
	db, conn := empty(t)
	dir := fstest.MapFS{
		"0001_good.sql": {Data: []byte("CREATE TABLE good (); CREATE TABLE also_good ()")},
		"0002_bad.sql":  {Data: []byte("CREATE TABLE bad (no_type)")},
	}
	if ran, err := migrations.Apply(t.Context(), conn, dir); err == nil || ran != nil {
		t.Fatalf("Apply = %v, %v; want the error of 0002_bad.sql", ran, err)
	}
	if n := pgtest.Value[int](db, `SELECT count(*)::int FROM pg_namespace WHERE nspname = 'newswire_migrations'`); n != 0 {
		t.Error("something of a refused Apply was kept")
	}
	dir["0002_bad.sql"].Data = []byte("CREATE TABLE mended ()")
	if ran, err := migrations.Apply(t.Context(), conn, dir); err != nil || len(ran) != 2 {
		t.Errorf("Apply after mending = %v, %v; want both files", ran, err)
	}
}

func TestTwoAtOnceTakeTurns(t *testing.T) {
	t.Parallel()
	db, first := empty(t)
	second := connect(t, db)
	type result struct {
		ran []string
		err error
	}
	results := make(chan result, 2)
	dir := fstest.MapFS{"0001.sql": {Data: []byte("CREATE TABLE once ()")}}
	for _, conn := range []*pgx.Conn{first, second} {
		go func() {
			ran, err := migrations.Apply(t.Context(), conn, dir)
			results <- result{ran, err}
		}()
	}
	files := 0
	for range 2 {
		r := <-results
		if r.err != nil {
			t.Error(r.err)
		}
		files += len(r.ran)
	}
	if files != 1 {
		t.Errorf("the file ran %d times, want once", files)
	}
}

package migrations_test

import (
	"os"
	"slices"
	"strings"
	"testing"
	"testing/fstest"

	"newswire/cdc/pgtest"
	"newswire/migrations"
)

func TestMain(m *testing.M) { os.Exit(pgtest.Main(m)) }

func empty(t *testing.T) *pgtest.DB {
	t.Helper()
	return pgtest.New(t, pgtest.WithSchema(""), pgtest.WithPublication(""))
}

func set(files fstest.MapFS) migrations.Set {
	return migrations.Set{Name: "test", Schema: "test_versions", Files: files}
}

func sql(text string) *fstest.MapFile { return &fstest.MapFile{Data: []byte("-- +goose Up\n" + text)} }

func TestApplyRunsEachFileOnce(t *testing.T) {
	t.Parallel()
	db := empty(t)
	ran, err := migrations.Apply(t.Context(), db.SuperDSN, migrations.CMS())
	if err != nil || !slices.Equal(ran, []string{"0001_articles.sql"}) {
		t.Fatalf("first Apply = %v, %v; want the articles", ran, err)
	}
	if ran, err = migrations.Apply(t.Context(), db.SuperDSN, migrations.CMS()); err != nil || len(ran) != 0 {
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

// A DBA who lets no program make tables runs the printed SQL: the database has then
// what Apply would have made, and knows it.
func TestThePrintedSQLDoesWhatApplyDoes(t *testing.T) {
	t.Parallel()
	byHand, applied := empty(t), empty(t)
	s := migrations.Compensate()
	text, err := s.SQL()
	if err != nil {
		t.Fatal(err)
	}
	byHand.Exec(text)
	if _, err := migrations.Apply(t.Context(), applied.SuperDSN, s); err != nil {
		t.Fatal(err)
	}
	if ran, err := migrations.Apply(t.Context(), byHand.SuperDSN, s); err != nil || len(ran) != 0 {
		t.Errorf("Apply behind the printed SQL = %v, %v; want nothing to do", ran, err)
	}
	const catalog = `SELECT format('%s %s %s %s', c.relname, a.attname, format_type(a.atttypid, a.atttypmod), a.attnotnull)
		FROM pg_attribute a JOIN pg_class c ON c.oid = a.attrelid WHERE c.relnamespace = 'newswire_compensate'::regnamespace AND c.relkind = 'r' AND a.attnum > 0
		UNION ALL SELECT 'version ' || version_id FROM newswire_compensate.versions WHERE is_applied ORDER BY 1`
	if got, want := pgtest.Values[string](byHand, catalog), pgtest.Values[string](applied, catalog); !slices.Equal(got, want) {
		t.Errorf("by hand there is\n%q\nwant\n%q", got, want)
	}
}

func TestSetsShareADatabase(t *testing.T) {
	t.Parallel()
	db := empty(t)
	for _, s := range []migrations.Set{migrations.CMS(), migrations.Compensate()} {
		conn := db.Connect()
		if v, err := s.Applied(t.Context(), conn); err != nil || v != 0 {
			t.Errorf("%s before Apply: version %d, %v; want 0", s.Name, v, err)
		}
		if _, err := migrations.Apply(t.Context(), db.SuperDSN, s); err != nil {
			t.Fatal(err)
		}
		if v, err := s.Applied(t.Context(), conn); err != nil || v != s.Latest() || v == 0 {
			t.Errorf("%s after Apply: version %d, %v; want %d", s.Name, v, err, s.Latest())
		}
		if text, err := s.SQL(); err != nil || !strings.Contains(text, "CREATE TABLE") {
			t.Errorf("%s: SQL() = %q, %v", s.Name, text, err)
		}
	}
}

func TestARefusedFileLeavesNothing(t *testing.T) {
	t.Parallel()
	db := empty(t)
	dir := fstest.MapFS{
		"0001_good.sql": sql("CREATE TABLE good ();"),
		"0002_bad.sql":  sql("CREATE TABLE half (); CREATE TABLE bad (no_type);"),
	}
	ran, err := migrations.Apply(t.Context(), db.SuperDSN, set(dir))
	if err == nil || !strings.Contains(err.Error(), "0002_bad.sql") || !slices.Equal(ran, []string{"0001_good.sql"}) {
		t.Fatalf("Apply = %v, %v; want the first file and the error of 0002_bad.sql", ran, err)
	}
	if n := pgtest.Value[int](db, `SELECT count(*)::int FROM pg_tables WHERE tablename = 'half'`); n != 0 {
		t.Error("half of a refused file was kept")
	}
	dir["0002_bad.sql"] = sql("CREATE TABLE mended ();")
	if ran, err = migrations.Apply(t.Context(), db.SuperDSN, set(dir)); err != nil || !slices.Equal(ran, []string{"0002_bad.sql"}) {
		t.Errorf("Apply after mending = %v, %v; want the mended file alone", ran, err)
	}
}

func TestTwoAtOnceTakeTurns(t *testing.T) {
	t.Parallel()
	db := empty(t)
	type result struct {
		ran []string
		err error
	}
	results := make(chan result, 2)
	dir := set(fstest.MapFS{"0001_once.sql": sql("CREATE TABLE once ();")})
	for range 2 {
		go func() {
			ran, err := migrations.Apply(t.Context(), db.SuperDSN, dir)
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

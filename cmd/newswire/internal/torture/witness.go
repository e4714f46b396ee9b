package torture

import (
	"encoding/json"
	"fmt"
	"regexp"
	"strconv"
	"strings"
	"testing"
	"time"

	"newswire/cdc/pgtest"
	"newswire/cmd/newswire/internal/checker"
	"newswire/fanout/journal"
)

// schema is the CMS's table, and beside it a history of its rows, which the
// publication does not carry: a trigger writes down each change, as PostgreSQL
// prints it, within the change's own transaction.
const schema = `
CREATE TABLE articles (
	id bigint PRIMARY KEY, title text, summary text, url text, tags text[], status text, views int DEFAULT 0,
	published_at timestamptz DEFAULT now()
);
CREATE TABLE history (n bigserial PRIMARY KEY, old jsonb, new jsonb);
CREATE FUNCTION told(r articles) RETURNS jsonb LANGUAGE sql SET timezone = 'UTC' AS $$
	SELECT CASE WHEN r.id IS NOT NULL THEN jsonb_build_object('key', r.id, 'tags', to_jsonb(r.tags), 'published', coalesce(r.status = 'published', false),
		'data', jsonb_build_object('id', r.id, 'title', r.title, 'summary', r.summary, 'url', r.url, 'published_at', r.published_at)) END
$$;
CREATE FUNCTION note() RETURNS trigger LANGUAGE plpgsql AS $$
BEGIN
	IF TG_OP = 'INSERT' THEN INSERT INTO history (new) VALUES (told(NEW));
	ELSIF TG_OP = 'UPDATE' THEN INSERT INTO history (old, new) VALUES (told(OLD), told(NEW));
	ELSE INSERT INTO history (old) VALUES (told(OLD)); END IF;
	RETURN NULL;
END $$;
CREATE TRIGGER note AFTER INSERT OR UPDATE OR DELETE ON articles FOR EACH ROW EXECUTE FUNCTION note();
CREATE FUNCTION note_all() RETURNS trigger LANGUAGE plpgsql AS $$
BEGIN
	INSERT INTO history (old) SELECT told(a) FROM articles a WHERE status = 'published'
		ORDER BY jsonb_build_object('id', id)::text COLLATE "C"; -- the engine tells them by their keys, as JSON
	INSERT INTO history DEFAULT VALUES; -- it takes one change of its own behind them
	RETURN NULL;
END $$;
CREATE TRIGGER note_all BEFORE TRUNCATE ON articles EXECUTE FUNCTION note_all();
`

// tables is the mapping of the CMS's table, as a variable of the environment.
const tables = `NEWSWIRE_POSTGRES_TABLES=[{name: public.articles, tags: {column: tags}, data: [id, title, summary, url, published_at], published: {column: status, equals: published}}]`

// witness tells what was committed, in which order. It reads the log with a
// slot and a decoder of its own, so it shares nothing with the engine but
// PostgreSQL.
type witness struct {
	db   *pgtest.DB
	slot string
}

func newWitness(db *pgtest.DB) *witness {
	w := &witness{db, db.Name + "_witness"}
	_ = pgtest.Value[string](db, "SELECT slot_name FROM pg_create_logical_replication_slot($1, 'test_decoding')", w.slot)
	return w
}

var (
	noted     = regexp.MustCompile(`^table public\.history: INSERT: n\[bigint\]:(\d+) `)
	committed = regexp.MustCompile(`^COMMIT \(at (.*)\)$`)
)

// noteTime is how test_decoding prints a time where TimeZone is UTC.
const noteTime = "2006-01-02 15:04:05.999999-07"

// commits gives what was committed since the witness came. It is called once.
func (w *witness) commits(t testing.TB) (all []checker.Commit) {
	t.Helper()
	changes := w.changes(t)
	w.db.Exec("SET timezone = 'UTC'")
	lines := pgtest.Values[string](w.db, `SELECT lsn::text || ' ' || left(data, 80) FROM
		pg_logical_slot_get_changes($1, NULL, NULL, 'include-xids', '0', 'skip-empty-xacts', '1', 'include-timestamp', '1')
		WHERE data LIKE 'table public.history%' OR data LIKE 'COMMIT%'`, w.slot)
	var c checker.Commit
	for _, line := range lines {
		position, what, _ := strings.Cut(line, " ")
		if m := noted.FindStringSubmatch(what); m != nil {
			n, err := strconv.ParseInt(m[1], 10, 64)
			if err != nil {
				t.Fatalf("witness: %q: %v", line, err)
			}
			c.Changes = append(c.Changes, changes[n])
		}
		if m := committed.FindStringSubmatch(what); m != nil {
			end, err := journal.ParseLSN(position)
			if err != nil {
				t.Fatalf("witness: %q: %v", line, err)
			}
			if c.Time, err = time.Parse(noteTime, m[1]); err != nil {
				t.Fatalf("witness: %q: %v", line, err)
			}
			c.End = end
			all = append(all, c)
			c = checker.Commit{Behind: end}
		}
	}
	return all
}

// changes gives what the trigger has written down, by number.
func (w *witness) changes(t testing.TB) map[int64]checker.Change {
	t.Helper()
	changes := make(map[int64]checker.Change)
	for _, text := range pgtest.Values[string](w.db, `SELECT jsonb_build_object('n', n, 'old', old, 'new', new)::text FROM history`) {
		var note struct {
			N        int64
			Old, New *noteRow
		}
		if err := json.Unmarshal([]byte(text), &note); err != nil {
			t.Fatalf("witness: %v: %.200s", err, text)
		}
		changes[note.N] = checker.Change{Old: note.Old.row(), New: note.New.row()}
	}
	return changes
}

// noteRow is a row in the history.
type noteRow struct {
	Key       int64
	Tags      []*string
	Published bool
	Data      json.RawMessage
}

func (n *noteRow) row() *checker.Row {
	if n == nil {
		return nil
	}
	r := &checker.Row{Key: n.Key, Published: n.Published, Data: checker.DigestOf(n.Data)}
	for _, tag := range n.Tags {
		if tag != nil { // NULL is no tag
			r.Tags = append(r.Tags, *tag)
		}
	}
	return r
}

// literal quotes a text for SQL.
func literal(s string) string { return fmt.Sprintf("'%s'", strings.ReplaceAll(s, "'", "''")) }

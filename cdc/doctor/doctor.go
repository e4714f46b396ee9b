// Package doctor examines a server, its slot and this machine for what would
// keep the engine from starting, break the editors' saves, or lose news. It
// tells everything at once, each finding with its remedy, and leaves nothing changed:
// it looks into a slot by a temporary copy of it, and the directory by which it
// tries where the journal would be is gone again.
package doctor

import (
	"context"
	"fmt"
	"slices"
	"strings"
	"time"

	"github.com/jackc/pgx/v5"

	"newswire/cdc/publication"
	"newswire/cdc/setup"
	"newswire/cdc/slot"
	"newswire/fanout/journal"
)

// Config says what is to be examined.
type Config struct {
	DSN            string
	Slot           string
	Publication    string
	Heartbeat      time.Duration // 0: none is sent
	Tables         []Table
	Queries        []setup.Query // for tags
	Backfill       bool          // the first start makes messages of rows that are there
	JournalDir     string
	JournalReserve journal.Size  // of its disk, below which intake waits; 0: as the disk suggests
	RateOver       time.Duration // how long the write rate is measured, at least; 0 means 1s

	// Journal tells up to where the engine's journal has everything, 0 when it is
	// empty; ok is false when that is not known. nil: it is not asked.
	Journal func(ctx context.Context) (at journal.LSN, ok bool)
	// Engine tells whether the engine runs here, and then in sentences why it is
	// not ready. nil: it is not asked.
	Engine func(ctx context.Context) (reasons []string, answers bool)
	// Ask tries a query for tags, and tells in sentences what is wrong with it,
	// or with its link tables. nil: it is not asked.
	Ask func(ctx context.Context, q setup.Query) ([]string, error)
	// Preflight tells what keeps the engine from starting, a sentence a line.
	// nil: it is not asked.
	Preflight func(ctx context.Context) error
	// Kafka tells in sentences what about it could lose or delay hand-overs.
	// nil: it is not asked.
	Kafka func(ctx context.Context) []string
}

// Table is a table whose rows are read.
type Table struct {
	Schema, Name string
	Key          string   // of the configuration, such as postgres.tables[0]
	Columns      []Column // that the mapping names
	All          bool     // readers get every column
	Link         bool     // it only ties rows of others to their tags

	News *publication.Equals // only such rows are news; nil: all, or more than a publication can tell
	Why  string              // then: why it cannot
}

// wish is what of the table has to leave the database.
func (t Table) wish() publication.Wish {
	w := publication.Wish{Schema: t.Schema, Name: t.Name, News: t.News, Why: t.Why}
	for _, c := range t.Columns {
		if !t.All && !slices.Contains(w.Columns, c.Name) {
			w.Columns = append(w.Columns, c.Name)
		}
	}
	return w
}

// Column is one that the configuration names by the key.
type Column struct{ Name, Key string }

// named is the key that holds the table's name.
func (t Table) named() string {
	if t.Link {
		return t.Key + ".table"
	}
	return t.Key + ".name"
}

func (t Table) String() string { return t.Schema + "." + t.Name }

func (t Table) quoted() string { return pgx.Identifier{t.Schema, t.Name}.Sanitize() }

// Level is how bad a finding is.
type Level string

// The levels. Fatal is what keeps the engine from starting, makes the editors'
// UPDATEs fail, or has already lost log; the rest warns.
const (
	OK    Level = "ok"
	Warn  Level = "warn"
	Fatal Level = "fatal"
)

// Finding is what one check has to say about one object.
type Finding struct {
	Check   string `json:"check"` // stable, for alarms and runbooks
	Level   Level  `json:"level"`
	Object  string `json:"object"`
	Message string `json:"message"`
	Remedy  string `json:"remedy"` // "" when there is nothing to do
	Page    string `json:"page"`   // where the README tells more; set in JSON
}

// Report is what an examination has found.
type Report struct {
	Findings []Finding `json:"findings"`
}

// Count counts the findings of a level.
func (r Report) Count(l Level) (n int) {
	for _, f := range r.Findings {
		if f.Level == l {
			n++
		}
	}
	return n
}

func (r *Report) toldFatal(check string) bool {
	return slices.ContainsFunc(r.Findings, func(f Finding) bool { return f.Check == check && f.Level == Fatal })
}

func (r *Report) add(check string, l Level, object, remedy, message string) {
	r.Findings = append(r.Findings, Finding{Check: check, Level: l, Object: object, Message: message, Remedy: remedy})
}

func (r *Report) ok(check, object, message string, args ...any) {
	r.add(check, OK, object, "", fmt.Sprintf(message, args...))
}

func (r *Report) warn(check, object, remedy, message string, args ...any) {
	r.add(check, Warn, object, remedy, fmt.Sprintf(message, args...))
}

func (r *Report) fatal(check, object, remedy, message string, args ...any) {
	r.add(check, Fatal, object, remedy, fmt.Sprintf(message, args...))
}

// Bounds of an examination.
const (
	connectTimeout = 10 * time.Second
	stepTimeout    = 15 * time.Second
	rateOver       = time.Second
)

// examination is one run, on one connection.
type examination struct {
	*Report
	cfg  Config
	conn *pgx.Conn
	user string

	version    int                // server_version_num
	replicates bool               // we may open a replication connection
	slot       *slot.Status       // nil: there is none
	tables     []foundTable       // those of cfg that exist
	pub        *publication.State // nil: there is none
	first      slot.Sample        // the end of the log when we began
	journal    journal.LSN        // where the journal ended when we began; 0: it is empty, or not known
	firstStart bool               // it is known to be empty
}

// Run examines everything that can be reached.
func Run(ctx context.Context, cfg Config) Report {
	if cfg.RateOver == 0 {
		cfg.RateOver = rateOver
	}
	e := &examination{Report: new(Report), cfg: cfg}
	if e.connect(ctx) {
		e.database(ctx)
		_ = e.conn.Close(context.WithoutCancel(ctx)) // the server ends the session either way
	}
	e.running(ctx)
	e.journalDir()
	e.kafka(ctx)
	return *e.Report
}

// database runs the checks that need the server. A check that cannot tell is a
// finding too, and the others go on.
func (e *examination) database(ctx context.Context) {
	for _, step := range []struct {
		check string
		run   func(context.Context) error
	}{
		{"version", e.server},
		{"journal-position", e.readJournal},
		{"wal-level", e.settings}, // before the next, whose connection would be counted
		{"login", e.replication},
		{"clock", e.clock},
		{"role-excess", e.role},
		{"table", e.examineTables},
		{"select-excess", e.reads},
		{"publication", e.examinePublication},
		{"publication-tables", e.publishedTables},
		{"replica-identity", e.replicaIdentity},
		{"tags-query", e.queries},
		{"slot", e.examineSlot},
		{"slot-publication", e.slotPublication},
		{"slot-failover", e.failover},
		{"slot-wal", e.kept},
		{"journal-position", e.journalPosition},
		{"serve", e.serve},
	} {
		within, cancel := context.WithTimeout(ctx, stepTimeout)
		if err := step.run(within); err != nil {
			e.warn(step.check, "PostgreSQL", "see the message, and run `newswire doctor` again", "this could not be examined: %s", oneLine(err))
		}
		cancel()
	}
}

// serve asks what the engine asks at its start, so that nothing keeps it from
// starting that is not told here. What was found fatal already is not repeated.
func (e *examination) serve(ctx context.Context) error {
	if e.cfg.Preflight == nil || e.Count(Fatal) > 0 {
		return nil
	}
	const check, object = "serve", "newswire serve"
	err := e.cfg.Preflight(ctx)
	if err == nil {
		e.ok(check, object, "nothing in the database as it is now keeps it from starting")
		return nil
	}
	for sentence := range strings.SplitSeq(err.Error(), "\n") {
		message, remedy := splitRemedy(sentence)
		e.fatal(check, object, remedy, "%s", message)
	}
	return nil
}

func (e *examination) kafka(ctx context.Context) {
	if e.cfg.Kafka == nil {
		return
	}
	const object = "Kafka"
	sentences := e.cfg.Kafka(ctx)
	for _, s := range sentences {
		message, remedy := splitRemedy(s)
		e.warn("kafka", object, remedy, "%s", message)
	}
	if len(sentences) == 0 {
		e.ok("kafka", object, "the topics keep hand-overs as they should")
	}
}

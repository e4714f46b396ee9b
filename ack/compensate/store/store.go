// Package store keeps what the compensation service must not forget: devices,
// records, and for each record, channel and device a receipt. It promises that
// a record is taken in once, that a delivery is claimed by one instance before
// it is sent, and that a claim whose outcome nobody wrote down is never taken
// for one that was not sent.
package store

import (
	"context"
	"crypto/rand"
	"errors"
	"fmt"
	"time"

	"github.com/jackc/pgx/v5"
	"github.com/jackc/pgx/v5/pgconn"
	"github.com/jackc/pgx/v5/pgxpool"
)

// Config says where the tables are.
type Config struct {
	DSN      string        // every form that pgx takes; required
	Name     string        // of this instance, for people
	Lease    time.Duration // an instance that was not seen for so long has lost what it took; 0 means 15s
	MaxConns int32         // 0 means 8

	Ended func(what Ended, n int) // is told of every outcome once it is durable; nil: nobody is
}

// Store is one instance's access to the tables. It is safe for concurrent use;
// Run must be at work while deliveries are claimed and settled.
type Store struct {
	pool  *pgxpool.Pool // fixed
	me    [16]byte      // fixed: this process's life
	name  string        // fixed
	lease time.Duration // fixed
	ended func(Ended, int)

	claims  *batcher[claimAsk, bool]  // fixed
	settles *batcher[[]Settled, bool] // fixed
	paces   *batcher[paceAsk, Turn]   // fixed
}

// The defaults of Config.
const (
	defaultLease    = 15 * time.Second
	defaultMaxConns = 8

	// statementTimeout bounds what is written whatever becomes of the asker.
	statementTimeout = 30 * time.Second
)

// ErrNoTables reports that the database lacks the tables, or has older ones.
var ErrNoTables = errors.New("the tables of the compensation service are not there, or are older than this newswire: run newswire migrate")

// New checks the configuration; it connects to nothing. Close ends what later
// calls have opened.
func New(cfg Config) (*Store, error) {
	pc, err := pgxpool.ParseConfig(cfg.DSN)
	if err != nil {
		return nil, fmt.Errorf("read compensate.postgres.dsn: %w", err)
	}
	pc.MaxConns = cfg.MaxConns
	if pc.MaxConns == 0 {
		pc.MaxConns = defaultMaxConns
	}
	if pc.ConnConfig.RuntimeParams["application_name"] == "" {
		pc.ConnConfig.RuntimeParams["application_name"] = "newswire compensate"
	}
	pool, err := pgxpool.NewWithConfig(context.Background(), pc)
	if err != nil {
		return nil, fmt.Errorf("prepare connections to compensate.postgres.dsn: %w", err)
	}
	s := &Store{pool: pool, name: cfg.Name, lease: cfg.Lease, ended: cfg.Ended}
	rand.Read(s.me[:]) // never fails: without randomness the process ends
	if s.lease == 0 {
		s.lease = defaultLease
	}
	s.claims = newBatcher(s.claimAll)
	s.settles = newBatcher(s.settleAll)
	s.paces = newBatcher(s.paceAll)
	return s, nil
}

// Ended counts deliveries that have got their outcome.
type Ended struct {
	Channel string // none: a record that goes nowhere
	State   string
	Reason  string
}

// transaction is one of the database's, with what ends by it.
type transaction struct {
	pgx.Tx
	ended map[Ended]int
}

// transaction runs f in one, again where it met another's and was the one to
// yield. The server ends it when this process does not go on with it for a lease: a
// process that was stopped must not keep its locks.
func (s *Store) transaction(ctx context.Context, f func(*transaction) error) error {
	begin := fmt.Sprintf("BEGIN; SET LOCAL idle_in_transaction_session_timeout = %d; %s", s.lease.Milliseconds(), byIndex)
	var one *transaction
	var err error
	for range mostYields {
		one = &transaction{ended: make(map[Ended]int)}
		err = pgx.BeginTxFunc(ctx, s.pool, pgx.TxOptions{BeginQuery: begin}, func(tx pgx.Tx) error {
			one.Tx = tx
			return f(one)
		})
		var said *pgconn.PgError
		if !errors.As(err, &said) || said.Code != "40P01" { // deadlock_detected
			break
		}
	}
	if err != nil || s.ended == nil {
		return err
	}
	for what, n := range one.ended {
		s.ended(what, n)
	}
	return nil
}

// byIndex keeps the planner to what every statement here is made for: few rows,
// found by an index. Left alone it reads all receipts where statistics are missing or
// old, at the more cost the more of them there are, and compiles what runs for milliseconds.
const byIndex = "SET LOCAL enable_seqscan = off; SET LOCAL enable_hashjoin = off; SET LOCAL enable_mergejoin = off; SET LOCAL jit = off"

// mostYields is how often a transaction yields to others before that is a fault.
const mostYields = 5

// Close ends every connection, behind Run.
func (s *Store) Close() { s.pool.Close() }

// newest asks for what the last of the migrations has made.
const newest = `SELECT EXISTS (SELECT FROM pg_attribute
	WHERE attrelid = to_regclass('newswire_compensate.deliveries') AND attname = 'taking' AND NOT attisdropped)`

// Check tells whether the database is there and has the tables.
func (s *Store) Check(ctx context.Context) error {
	var there bool
	err := s.pool.QueryRow(ctx, newest).Scan(&there)
	if err != nil {
		return fmt.Errorf("ask the database of compensate.postgres.dsn: %w", err)
	}
	if !there {
		return ErrNoTables
	}
	_, err = s.pool.Exec(ctx, "SELECT FROM newswire_compensate.deliveries WHERE false")
	var refused *pgconn.PgError
	if errors.As(err, &refused) && refused.Code == "42501" { // insufficient_privilege
		return errors.New("the role of compensate.postgres.dsn may not use the schema newswire_compensate: run newswire migrate as that role, or grant it USAGE on the schema and ALL on its tables")
	}
	return err
}

// Run writes claims and outcomes, many to a statement, and tells the others
// that this instance lives, until ctx ends and nobody asks any more.
func (s *Store) Run(ctx context.Context) error {
	done := make(chan struct{})
	defer close(done)
	go s.claims.run(done)
	go s.settles.run(done)
	go s.paces.run(done)
	tick := time.NewTicker(s.lease / 5)
	defer tick.Stop()
	for {
		// A beat that fails is made up for by the next; when none succeeds, the
		// database is away and nobody can take anything either.
		_ = s.beat(ctx)
		select {
		case <-tick.C:
		case <-ctx.Done():
			s.claims.wait()
			s.settles.wait()
			s.paces.wait()
			return nil
		}
	}
}

// beat writes down that this instance lives.
func (s *Store) beat(ctx context.Context) error {
	ctx, cancel := context.WithTimeout(ctx, s.lease/3)
	defer cancel()
	_, err := s.pool.Exec(ctx, `INSERT INTO newswire_compensate.instances (id, name) VALUES ($1, $2)
		ON CONFLICT (id) DO UPDATE SET seen_at = now()`, s.me, s.name)
	return err
}

// Leave gives back what was taken and not claimed, when this instance ends.
func (s *Store) Leave(ctx context.Context) error {
	return s.transaction(ctx, func(tx *transaction) error {
		if _, err := tx.Exec(ctx, `UPDATE newswire_compensate.deliveries SET state = 'waiting', owner = NULL
			WHERE owner = $1 AND state = 'taken'`, s.me); err != nil {
			return fmt.Errorf("give back deliveries: %w", err)
		}
		// With a claim of ours open, the others must see us vanish, not never have been.
		if _, err := tx.Exec(ctx, `DELETE FROM newswire_compensate.instances WHERE id = $1`, s.me); err != nil {
			return fmt.Errorf("leave instances: %w", err)
		}
		return nil
	})
}

// Package journal keeps what was committed, in one order, on disk.
//
// It is a log of entries with a dense Seq: messages, as PostgreSQL committed
// them, and changes of subscriptions, where they took effect. An entry can be
// read as soon as it has its place, and is durable once Synced has passed it;
// only what is durable may be confirmed to PostgreSQL. The packages that
// follow keep their own records in the same database through Update, so that
// nothing which depends on an entry outlives it.
package journal

import (
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"log/slog"
	"strings"
	"sync"
	"sync/atomic"
	"time"

	"github.com/dgraph-io/badger/v4"
	"github.com/dgraph-io/badger/v4/options"
	"github.com/prometheus/client_golang/prometheus"
)

var (
	// ErrClosed reports a write to a journal that has stopped taking any.
	ErrClosed = errors.New("journal closed")
	// ErrHeld reports a directory that another process has open.
	ErrHeld = errors.New("journal directory is held by another process")
)

// Config says where the journal is.
type Config struct {
	Dir     string // made when missing; one process at a time
	Reserve Size   // of the disk, below which intake waits; 0: as the disk's size suggests
	// Unsynced leaves syncing to the operating system: a lost machine then
	// loses commits that were confirmed. It exists so that the power-cut test
	// can show that it would notice.
	Unsynced bool
}

// Limits of what is held in memory, chosen for a machine with two cores and
// little memory. A Badger transaction may fill 15 % of a memtable.
const (
	memTable     = 16 << 20
	maxTxnBytes  = memTable / 100 * 12
	maxTxnOps    = 15_000    // Badger's own limit is about 15 % of a memtable in 96-byte nodes
	maxValue     = 512 << 10 // below Badger's value threshold: all data takes the checked path
	maxQueue     = 32 << 20  // bytes on their way to the disk before writers wait
	tailEntries  = 8192      // kept in memory for followers
	tailBytesMax = 32 << 20
)

// Journal is the log. Its methods may be called from any goroutine.
type Journal struct {
	db  *badger.DB // fixed by Open
	log *slog.Logger
	m   *metrics

	synced    Watermark     // raised by Run
	confirmed atomic.Uint64 // LSN; stored by Run
	drops     chan dropping // dropSegments sends, Run receives; never closed
	broken    chan struct{} // closed when failed is set
	hasWork   chan struct{} // holds one token while queue may be non-empty

	bundleFrom int        // fixed by Open
	toPack     chan *part // Spool sends, Run receives; never closed
	packing    sync.Mutex // held by the one who packs a part
	identity   string     // fixed by Open; see keyIdentity

	ground  *ground    // fixed by Open
	looking sync.Mutex // held while the disk is looked at

	mu                      sync.Mutex // guards the rest
	source                  Source
	at                      position              // of the last entry that has a place
	lastID                  ID                    // of the last message that has a place
	oldest                  Seq                   // the first entry that is kept
	dropped, droppedBundles uint64                // before them are no entries on disk, and no bundles; written by the one who calls Expire
	droppedAt               time.Time             // when that was
	goneSpools              []uint64              // whose blocks are to be dropped
	expiredID               ID                    // the greatest of a message that is no longer kept, or where the journal begins
	tail                    []Entry               // the last entries but spooled ones; all of those that are not synced
	bytes                   int                   // about what tail holds
	grown                   chan struct{}         // closed when an entry gets its place; nil while nobody waits
	rows                    map[string]pendingRow // by key: states in queue and in the batch being written
	queue                   []*item
	queued                  int           // bytes in queue and in the batch being written
	room                    chan struct{} // closed when queued shrinks; nil while nobody waits
	gathering               bool          // Run lets what comes gather: patient items give no token
	err                     error         // why no more writes are taken
	failed                  error         // why what was taken will not be durable; nil in a journal that works or was closed

	extents   extents
	spool     *spool // the commit that is being spooled; nil: none is
	spools    spoolState
	unpacked  []*part     // in queue and in the batch being written
	unwritten []unwritten // likewise
	sets      []*rowBlock // that have not been merged, by generation; appended to or replaced, never changed

	opened     recent[openAs, *openBlock]
	openedSets recent[*rowBlock, rowSet]
}

// Open opens or makes the journal in cfg.Dir and mends what a crash left
// half-written. It starts nothing: entries become durable while Run runs. The
// error wraps ErrHeld when another process has the directory, ErrDisk when its
// disk is nearly full or not local.
func Open(cfg Config, log *slog.Logger, reg prometheus.Registerer) (*Journal, error) {
	release, err := hold(cfg.Dir) // what another process has is not to be touched, nor can it be inspected
	if err != nil {
		return nil, fmt.Errorf("open journal %q: %w", cfg.Dir, err)
	}
	ground, err := stand(cfg, log)
	if err == nil {
		err = inspect(cfg.Dir)
	}
	if err == nil {
		err = errors.Join(dropNote(cfg.Dir), dropEmpty(cfg.Dir))
	}
	if err = errors.Join(err, release()); err != nil {
		return nil, fmt.Errorf("open journal: %w", err)
	}
	db, err := badger.Open(badgerOptions(cfg, log))
	if err != nil {
		if strings.Contains(err.Error(), "Cannot acquire directory lock") {
			return nil, fmt.Errorf("open journal %q: %w", cfg.Dir, held(cfg.Dir))
		}
		return nil, fmt.Errorf("open journal %q: %w", cfg.Dir, err)
	}
	j := &Journal{
		db: db, log: log, ground: ground, oldest: 1, bundleFrom: bundleFrom, rows: make(map[string]pendingRow),
		hasWork: make(chan struct{}, 1), toPack: make(chan *part, partsToPack), drops: make(chan dropping), broken: make(chan struct{}),
	}
	j.m = newMetrics(reg, j)
	if err = j.load(); err == nil {
		err = j.loadDropped()
	}
	if err == nil {
		err = j.dense()
	}
	if err != nil {
		return nil, errors.Join(fmt.Errorf("open journal: %w", err), db.Close())
	}
	j.noteLog()
	return j, nil
}

func badgerOptions(cfg Config, log *slog.Logger) badger.Options {
	return badger.DefaultOptions(cfg.Dir).
		WithSyncWrites(!cfg.Unsynced). // the default, false, survives a killed process but not a lost machine
		WithMemTableSize(memTable).
		WithNumMemtables(3).
		WithNumCompactors(2).
		WithNumLevelZeroTables(10). // a flood of commits is compacted once it has ebbed: twice the default, at half the size
		WithNumLevelZeroTablesStall(30).
		WithCompression(options.None). // a compressing builder takes several times a table in memory; text shrinks by a third
		WithBlockCacheSize(32 << 20).
		WithDetectConflicts(false).                        // one goroutine writes
		WithChecksumVerificationMode(options.OnBlockRead). // of whole tables: see inspect
		WithVerifyValueChecksum(true).
		WithMetricsEnabled(false).
		WithLogger(badgerLog{log})
}

// Close closes the database. Run must have returned.
func (j *Journal) Close() error {
	if err := errors.Join(dropNote(j.ground.dir), j.db.Close()); err != nil {
		return fmt.Errorf("close journal: %w", err)
	}
	return nil
}

var (
	keyPosition = spaceMeta.Key([]byte("position")...)
	keySource   = spaceMeta.Key([]byte("source")...)
	keyExpired  = spaceMeta.Key([]byte("expired")...)
	keyDropped  = spaceMeta.Key([]byte("dropped")...)
	keySpools   = spaceMeta.Key([]byte("spools")...)
	keyCommit   = spaceMeta.Key([]byte("commit")...)
)

func (j *Journal) load() error {
	err := j.View(func(v View) error {
		if err := v.record(keySource, &j.source); err != nil {
			return err
		}
		if err := v.record(keySpools, &j.spools); err != nil {
			return err
		}
		value, ok, err := v.Get(keyPosition)
		if err != nil || !ok {
			return err
		}
		j.at, err = decodePosition(value)
		return err
	})
	if err = errors.Join(err, j.loadExtents()); err != nil {
		return err
	}
	if err := j.dropUnfinished(); err != nil {
		return err
	}
	if err := j.identify(); err != nil {
		return err
	}
	if err := j.loadSets(); err != nil {
		return err
	}
	j.synced.Raise(j.at.Head)
	j.confirmed.Store(uint64(j.at.Confirmed))
	return j.View(func(v View) error {
		if key, _, ok, err := v.last(spaceIDs, spaceIDs.Key(maxIDKey...)); err != nil {
			return err
		} else if ok {
			j.lastID = idFromBytes(key[1:])
		}
		if n := len(j.extents); n > 0 && j.extents[n-1].through.Compare(j.lastID) > 0 {
			j.lastID = j.extents[n-1].through
		}
		from := Seq(1)
		if value, ok, err := v.Get(keyExpired); err != nil {
			return err
		} else if ok {
			f, err := decodeFront(value)
			if err != nil {
				return err
			}
			from, j.expiredID = f.oldest, f.expiredID
		}
		if j.expiredID.Compare(j.lastID) > 0 {
			j.lastID = j.expiredID
		}
		j.oldest = min(from, j.at.Head+1)
		return nil
	})
}

// record reads one of the journal's own records into to; one that is not there
// leaves it alone.
func (v View) record(key []byte, to any) error {
	value, ok, err := v.Get(key)
	if err != nil || !ok {
		return err
	}
	if err := json.Unmarshal(value, to); err != nil {
		return fmt.Errorf("read record %q: %w: %w", key, ErrDamaged, err)
	}
	return nil
}

// Confirmed gives the position up to which everything is durable: all that may
// be reported to the slot. 0 before the first commit.
func (j *Journal) Confirmed() LSN { return LSN(j.confirmed.Load()) }

// Accepted gives the position up to which everything has its place, durable or
// not. Confirmed follows it.
func (j *Journal) Accepted() LSN {
	j.mu.Lock()
	defer j.mu.Unlock()
	return j.at.Confirmed
}

// Head gives the Seq of the last entry that has a place; 0 in an empty journal.
func (j *Journal) Head() Seq {
	j.mu.Lock()
	defer j.mu.Unlock()
	return j.at.Head
}

// Oldest gives the Seq of the first entry that is kept.
func (j *Journal) Oldest() Seq {
	j.mu.Lock()
	defer j.mu.Unlock()
	return j.oldest
}

// Synced gives the Seq up to which entries are durable.
func (j *Journal) Synced() Seq { return j.synced.At() }

// WaitSynced returns once the entry at seq is durable; the error is ctx's or
// the disk's.
func (j *Journal) WaitSynced(ctx context.Context, seq Seq) error {
	return j.synced.Wait(ctx, seq)
}

// Broken is closed when what was taken will not be durable any more; Err then
// tells why.
func (j *Journal) Broken() <-chan struct{} { return j.broken }

// Err tells why the journal is broken; nil while it is not.
func (j *Journal) Err() error {
	j.mu.Lock()
	defer j.mu.Unlock()
	return j.failed
}

// badgerLog passes Badger's warnings and errors on and drops its chatter.
type badgerLog struct{ log *slog.Logger }

func (l badgerLog) Errorf(format string, args ...any)   { l.print(slog.LevelError, format, args) }
func (l badgerLog) Warningf(format string, args ...any) { l.print(slog.LevelWarn, format, args) }
func (l badgerLog) Infof(string, ...any)                {}
func (l badgerLog) Debugf(string, ...any)               {}

func (l badgerLog) print(level slog.Level, format string, args []any) {
	l.log.Log(context.Background(), level, "badger", "says", strings.TrimSpace(fmt.Sprintf(format, args...)))
}

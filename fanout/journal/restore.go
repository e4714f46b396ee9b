package journal

import (
	"bufio"
	"bytes"
	"context"
	"errors"
	"fmt"
	"io"
	"io/fs"
	"log/slog"
	"os"
	"path/filepath"
	"strings"

	"github.com/dgraph-io/badger/v4"
)

// restoring is where a journal is put together, in its directory to be.
const restoring = "restoring"

// Restore makes a journal in dir from a backup, which is read twice: its
// checksums first. It tells what the last part says of itself. The directory
// may exist, but must hold no journal; what is in it after an error is none
// either.
func Restore(ctx context.Context, f io.ReadSeeker, dir string, log *slog.Logger) (Part, error) {
	b, err := ScanBackup(f)
	if err != nil {
		return Part{}, err
	}
	if len(b.Parts) == 0 {
		return Part{}, fmt.Errorf("there is no whole part in it: %w", ErrBackup)
	}
	if err := vacant(dir); err != nil {
		return Part{}, err
	}
	room := filepath.Join(dir, restoring)
	if err := errors.Join(os.RemoveAll(room), os.MkdirAll(room, 0o750)); err != nil {
		return Part{}, err
	}
	if _, err := stand(Config{Dir: room}, log); err != nil {
		return Part{}, err
	}
	db, err := badger.Open(badgerOptions(Config{Dir: room, Unsynced: true}, log)) // Close syncs, and before that it is no journal
	if err != nil {
		return Part{}, err
	}
	if _, err = f.Seek(int64(len(backupMagic)), io.SeekStart); err == nil {
		err = restoreParts(ctx, db, bufio.NewReaderSize(f, 1<<20), len(b.Parts))
	}
	if err := errors.Join(err, db.Sync(), db.Close()); err != nil {
		return Part{}, err
	}
	return b.Parts[len(b.Parts)-1], moveIn(room, dir)
}

// vacant checks that no journal is in a directory.
func vacant(dir string) error {
	entries, err := os.ReadDir(dir)
	if err != nil && !errors.Is(err, fs.ErrNotExist) {
		return err
	}
	for _, e := range entries {
		if journalFile(e.Name()) {
			return fmt.Errorf("journal.dir %q holds a journal: stop the engine and move that away, or name another directory", dir)
		}
	}
	return nil
}

// journalFile tells the files that a journal cannot be without.
func journalFile(name string) bool {
	return name == badger.ManifestFilename || strings.HasSuffix(name, ".sst") || strings.HasSuffix(name, vlogExt) || strings.HasSuffix(name, memExt)
}

func restoreParts(ctx context.Context, db *badger.DB, r io.Reader, parts int) error {
	for n := range parts {
		m := &merge{ctx: ctx, batch: db.NewWriteBatch()}
		err := db.View(func(txn *badger.Txn) error {
			opts := badger.DefaultIteratorOptions
			opts.PrefetchValues = false
			_, err := readPart(r, func(h Part) error {
				if m.whole = h.Since == 0; !m.whole || n > 0 {
					m.present = txn.NewIterator(opts)
					m.present.Rewind()
				}
				return nil
			}, m.add)
			if m.present == nil {
				return err
			}
			defer m.present.Close()
			return errors.Join(err, m.skipTo(nil))
		})
		if err == nil {
			err = m.batch.Flush()
		}
		m.batch.Cancel()
		if err != nil {
			return fmt.Errorf("restore part %d: %w", n+1, err)
		}
	}
	return db.Update(func(txn *badger.Txn) error { return txn.Set(keyCommit, nil) }) // see commitAt
}

// merge makes what is in the database into what a part says.
type merge struct {
	ctx     context.Context
	batch   *badger.WriteBatch
	present *badger.Iterator // what the parts before have left; nil for nothing
	whole   bool             // the part has every value
}

// skipTo deletes what is present before key, all for nil.
func (m *merge) skipTo(key []byte) error {
	for ; m.present.Valid(); m.present.Next() {
		if k := m.present.Item().Key(); key != nil && bytes.Compare(k, key) >= 0 {
			return nil
		}
		if err := m.batch.Delete(m.present.Item().KeyCopy(nil)); err != nil {
			return err
		}
	}
	return nil
}

func (m *merge) add(key, value []byte, has bool) error {
	if m.ctx.Err() != nil {
		return context.Cause(m.ctx)
	}
	present := false
	if m.present != nil {
		if err := m.skipTo(key); err != nil {
			return err
		}
		if present = m.present.Valid() && bytes.Equal(m.present.Item().Key(), key); present {
			m.present.Next()
		}
	}
	switch {
	case has:
		return m.batch.Set(bytes.Clone(key), append([]byte{}, value...))
	case !present:
		return fmt.Errorf("record %x has no value: %w", key, ErrBackup)
	}
	return nil
}

// moveIn makes a journal of what was put together: its manifest comes last, so
// that a directory where this was interrupted is known for one.
func moveIn(room, dir string) error {
	entries, err := os.ReadDir(room)
	if err != nil {
		return err
	}
	move := func(name string) error { return os.Rename(filepath.Join(room, name), filepath.Join(dir, name)) }
	for _, e := range entries {
		if e.Name() != badger.ManifestFilename {
			err = errors.Join(err, move(e.Name()))
		}
	}
	if err == nil { // a note may have been left of another one
		err = errors.Join(dropNote(dir), syncFile(dir), move(badger.ManifestFilename), syncFile(dir), os.Remove(room))
	}
	return err
}

// syncFile makes a file durable, or the names in a directory.
func syncFile(path string) error {
	f, err := os.Open(path)
	if err != nil {
		return err
	}
	return errors.Join(f.Sync(), f.Close())
}

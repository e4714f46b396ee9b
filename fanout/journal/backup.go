package journal

import (
	"bytes"
	"context"
	"crypto/rand"
	"encoding/hex"
	"errors"
	"fmt"
	"io"
	"time"

	"github.com/dgraph-io/badger/v4"
)

// ErrOtherJournal reports a backup of another journal, or of this one before it
// was restored, which a part of this one does not continue.
var ErrOtherJournal = errors.New("backup of another journal")

// Backed is what a backup has written.
type Backed struct {
	Part
	Keys   uint64 // that the journal has
	Values uint64 // of them, those that were written
	Bytes  int64
}

// Backup writes a part to w: the journal as it stands on disk at one moment,
// without the values that the backup has whose last part is after. The journal
// may be written to meanwhile.
func (j *Journal) Backup(ctx context.Context, after Part, w io.Writer) (b Backed, err error) {
	if after.Until > 0 && after.Journal != j.identity {
		return b, ErrOtherJournal
	}
	p := &partWriter{w: w}
	err = j.db.View(func(txn *badger.Txn) error {
		b.Part = Part{Journal: j.identity, Since: after.Until, Until: txn.ReadTs(), Time: time.Now().UTC()}
		value, _, err := View{txn}.Get(keyPosition)
		if err != nil {
			return err
		}
		if value != nil {
			at, err := decodePosition(value)
			if err != nil {
				return err
			}
			b.Head, b.Confirmed = at.Head, at.Confirmed.String()
		}
		if err := p.header(b.Part); err != nil {
			return err
		}
		opts := badger.DefaultIteratorOptions
		opts.PrefetchValues = false
		it := txn.NewIterator(opts)
		defer it.Close()
		for it.Rewind(); it.Valid(); it.Next() {
			if ctx.Err() != nil {
				return context.Cause(ctx)
			}
			if err := p.item(it.Item(), after.Until); err != nil {
				return err
			}
		}
		return p.end()
	})
	b.Keys, b.Values, b.Bytes = p.count, p.values, p.size
	if err != nil {
		return b, fmt.Errorf("back up journal: %w", err)
	}
	return b, nil
}

// BeginBackup writes what stands before the first part.
func BeginBackup(w io.Writer) error {
	_, err := io.WriteString(w, backupMagic)
	return err
}

// item adds a record, with its value where it is newer than since.
func (p *partWriter) item(item *badger.Item, since uint64) error {
	if bytes.Equal(item.Key(), keyIdentity) || bytes.Equal(item.Key(), keyDropped) {
		return nil // what is restored is another journal, in which something may be left that was dropped here
	}
	if item.Version() <= since {
		return p.add(item.Key(), nil, false)
	}
	return item.Value(func(value []byte) error { return p.add(item.Key(), value, true) })
}

// keyIdentity is the key of the journal's name for itself, by which a backup
// knows whether it may continue.
var keyIdentity = spaceMeta.Key([]byte("identity")...)

// identify reads the name, and makes one for a journal that has none.
func (j *Journal) identify() error {
	var value []byte
	err := j.View(func(v View) (err error) {
		value, _, err = v.Get(keyIdentity)
		return err
	})
	if err != nil || value != nil {
		j.identity = string(value)
		return err
	}
	var name [16]byte
	_, _ = rand.Read(name[:]) // never fails
	j.identity = hex.EncodeToString(name[:])
	var u Update
	u.Set(keyIdentity, []byte(j.identity))
	return j.commit(context.Background(), []*item{{update: u, after: j.at}})
}

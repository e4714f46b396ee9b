package ack

import (
	"context"
	"fmt"
	"time"

	"newswire/fanout/journal"
)

// Expire removes messages older than retention with their accounts. What is
// not settled stays, however old, and so does all behind it.
func (l *Ledger) Expire(ctx context.Context, retention time.Duration) (gone int, err error) {
	l.expiry.Lock()
	defer l.expiry.Unlock()
	through, err := l.recorded()
	if err != nil {
		return 0, fmt.Errorf("expire ledger: %w", err)
	}
	l.mu.Lock()
	for seq := range l.entries { // what is still to be written of them would outlive them
		through = min(through, seq-1)
	}
	for _, c := range l.cancels {
		through = min(through, c.Seq-1)
	}
	l.mu.Unlock()
	before := l.j.Oldest()
	gone, err = l.j.Expire(ctx, time.Now().Add(-retention), through, func(u *journal.Update, seq journal.Seq, m *journal.Message) error {
		e, err := readAccount(l.j, seq)
		if err != nil {
			return err
		}
		u.Delete(historyKey(rowOf(m), seq))
		l.expired.expire(e)
		storeTotals(u, keyExpired, &l.expired)
		return nil
	})
	if err == nil {
		err = l.sweep(ctx, l.j.Oldest())
	}
	// What was looked up while its message left may have been written behind
	// it; so the next call goes over these places once more.
	l.swept = before
	return gone, err
}

// accountSpaces hold the records of accounts, by Seq.
var accountSpaces = []journal.Space{journal.SpaceAudience, journal.SpaceProgress, journal.SpaceSends, journal.SpaceEnds, journal.SpaceUnread}

// sweep removes the records of accounts before oldest.
func (l *Ledger) sweep(ctx context.Context, oldest journal.Seq) error {
	var u journal.Update
	remove := func(key, _ []byte) (bool, error) {
		u.Delete(append([]byte(nil), key...))
		if !u.Full() {
			return true, nil
		}
		full := u
		u = journal.Update{}
		return true, l.j.Apply(ctx, full, nil)
	}
	err := l.j.View(func(v journal.View) error {
		for _, s := range accountSpaces {
			if oldest == 0 || l.swept >= oldest {
				break
			}
			behind := append(s.Seq(oldest-1), 0xff, 0xff, 0xff, 0xff) // a message may have several
			if err := v.Look(s.Seq(l.swept), behind, remove); err != nil {
				return err
			}
		}
		for level := 1; level <= skipLevels; level++ {
			last := block{level, blockOf(level, oldest).n}
			if last.n == 0 {
				continue
			}
			first := block{level, blockOf(level, l.swept).n}
			if err := v.Look(first.key(), block{level, last.n - 1}.key(), remove); err != nil {
				return err
			}
		}
		return nil
	})
	if err == nil {
		err = l.j.ApplySync(ctx, u)
	}
	if err != nil {
		return fmt.Errorf("remove accounts before %d: %w", oldest, err)
	}
	return nil
}

package cdc

import (
	"context"
	"errors"
	"testing"

	"github.com/jackc/pglogrepl"
	"github.com/prometheus/client_golang/prometheus"

	"newswire/cdc/pgjson"
	"newswire/fanout/journal"
)

// textShapes takes every column for text and knows no primary keys.
type textShapes struct{ shapes }

func (textShapes) primaryKey(context.Context, name) ([]string, error) { return nil, nil }
func (textShapes) reread(context.Context, uint32, name, []keyValue, string) ([]byte, bool, error) {
	return nil, false, errNoValue
}

func (textShapes) types(_ context.Context, oids []uint32) ([]pgjson.Type, error) {
	return make([]pgjson.Type, len(oids)), nil
}

func testAssembler(confirmed journal.LSN) *assembler {
	tables := []*table{newTable(0, name{"public", "articles"}, Table{Tags: Tags{Column: "title"}})}
	j := newMemJournal()
	j.confirmed = confirmed
	return newAssembler(tables, textShapes{}, journal.Source{Epoch: 3}, j, newMetrics(prometheus.NewRegistry()))
}

// steps feeds wire messages until the first error.
func steps(a *assembler, wals ...[]byte) (done *journal.Commit, idle journal.LSN, err error) {
	for _, wal := range wals {
		var m pglogrepl.Message
		if m, err = new(decoder).decode(wal); err != nil {
			return nil, 0, err
		}
		var c *journal.Commit
		var lsn journal.LSN
		if c, lsn, err = a.step(context.Background(), m); err != nil {
			return nil, 0, err
		}
		if c != nil {
			done = c
		}
		idle = max(idle, lsn)
	}
	return done, idle, nil
}

func TestCommitsAreMappedFromWhereTheJournalEnds(t *testing.T) {
	for confirmed, want := range map[journal.LSN]int{
		0x0fff: 1,
		0x1000: 1, // the commit record begins exactly behind what was read
		0x1030: 0, // it was read
		0x2000: 0,
	} {
		done, _, err := steps(testAssembler(confirmed), wire.begin, wire.relation, wire.insert, wire.commit)
		if err != nil || done.LSN != 0x1000 || done.End != 0x1030 || done.Epoch != 3 || len(done.Messages) != want {
			t.Errorf("with %s confirmed: %+v, %v; want %d messages", confirmed, done, err, want)
		}
	}
}

func TestOnlyMessagesOutsideOfTransactionsAdvance(t *testing.T) {
	transactional := append([]byte(nil), wire.message...)
	transactional[1] = 1
	for name, c := range map[string]struct {
		wals [][]byte
		want journal.LSN
	}{
		"outside":              {[][]byte{wire.message}, 0x2000},
		"transactional":        {[][]byte{wire.begin, transactional, wire.commit}, 0},
		"within a transaction": {[][]byte{wire.begin, wire.message}, 0},
	} {
		if _, idle, err := steps(testAssembler(0), c.wals...); err != nil || idle != c.want {
			t.Errorf("%s: idle %s, %v; want %s", name, idle, err, c.want)
		}
	}
}

func TestImpossibleStreamsAreRefused(t *testing.T) {
	otherCommit := join("C", "\x00", u64(0x1001), u64(0x1030), u64(5))
	narrow := join("I", u32(9), "N", u16(1), "n")
	unchanged := join("I", u32(9), "N", u16(2), "n", "u")
	for name, wals := range map[string][][]byte{
		"begin twice":           {wire.begin, wire.begin},
		"commit alone":          {wire.commit},
		"commit of another":     {wire.begin, otherCommit},
		"row outside":           {wire.relation, wire.insert},
		"row of no relation":    {wire.begin, wire.insert},
		"row too narrow":        {wire.begin, wire.relation, narrow},
		"inserted, but not all": {wire.begin, wire.relation, unchanged},
	} {
		if _, _, err := steps(testAssembler(0), wals...); !errors.Is(err, ErrMalformed) {
			t.Errorf("%s: %v, want ErrMalformed", name, err)
		}
	}
}

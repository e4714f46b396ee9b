package cdc

import (
	"bytes"
	"context"
	"fmt"
	"strings"
	"testing"

	"github.com/prometheus/client_golang/prometheus"

	"newswire/cdc/pgjson"
	"newswire/fanout/journal"
)

// newsShapes knows the types of the table that the benchmark inserts into.
type newsShapes struct{ shapes }

func (newsShapes) types(context.Context, []uint32) ([]pgjson.Type, error) {
	text := pgjson.Type{Kind: pgjson.Text}
	return []pgjson.Type{{Kind: pgjson.Number}, text, text, text, {Kind: pgjson.Array, Delim: ',', Elem: &text}, text, {Kind: pgjson.TimestampTZ}}, nil
}

// bin is a journal that throws everything away.
type bin struct{ Journal }

func (bin) Confirmed() journal.LSN                      { return 0 }
func (bin) Spool(context.Context, journal.Commit) error { return nil }
func (bin) Row([]byte) ([]byte, bool, error)            { return nil, false, nil }

// BenchmarkRowOfALargeTransaction decodes an inserted article and makes its
// message and state.
func BenchmarkRowOfALargeTransaction(b *testing.B) {
	cfg := Table{Name: "articles", Tags: Tags{Column: "tags"}, Data: []string{"id", "title", "summary", "url", "published_at"},
		Published: &Published{Column: "status", Equals: "published"}}
	tables := []*table{newTable(0, name{"public", "articles"}, cfg)}
	a := newAssembler(tables, newsShapes{}, journal.Source{Epoch: 1}, bin{}, newMetrics(prometheus.NewRegistry()))
	relation := join("R", u32(9), "public\x00articles\x00d", u16(7))
	for i, c := range []string{"id", "title", "summary", "url", "tags", "status", "published_at"} {
		key := "\x00"
		if i == 0 {
			key = "\x01"
		}
		relation = append(relation, join(key, c, "\x00", u32(25), u32(1<<32-1))...)
	}
	if _, _, err := steps(a, wire.begin, relation); err != nil {
		b.Fatal(err)
	}
	const rows = 1000
	var wals [rows][]byte
	for n := range wals {
		wal := join("I", u32(9), "N", u16(7))
		for _, value := range []string{fmt.Sprint(n), fmt.Sprintf("article %d", n), strings.Repeat("summary ", 28), "https://news.example.com/x",
			fmt.Sprintf("{tech,section-%d}", n%20), "published", "2026-11-23 09:41:07.123456+00"} {
			wal = append(wal, join("t", u32(uint32(len(value))), value)...)
		}
		wals[n] = bytes.Clone(wal)
	}
	var d decoder
	b.ReportAllocs()
	for n := 0; b.Loop(); n++ {
		m, err := d.decode(wals[n%rows])
		if err == nil {
			_, _, err = a.step(context.Background(), m)
		}
		if err != nil {
			b.Fatal(err)
		}
	}
}

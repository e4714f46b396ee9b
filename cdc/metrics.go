package cdc

import (
	"time"

	"github.com/prometheus/client_golang/prometheus"
	"github.com/prometheus/client_golang/prometheus/promauto"
)

// rowFate is what became of a row change.
type rowFate string

const (
	rowPublish     rowFate = "publish"     // made a message
	rowUnpublished rowFate = "unpublished" // not marked as published, before and after
	rowCorrect     rowFate = "correct"     // a published row changed
	rowRetract     rowFate = "retract"     // a published row went, or is no longer published
	rowUnchanged   rowFate = "unchanged"   // a published row, but nothing that readers get
	rowUnreadable  rowFate = "unreadable"  // needs a value that the stream left out and that is not to be had
	rowWaiting     rowFate = "waiting"     // news from a time to come on, which it waits for
	rowUnkeyed     rowFate = "unkeyed"     // a change of a row that has no key to know it by
	rowLink        rowFate = "link"        // of a link table; the articles whose tags it changes are counted besides
	rowUnmapped    rowFate = "unmapped"    // of a table that no mapping names
	rowRepeated    rowFate = "repeated"    // sent again; the journal has it
)

// tagFate is why a tag was skipped.
type tagFate string

const (
	tagNull     tagFate = "null"
	tagEmpty    tagFate = "empty"
	tagWildcard tagFate = "wildcard" // *, which follows everything and marks nothing
	tagTooLong  tagFate = "too_long"
	tagControl  tagFate = "control" // has a control character, or is no UTF-8
	tagNotText  tagFate = "not_text"
)

type metrics struct {
	transactions prometheus.Counter
	rows         *prometheus.CounterVec
	fates        map[rowFate]prometheus.Counter // those of rows
	tagsSkipped  *prometheus.CounterVec
	oddValues    prometheus.Counter
	connects     prometheus.Counter
	failovers    prometheus.Counter
	letGo        prometheus.Counter
	lag          prometheus.Gauge
	retained     prometheus.Gauge
	safe         prometheus.Gauge
}

func newMetrics(reg prometheus.Registerer) *metrics {
	f := promauto.With(reg)
	m := &metrics{
		transactions: f.NewCounter(prometheus.CounterOpts{
			Name: "newswire_cdc_transactions_total",
			Help: "Transactions read from the replication slot, repeats included.",
		}),
		rows: f.NewCounterVec(prometheus.CounterOpts{
			Name: "newswire_cdc_rows_total",
			Help: "Row changes read from the replication slot, by what became of them.",
		}, []string{"action"}),
		tagsSkipped: f.NewCounterVec(prometheus.CounterOpts{
			Name: "newswire_cdc_tags_skipped_total",
			Help: "Stored tags that cannot be used, by reason.",
		}, []string{"reason"}),
		oddValues: f.NewCounter(prometheus.CounterOpts{
			Name: "newswire_cdc_odd_values_total",
			Help: "Values that do not fit their column's type as it was loaded, and went out as plain text.",
		}),
		connects: f.NewCounter(prometheus.CounterOpts{
			Name: "newswire_cdc_streams_total",
			Help: "Times the replication stream was opened.",
		}),
		failovers: f.NewCounter(prometheus.CounterOpts{
			Name: "newswire_cdc_failovers_total",
			Help: "Times the stream went on with a server that had taken over, on another timeline.",
		}),
		letGo: f.NewCounter(prometheus.CounterOpts{
			Name: "newswire_cdc_watchdog_total",
			Help: "Times the slot was let go because what it gives was not taken or not synced for minutes.",
		}),
		lag: f.NewGauge(prometheus.GaugeOpts{
			Name: "newswire_cdc_confirmed_lag_bytes",
			Help: "Write-ahead log between what the journal has made durable and the server's present position.",
		}),
		retained: f.NewGauge(prometheus.GaugeOpts{
			Name: "newswire_slot_retained_bytes",
			Help: "Write-ahead log that the server keeps for the slot.",
		}),
		safe: f.NewGauge(prometheus.GaugeOpts{
			Name: "newswire_slot_safe_wal_bytes",
			Help: "Write-ahead log that can still be written before the slot may be lost; +Inf without a limit.",
		}),
	}
	m.fates = make(map[rowFate]prometheus.Counter)
	for _, fate := range []rowFate{rowPublish, rowCorrect, rowRetract, rowUnpublished, rowWaiting, rowUnchanged, rowUnreadable, rowUnkeyed, rowLink, rowUnmapped, rowRepeated} {
		m.fates[fate] = m.rows.WithLabelValues(string(fate))
	}
	for _, fate := range []tagFate{tagNull, tagEmpty, tagWildcard, tagTooLong, tagControl, tagNotText} {
		m.tagsSkipped.WithLabelValues(string(fate))
	}
	return m
}

// waits exposes what waiting tells.
func (*metrics) waits(reg prometheus.Registerer, waiting func() (n int, first time.Time)) {
	f := promauto.With(reg)
	f.NewGaugeFunc(prometheus.GaugeOpts{
		Name: "newswire_cdc_waiting_articles",
		Help: "Articles that wait for the time from which on they are news.",
	}, func() float64 {
		n, _ := waiting()
		return float64(n)
	})
	f.NewGaugeFunc(prometheus.GaugeOpts{
		Name: "newswire_cdc_next_due_timestamp_seconds",
		Help: "Time at which the next article that waits goes out, as Unix time; 0 when none waits.",
	}, func() float64 {
		_, first := waiting()
		if first.IsZero() {
			return 0
		}
		return float64(first.UnixMicro()) / 1e6
	})
}

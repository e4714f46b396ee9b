package ack

import (
	"strconv"

	"github.com/RoaringBitmap/roaring/v2"
	"github.com/prometheus/client_golang/prometheus"
	"github.com/prometheus/client_golang/prometheus/promauto"
)

// how says what an acknowledgement was worth.
type how string

const (
	howInTime    how = "in_time"
	howLate      how = "late"      // after the message was given up
	howPolled    how = "polled"    // a poll brought it
	howAgain     how = "again"     // it was acknowledged before
	howUnknown   how = "unknown"   // not sent to this reader, or no longer kept
	howForgotten how = "forgotten" // the reader was deleted first
)

type metrics struct {
	acks    map[how]prometheus.Counter
	ackTime prometheus.Histogram
	retries *prometheus.CounterVec
}

func newMetrics(reg prometheus.Registerer, l *Ledger) *metrics {
	auto := promauto.With(reg)
	gauge := func(name, help string, value func() int) {
		auto.NewGaugeFunc(prometheus.GaugeOpts{Name: name, Help: help}, func() float64 {
			l.mu.Lock()
			defer l.mu.Unlock()
			return float64(value())
		})
	}
	gauge("newswire_ledger_unsettled_messages", "Messages that not every reader has acknowledged or is handed over for.", l.unsettledLocked)
	gauge("newswire_ledger_pending_pairs", "Pairs of message and reader neither acknowledged nor handed over.", func() int { return l.pairs })
	gauge("newswire_offline_backlog", "Pairs of message and reader given up and not yet acknowledged by Kafka.", func() int { return count(l.outbox) })
	m := &metrics{
		acks: make(map[how]prometheus.Counter),
		ackTime: auto.NewHistogram(prometheus.HistogramOpts{
			Name:    "newswire_ack_seconds",
			Help:    "Time from a message's routing to a reader's acknowledgement in time.",
			Buckets: prometheus.ExponentialBuckets(0.001, 2, 18),
		}),
		retries: auto.NewCounterVec(prometheus.CounterOpts{
			Name: "newswire_retries_total",
			Help: "Messages sent again to a reader, by attempt.",
		}, []string{"attempt"}),
	}
	acks := auto.NewCounterVec(prometheus.CounterOpts{
		Name: "newswire_ack_total",
		Help: "Acknowledgements, by what they were worth.",
	}, []string{"how"})
	for _, h := range []how{howInTime, howLate, howPolled, howAgain, howUnknown, howForgotten} {
		m.acks[h] = acks.WithLabelValues(string(h))
	}
	for n := range l.cfg.Retries {
		m.retries.WithLabelValues(strconv.Itoa(n + 2))
	}
	return m
}

func (m *metrics) retried(n int, readers *roaring.Bitmap) {
	m.retries.WithLabelValues(strconv.Itoa(n)).Add(float64(readers.GetCardinality()))
}

func (l *Ledger) unsettledLocked() (n int) {
	for _, e := range l.open {
		if !e.settled() {
			n++
		}
	}
	return n
}

// Counts is the state of the ledger.
type Counts struct {
	Messages int `json:"unsettled_messages"`
	Pairs    int `json:"pending_pairs"`
	Backlog  int `json:"offline_backlog"` // given up, not yet acknowledged by Kafka
}

// Ever gives the messages and the pairs that were routed since the beginning.
func (l *Ledger) Ever() (messages, pairs uint64) {
	l.mu.Lock()
	defer l.mu.Unlock()
	return l.totals.Messages, l.totals.Pairs
}

// Counts gives the present state.
func (l *Ledger) Counts() Counts {
	l.mu.Lock()
	defer l.mu.Unlock()
	return Counts{l.unsettledLocked(), l.pairs, count(l.outbox)}
}

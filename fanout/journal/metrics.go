package journal

import (
	"github.com/dgraph-io/badger/v4"
	"github.com/prometheus/client_golang/prometheus"
	"github.com/prometheus/client_golang/prometheus/promauto"
)

type metrics struct {
	append prometheus.Histogram
}

func newMetrics(reg prometheus.Registerer, db *badger.DB) *metrics {
	auto := promauto.With(reg)
	auto.NewGaugeFunc(prometheus.GaugeOpts{
		Name: "newswire_journal_bytes",
		Help: "Bytes of the journal on disk.",
	}, func() float64 {
		lsm, values := db.Size()
		return float64(lsm + values)
	})
	return &metrics{append: auto.NewHistogram(prometheus.HistogramOpts{
		Name:    "newswire_journal_append_seconds",
		Help:    "Time from an entry's place in the journal to its sync.",
		Buckets: prometheus.ExponentialBuckets(0.0002, 2, 14),
	})}
}

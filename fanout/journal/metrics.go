package journal

import (
	"github.com/prometheus/client_golang/prometheus"
	"github.com/prometheus/client_golang/prometheus/promauto"
)

type metrics struct {
	append prometheus.Histogram
	drop   prometheus.Histogram
}

func newMetrics(reg prometheus.Registerer, j *Journal) *metrics {
	auto := promauto.With(reg)
	auto.NewGaugeFunc(prometheus.GaugeOpts{
		Name: "newswire_journal_bytes",
		Help: "Bytes of the disk that the journal takes, its ballast not counted.",
	}, func() float64 { return float64(takenIn(j.ground.dir)) })
	auto.NewGaugeFunc(prometheus.GaugeOpts{
		Name: "newswire_journal_disk_free_bytes",
		Help: "Bytes that are free on the journal's disk, its ballast not counted.",
	}, func() float64 { return float64(j.Room().Free) })
	auto.NewGaugeFunc(prometheus.GaugeOpts{
		Name: "newswire_journal_intake_waits",
		Help: "1 while intake waits for room on the journal's disk, else 0.",
	}, func() float64 {
		if j.Room().Low {
			return 1
		}
		return 0
	})
	return &metrics{drop: auto.NewHistogram(prometheus.HistogramOpts{
		Name:    "newswire_journal_drop_seconds",
		Help:    "Time for which writes waited while old segments were dropped.",
		Buckets: prometheus.ExponentialBuckets(0.01, 2, 12),
	}), append: auto.NewHistogram(prometheus.HistogramOpts{
		Name:    "newswire_journal_append_seconds",
		Help:    "Time from an entry's place in the journal to its sync.",
		Buckets: prometheus.ExponentialBuckets(0.0002, 2, 14),
	})}
}

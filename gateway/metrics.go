package gateway

import (
	"github.com/prometheus/client_golang/prometheus"
	"github.com/prometheus/client_golang/prometheus/promauto"
)

type metrics struct {
	deliveries    prometheus.Counter
	lagging       prometheus.Gauge
	closed        map[ending]prometheus.Counter
	refused       *prometheus.CounterVec // by code, before there is a session
	commitToWrite prometheus.Histogram
}

func newMetrics(reg prometheus.Registerer, ps *Pools) *metrics {
	auto := promauto.With(reg)
	auto.NewGaugeFunc(prometheus.GaugeOpts{
		Name: "newswire_gateway_sessions",
		Help: "Sessions that are attached to a pool.",
	}, func() float64 { return float64(ps.Count()) })
	m := &metrics{
		deliveries: auto.NewCounter(prometheus.CounterOpts{
			Name: "newswire_gateway_deliveries_total",
			Help: "Messages written to a socket, every attempt and replay.",
		}),
		lagging: auto.NewGauge(prometheus.GaugeOpts{
			Name: "newswire_gateway_lagging_sessions",
			Help: "Sessions that read from the journal because their queue was full.",
		}),
		closed: make(map[ending]prometheus.Counter),
		refused: auto.NewCounterVec(prometheus.CounterOpts{
			Name: "newswire_gateway_refused_total",
			Help: "Connections that were refused before they became sessions, by the code of the answer.",
		}, []string{"code"}),
		commitToWrite: auto.NewHistogram(prometheus.HistogramOpts{
			Name:    "newswire_commit_to_write_seconds",
			Help:    "Time from PostgreSQL's commit to the first write to a reader's socket.",
			Buckets: prometheus.ExponentialBuckets(0.0005, 2, 16),
		}),
	}
	closed := auto.NewCounterVec(prometheus.CounterOpts{
		Name: "newswire_gateway_closed_total",
		Help: "Sessions that ended, by reason.",
	}, []string{"reason"})
	for _, e := range endings {
		m.closed[e] = closed.WithLabelValues(e.reason)
	}
	for _, code := range refusals {
		m.refused.WithLabelValues(code)
	}
	return m
}

// refusals are the codes with which connections are refused.
var refusals = []string{"connections", "handshakes", "sessions", "sessions_per_ip", "origin", "subprotocol", "draining", "unavailable"}

func (m *metrics) refusedAs(code string) prometheus.Counter { return m.refused.WithLabelValues(code) }

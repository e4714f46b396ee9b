package offline

import (
	"github.com/prometheus/client_golang/prometheus"
	"github.com/prometheus/client_golang/prometheus/promauto"

	"newswire/ack"
)

type metrics struct {
	handedOver *prometheus.CounterVec // by ack.Reason
	cancelled  *prometheus.CounterVec // by cause
	truncated  prometheus.Counter
	produce    prometheus.Histogram
	errors     *prometheus.CounterVec // by kind
}

func newMetrics(reg prometheus.Registerer) *metrics {
	factory := promauto.With(reg)
	m := &metrics{
		handedOver: factory.NewCounterVec(prometheus.CounterOpts{
			Name: "newswire_offline_total",
			Help: "Hand-overs that Kafka acknowledged, by reason.",
		}, []string{"reason"}),
		cancelled: factory.NewCounterVec(prometheus.CounterOpts{
			Name: "newswire_offline_cancelled_total",
			Help: "Hand-overs taken back on the topic of the cancelled, by cause.",
		}, []string{"cause"}),
		truncated: factory.NewCounter(prometheus.CounterOpts{
			Name: "newswire_offline_truncated_total",
			Help: "Hand-overs that Kafka acknowledged without their data, which was too large for a record.",
		}),
		produce: factory.NewHistogram(prometheus.HistogramOpts{
			Name:    "newswire_kafka_produce_seconds",
			Help:    "Time from giving Kafka a batch to its acknowledgement or failure.",
			Buckets: []float64{.001, .0025, .005, .01, .025, .05, .1, .25, .5, 1, 2.5, 5, 10, 25},
		}),
		errors: factory.NewCounterVec(prometheus.CounterOpts{
			Name: "newswire_kafka_errors_total",
			Help: "Batches that Kafka did not acknowledge whole, by kind of error.",
		}, []string{"kind"}),
	}
	for _, r := range []ack.Reason{ack.ReasonAckTimeout, ack.ReasonDisconnected, ack.ReasonSlowReader} {
		m.handedOver.WithLabelValues(string(r)) // 0 before the first one, not absent
	}
	for _, c := range []string{ack.CauseAcked, ack.CauseRetracted} {
		m.cancelled.WithLabelValues(c)
	}
	for _, k := range kinds {
		m.errors.WithLabelValues(string(k))
	}
	return m
}

package compensate

import (
	"github.com/prometheus/client_golang/prometheus"
	"github.com/prometheus/client_golang/prometheus/promauto"
)

// metrics are part of the interface: see the names in README.md.
type metrics struct {
	intake    *prometheus.CounterVec // result
	outcomes  *prometheus.CounterVec // channel, outcome, reason
	attempts  *prometheus.CounterVec // channel, outcome
	putBack   *prometheus.CounterVec // channel, reason
	recovered *prometheus.CounterVec // how
	dead      prometheus.Counter
	unread    prometheus.Counter
	send      *prometheus.HistogramVec // channel
	reach     prometheus.Histogram
	waiting   *prometheus.GaugeVec // channel
	doubtful  prometheus.Gauge
	lag       prometheus.Gauge
	stopped   *prometheus.GaugeVec // channel
}

func newMetrics(reg prometheus.Registerer, channels []string) *metrics {
	f := promauto.With(reg)
	m := &metrics{}
	m.count(f)
	m.measure(f)
	for _, result := range []string{intakeNew, intakeRepeated, intakeCancelled, intakeCancellation, intakeMalformed} {
		m.intake.WithLabelValues(result) // 0 before the first one, not absent
	}
	for _, name := range channels {
		m.outcomes.WithLabelValues(name, stateSent, "")
		m.stopped.WithLabelValues(name)
		m.waiting.WithLabelValues(name)
	}
	return m
}

// count makes what only rises.
func (m *metrics) count(f promauto.Factory) {
	m.intake = f.NewCounterVec(prometheus.CounterOpts{
		Name: "newswire_compensate_intake_total",
		Help: "Records read from Kafka, by what became of them at intake.",
	}, []string{"result"})
	m.outcomes = f.NewCounterVec(prometheus.CounterOpts{
		Name: "newswire_compensate_outcomes_total",
		Help: "Deliveries that ended, by channel, outcome and reason; channel none: records that went nowhere.",
	}, []string{"channel", "outcome", "reason"})
	m.attempts = f.NewCounterVec(prometheus.CounterOpts{
		Name: "newswire_compensate_attempts_total",
		Help: "Calls of providers, by channel and what they answered.",
	}, []string{"channel", "outcome"})
	m.putBack = f.NewCounterVec(prometheus.CounterOpts{
		Name: "newswire_compensate_put_back_total",
		Help: "Deliveries put back to wait, by channel and reason.",
	}, []string{"channel", "reason"})
	m.recovered = f.NewCounterVec(prometheus.CounterOpts{
		Name: "newswire_compensate_recovered_total",
		Help: "Deliveries taken over from instances that are gone: waiting (never sent), repeated (the channel dedupes), doubtful.",
	}, []string{"how"})
	m.dead = f.NewCounter(prometheus.CounterOpts{
		Name: "newswire_compensate_dead_letters_total",
		Help: "Records written to the topic of dead letters.",
	})
	m.unread = f.NewCounter(prometheus.CounterOpts{
		Name: "newswire_compensate_unread_total",
		Help: "Partitions found unread though they had records, for which the group was joined anew.",
	})
}

// measure makes what is looked at.
func (m *metrics) measure(f promauto.Factory) {
	m.send = f.NewHistogramVec(prometheus.HistogramOpts{
		Name:    "newswire_compensate_send_seconds",
		Help:    "Time of one call of a provider.",
		Buckets: []float64{.001, .005, .01, .025, .05, .1, .25, .5, 1, 2.5, 5, 10, 30},
	}, []string{"channel"})
	m.reach = f.NewHistogram(prometheus.HistogramOpts{
		Name:    "newswire_compensate_reach_seconds",
		Help:    "Time from the hand-over of a message to its notification being accepted.",
		Buckets: []float64{.01, .05, .1, .5, 1, 5, 10, 60, 300, 1800, 3600, 14400, 43200},
	})
	m.waiting = f.NewGaugeVec(prometheus.GaugeOpts{
		Name: "newswire_compensate_waiting",
		Help: "Deliveries without an outcome, of all instances, by channel.",
	}, []string{"channel"})
	m.doubtful = f.NewGauge(prometheus.GaugeOpts{
		Name: "newswire_compensate_doubtful",
		Help: "Deliveries of which nobody knows whether they arrived; newswire compensate --list-doubtful names them.",
	})
	m.lag = f.NewGauge(prometheus.GaugeOpts{
		Name: "newswire_compensate_lag",
		Help: "Records of the topic that the group has not taken in.",
	})
	m.stopped = f.NewGaugeVec(prometheus.GaugeOpts{
		Name: "newswire_compensate_channel_stopped",
		Help: "1 while a channel makes no calls because its provider fails or told us to wait.",
	}, []string{"channel"})
}

// The results of an intake.
const (
	intakeNew          = "new"
	intakeRepeated     = "repeated"
	intakeCancelled    = "cancelled"    // taken back before it came
	intakeCancellation = "cancellation" // a record of the other topic
	intakeMalformed    = "malformed"    // a dead letter
)

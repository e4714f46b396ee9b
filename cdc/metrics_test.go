package cdc

import (
	"testing"
	"time"

	"github.com/prometheus/client_golang/prometheus"
	dto "github.com/prometheus/client_model/go"
)

func counter(t *testing.T, c prometheus.Counter) float64 {
	t.Helper()
	var m dto.Metric
	if err := c.Write(&m); err != nil {
		t.Fatal(err)
	}
	return m.GetCounter().GetValue()
}

func TestLabelsArePresentAtZero(t *testing.T) {
	reg := prometheus.NewRegistry()
	newMetrics(reg).waits(reg, func() (int, time.Time) { return 0, time.Time{} })
	families, err := reg.Gather()
	if err != nil {
		t.Fatal(err)
	}
	series := make(map[string]int)
	for _, f := range families {
		series[f.GetName()] = len(f.GetMetric())
	}
	for name, want := range map[string]int{
		"newswire_cdc_transactions_total": 1, "newswire_cdc_rows_total": 11, "newswire_cdc_tags_skipped_total": 6,
		"newswire_cdc_confirmed_lag_bytes": 1, "newswire_slot_retained_bytes": 1, "newswire_slot_safe_wal_bytes": 1,
		"newswire_cdc_waiting_articles": 1, "newswire_cdc_next_due_timestamp_seconds": 1,
	} {
		if series[name] != want {
			t.Errorf("%s has %d series, want %d", name, series[name], want)
		}
	}
}

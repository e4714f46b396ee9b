package compensate

import (
	"bytes"
	"errors"
	"log/slog"
	"strings"
	"testing"
	"testing/synctest"
	"time"
)

func TestAFaultThatLastsIsToldNowAndAgain(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		var out bytes.Buffer
		c := newComplaints(slog.New(slog.NewTextHandler(&out, nil)))
		away := errors.New("away")
		for range 60 * 4 { // a minute, as often as the service looks
			c.warn("deliveries not taken", "sms", away, "channel", "sms")
			time.Sleep(lookEvery)
		}
		if n := strings.Count(out.String(), "\n"); n != 2 {
			t.Errorf("a minute of the same fault is %d lines, want 2:\n%s", n, out.String())
		}
		c.warn("deliveries not taken", "webhook", away, "channel", "webhook")
		c.over()
		c.warn("deliveries not taken", "sms", away, "channel", "sms")
		if n := strings.Count(out.String(), "\n"); n != 4 {
			t.Errorf("another's fault, and one that has come back, are %d lines in all, want 4:\n%s", n, out.String())
		}
	})
}

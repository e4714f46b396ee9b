package main

import (
	"encoding/json"
	"fmt"
	"os"
	"os/exec"
	"reflect"
	"slices"
	"strings"
	"testing"
	"time"

	"github.com/twmb/franz-go/pkg/kfake"

	"newswire/ack/offline/kafkatest"
	"newswire/cdc/pgtest"
	"newswire/cmd/newswire/internal/harness"
	"newswire/gateway/gatewaytest"
)

// article saves one and gives its key.
func article(db *pgtest.DB, title string, tags ...string) int64 {
	return pgtest.Value[int64](db, "INSERT INTO articles (title, tags) VALUES ($1, $2) RETURNING id", title, tags)
}

// recordFor gives the one record for a reader, decoded.
func recordFor(t *testing.T, records []kafkatest.Record, reader string) (harness.Record, kafkatest.Record) {
	t.Helper()
	records = slices.DeleteFunc(slices.Clone(records), func(r kafkatest.Record) bool { return r.Key != reader })
	if len(records) != 1 {
		t.Fatalf("%d records for reader %s, want 1: %+v", len(records), reader, records)
	}
	var v harness.Record
	if err := json.Unmarshal(records[0].Value, &v); err != nil {
		t.Fatal(err)
	}
	return v, records[0]
}

// asSent is a message without what only one delivery has.
func asSent(t *testing.T, raw []byte) (fields map[string]any) {
	t.Helper()
	if err := json.Unmarshal(raw, &fields); err != nil {
		t.Fatal(err)
	}
	for _, field := range []string{"type", "attempt", "replay"} {
		delete(fields, field)
	}
	return fields
}

func TestWhoDoesNotAcknowledgeIsHandedOver(t *testing.T) {
	t.Parallel()
	db := pgtest.New(t)
	e := harness.Start(t, harness.Options{DB: db, AckTimeout: time.Second})
	silent := e.Dial("silent", gatewaytest.Options{Follow: []string{"tech"}, Silent: true})
	silent.Welcome()
	e.Follow("away", []string{"tech"}, nil)
	key := article(db, "Nobody acknowledges “this”", "tech", "ai")
	first := silent.WaitMessages(1)[0]
	records := kafkatest.Collect(t, e.Brokers, harness.OfflineTopic, kafkatest.Count(2))
	e.AwaitSettled()
	if all := harness.Records(t, e.Brokers, harness.OfflineTopic); len(all) != 2 {
		t.Errorf("%d records, want one for each reader: %+v", len(all), all)
	}

	attempts := silent.Messages()
	for n, f := range attempts {
		// Attempt 2 comes 1 s after attempt 1, which is not before the commit;
		// attempt 3 comes 2 s after that.
		earliest := []time.Duration{0, time.Second, 3 * time.Second}[min(n, 2)]
		if f.ID != first.ID || f.Attempt != n+1 || f.Replay || f.At.Sub(f.Time) < earliest {
			t.Errorf("frame %d: attempt %d, replay %t of %s, %s after the commit; want attempt %d of %s after %s",
				n+1, f.Attempt, f.Replay, f.ID, f.At.Sub(f.Time), n+1, first.ID, earliest)
		}
	}
	if len(attempts) != 3 {
		t.Errorf("%d attempts, want 3", len(attempts))
	}
	checkRecord(t, records, "silent", first, key, func(r harness.Record) {
		if r.Reason != "ack_timeout" || r.Attempts != 3 || r.FirstSent == nil {
			t.Fatalf("reason %s, %d attempts, first sent %v", r.Reason, r.Attempts, r.FirstSent)
		}
		if r.FirstSent.Before(first.Time) || r.FirstSent.After(first.At) || r.HandedOver.Sub(*r.FirstSent) < 7*time.Second-5*time.Millisecond {
			t.Errorf("committed %s, first sent %s, received %s, handed over %s; want 1 s, 2 s and 4 s between", first.Time, r.FirstSent, first.At, r.HandedOver)
		}
	})
	checkRecord(t, records, "away", first, key, func(r harness.Record) {
		if r.Reason != "disconnected" || r.Attempts != 0 || r.FirstSent != nil {
			t.Errorf("reason %s, %d attempts, first sent %v", r.Reason, r.Attempts, r.FirstSent)
		}
		if r.HandedOver.Sub(first.Time) < time.Second {
			t.Errorf("handed over %s after the commit, want one ack timeout at least", r.HandedOver.Sub(first.Time))
		}
	})
	checkKcat(t, e.Brokers[0], records)

	// An acknowledgement behind the hand-over changes nothing but what the
	// compensation service is told.
	silent.Send(map[string]any{"type": "ack", "id": first.ID})
	cancelled := kafkatest.Collect(t, e.Brokers, harness.CancelledTopic, kafkatest.Count(1))
	ce := first.ID + ":silent"
	if want := fmt.Sprintf(`{"ce_id":"%s","cause":"acked"}`, ce); len(cancelled) != 1 || cancelled[0].Key != ce || string(cancelled[0].Value) != want {
		t.Errorf("cancelled: %+v, want %s under its ce_id", cancelled, want)
	}
	if all := harness.Records(t, e.Brokers, harness.OfflineTopic); len(all) != 2 {
		t.Errorf("%d records after the late acknowledgement, want 2", len(all))
	}
}

// checkRecord judges one record field by field; times judges the rest.
func checkRecord(t *testing.T, records []kafkatest.Record, reader string, sent gatewaytest.Frame, key int64, times func(harness.Record)) {
	t.Helper()
	v, record := recordFor(t, records, reader)
	var fields map[string]json.RawMessage
	if err := json.Unmarshal(record.Value, &fields); err != nil {
		t.Fatal(err)
	}
	for _, name := range []string{"id", "reader", "reason", "attempts", "first_sent", "handed_over", "message"} {
		if _, ok := fields[name]; !ok {
			t.Errorf("record for %s lacks %s: %s", reader, name, record.Value)
		}
	}
	if v.ID != sent.ID || v.Reader != reader || string(sent.Key) != fmt.Sprintf(`{"id":%d}`, key) {
		t.Errorf("record for %s: id %s, reader %s, key %s; want %s of article %d", reader, v.ID, v.Reader, sent.Key, sent.ID, key)
	}
	if got, want := asSent(t, v.Message), asSent(t, sent.Raw); !reflect.DeepEqual(got, want) {
		t.Errorf("record for %s: message %v, want what was sent: %v", reader, got, want)
	}
	want := map[string]string{
		"content-type": "application/json", "ce_specversion": "1.0", "ce_type": "newswire.offline.v1",
		"ce_source": record.Headers["ce_source"], "ce_id": sent.ID + ":" + reader, "ce_time": record.Headers["ce_time"],
	}
	if !reflect.DeepEqual(record.Headers, want) || record.Headers["ce_source"] == "" {
		t.Errorf("record for %s: headers %v, want %v", reader, record.Headers, want)
	}
	if at, err := time.Parse(time.RFC3339Nano, record.Headers["ce_time"]); err != nil || !at.Equal(v.HandedOver) {
		t.Errorf("record for %s: ce_time %q (%v), handed over %s", reader, record.Headers["ce_time"], err, v.HandedOver)
	}
	times(v)
}

// checkKcat reads the topic with a client that is not ours.
func checkKcat(t *testing.T, broker string, records []kafkatest.Record) {
	t.Helper()
	path, err := exec.LookPath("kcat")
	switch {
	case err == nil:
	case os.Getenv("CI") == "true":
		t.Errorf("kcat: %v; install it, so that the topic is read by another client than ours", err)
		return
	default:
		t.Logf("NOT TESTED: the topic as kcat reads it: %v", err)
		return
	}
	out, err := exec.Command(path, "-b", broker, "-C", "-t", harness.OfflineTopic, "-e", "-q", "-f", `%k|%h|%s\n`).CombinedOutput()
	if err != nil {
		t.Errorf("kcat: %v\n%s", err, out)
		return
	}
	var want []string
	for _, r := range records {
		var headers []string
		for _, name := range []string{"content-type", "ce_specversion", "ce_type", "ce_source", "ce_id", "ce_time"} {
			headers = append(headers, name+"="+r.Headers[name])
		}
		want = append(want, r.Key+"|"+strings.Join(headers, ",")+"|"+string(r.Value))
	}
	got := strings.Split(strings.TrimSpace(string(out)), "\n")
	slices.Sort(got)
	slices.Sort(want)
	if !slices.Equal(got, want) {
		t.Errorf("kcat reads\n%s\nwant\n%s", strings.Join(got, "\n"), strings.Join(want, "\n"))
	}
}

// TestRestartHandsNobodyOverEarly restarts the engine over messages that were
// long overdue: readers get one ack timeout from readiness to come back.
func TestRestartHandsNobodyOverEarly(t *testing.T) {
	t.Parallel()
	const timeout = time.Second
	kafka := kafkatest.New(t, kfake.SeedTopics(1, harness.OfflineTopic, harness.CancelledTopic))
	db := pgtest.New(t)
	e := harness.Start(t, harness.Options{DB: db, AckTimeout: timeout, Brokers: kafka.Addrs,
		Env: []string{"NEWSWIRE_ACK_RETRIES=0"}})
	e.Follow("away", []string{"tech"}, nil)
	back := e.Dial("back", gatewaytest.Options{Follow: []string{"tech"}, Silent: true})
	back.Welcome()
	article(db, "Before the restart", "tech")
	id := back.WaitMessages(1)[0].ID
	harness.Eventually(t, "the journal to hold the article", func() (bool, any) {
		s := e.Status()
		return s.Journal.Synced == s.Journal.Head && s.Journal.Head > 0, s.Journal
	})
	e.Kill()
	harness.Pause(t, 2*timeout) // the deadlines are in the past when it comes back
	e.Restart()
	ready := e.LastNotReady()

	// Who comes back within the timeout and acknowledges is not handed over.
	again := e.Dial("back", gatewaytest.Options{})
	if f := again.WaitMessages(1)[0]; f.ID != id || !f.Replay {
		t.Errorf("the returned reader got %s, replay %t; want %s as a replay", f.ID, f.Replay, id)
	}
	records := kafkatest.Collect(t, e.Brokers, harness.OfflineTopic, kafkatest.Count(1))
	e.AwaitSettled()
	if all := harness.Records(t, e.Brokers, harness.OfflineTopic); len(all) != 1 {
		t.Errorf("%d records, want 1: %+v", len(all), all)
	}
	r, _ := recordFor(t, records, "away")
	if r.ID != id || r.Reason != "disconnected" || r.HandedOver.Sub(ready) < timeout {
		t.Errorf("record of %s, %s, %s after the engine was not ready yet; want %s, disconnected, %s at least",
			r.ID, r.Reason, r.HandedOver.Sub(ready), id, timeout)
	}
}

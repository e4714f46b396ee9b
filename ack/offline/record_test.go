package offline

import (
	"bytes"
	"encoding/json"
	"flag"
	"os"
	"path/filepath"
	"strings"
	"testing"
	"time"

	"github.com/segmentio/kafka-go"

	"newswire/ack"
	"newswire/fanout/journal"
)

var update = flag.Bool("update", false, "write the golden files anew")

var handOverTime = time.Date(2026, 11, 23, 10, 44, 37, 200_000_999, time.FixedZone("CET", 3600))

func goldenMessage() *journal.Message {
	return &journal.Message{
		ID:     journal.ID{Epoch: 1, LSN: 0x196a3b0, Ordinal: 2},
		Action: journal.Publish,
		Tags:   []string{"tech", `a"i & <b>`},
		Source: "public.articles",
		Key:    json.RawMessage(`{"id": 42}`),
		Time:   time.Date(2026, 11, 23, 9, 41, 7, 123456000, time.UTC),
		Data:   json.RawMessage(`{"id": 42, "title": "Größe <1>", "price": 1.50}`),
	}
}

func goldenHandOver() ack.HandOver {
	return ack.HandOver{
		Name: "u1", Message: goldenMessage(), Reason: ack.ReasonAckTimeout, Attempts: 3,
		FirstSent: time.Date(2026, 11, 23, 9, 41, 7, 200_000_000, time.UTC),
	}
}

// TestRecordIsAsTheContractSays compares whole records with golden files, byte
// for byte: consumers that nobody here knows read them.
func TestRecordIsAsTheContractSays(t *testing.T) {
	never := goldenHandOver()
	never.Name, never.Reason, never.Attempts, never.FirstSent = `ü"2`, ack.ReasonDisconnected, 0, time.Time{}

	cut := goldenHandOver()
	cut.Message.Data = json.RawMessage(`{"id": 42, "body": "` + strings.Repeat("x", minBytes) + `"}`)

	journaled := goldenHandOver()
	journaled.Message.Truncated, journaled.Message.Data = true, journaled.Message.Key

	barest := goldenHandOver()
	barest.Message.Tags = []string{strings.Repeat("t", minBytes)}

	record := func(h ack.HandOver) kafka.Message {
		e := &encoder{topic: "news-offline", source: "newswire"}
		m, _ := e.handOver(h, handOverTime, minBytes)
		return m
	}
	for name, m := range map[string]kafka.Message{
		"ack_timeout":          record(goldenHandOver()),
		"never_sent":           record(never),
		"too_large":            record(cut),
		"truncated_in_journal": record(journaled),
		"bare":                 record(barest),
		"cancelled":            (&encoder{topic: "news-offline"}).cancel(ack.Cancel{CeID: ack.CeID(goldenMessage().ID, "u1"), Cause: ack.CauseRetracted}),
	} {
		t.Run(name, func(t *testing.T) { golden(t, name, m) })
	}
}

func golden(t *testing.T, name string, m kafka.Message) {
	if !json.Valid(m.Value) {
		t.Fatalf("value is not JSON: %s", m.Value)
	}
	var got bytes.Buffer
	got.WriteString("topic " + m.Topic + "\nkey " + string(m.Key) + "\n")
	for _, h := range m.Headers {
		got.WriteString("header " + h.Key + ": " + string(h.Value) + "\n")
	}
	got.Write(m.Value)
	got.WriteByte('\n')
	file := filepath.Join("testdata", name+".golden")
	if *update {
		if err := os.WriteFile(file, got.Bytes(), 0o644); err != nil {
			t.Fatal(err)
		}
	}
	want, err := os.ReadFile(file)
	if err != nil {
		t.Fatal(err)
	}
	if !bytes.Equal(got.Bytes(), want) {
		t.Errorf("record differs from %s:\n%s\nwant:\n%s", file, got.Bytes(), want)
	}
}

func TestOnlyWhatDoesNotFitLosesItsData(t *testing.T) {
	e := &encoder{topic: "news-offline", source: "newswire"}
	small := goldenHandOver()
	m, truncated := e.handOver(small, handOverTime, maxBytes)
	if truncated {
		t.Errorf("truncated a record of %d bytes", recordSize(m))
	}
	exact := recordSize(m)
	if _, truncated = e.handOver(small, handOverTime, exact); truncated {
		t.Errorf("truncated a record of exactly the limit")
	}
	if _, truncated = e.handOver(small, handOverTime, exact-1); !truncated {
		t.Errorf("left whole a record one byte over the limit")
	}
}

func TestEveryRecordFitsTheSmallestLimit(t *testing.T) {
	h := goldenHandOver()
	h.Name = strings.Repeat(`"`, 256)                              // the longest reader, each byte escaped
	h.Message.Source = strings.Repeat("s", 63) + "." + h.Name[:63] // the longest table
	h.Message.Key = json.RawMessage(`{"id": "` + strings.Repeat("k", maxBytes) + `"}`)
	h.Message.Tags = []string{strings.Repeat("t", maxBytes)}
	h.Message.Data = h.Message.Key
	e := &encoder{topic: strings.Repeat("t", maxTopicName), source: "newswire"}
	if m, _ := e.handOver(h, handOverTime, minBytes); recordSize(m) > minBytes {
		t.Errorf("smallest record has %d bytes, want at most %d", recordSize(m), minBytes)
	}
}

// TestOneMessageForManyReadersIsEncodedOnce: and a hand-over of another message
// in between gets its own body.
func TestOneMessageForManyReadersIsEncodedOnce(t *testing.T) {
	e := &encoder{topic: "news-offline", source: "newswire"}
	a, b := goldenHandOver(), goldenHandOver()
	b.Message.Source = "public.others"
	b.Message.ID.Ordinal++
	for _, h := range []ack.HandOver{a, a, b, a} {
		m, _ := e.handOver(h, handOverTime, maxBytes)
		if !bytes.Contains(m.Value, []byte(`"source":"`+h.Message.Source+`"`)) {
			t.Errorf("record of %s carries %s", h.Message.Source, m.Value)
		}
	}
}

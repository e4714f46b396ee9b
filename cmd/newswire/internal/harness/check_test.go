package harness

import (
	"encoding/json"
	"fmt"
	"slices"
	"strings"
	"testing"

	"newswire/ack/offline/kafkatest"
	"newswire/fanout/journal"
	"newswire/gateway/gatewaytest"
)

// flawless is a run in which everything was as promised: ten articles, three
// readers, one of whom was away for the last half.
func flawless() History {
	var h History
	for n := range 10 {
		tag := []string{"tech", "sport"}[n%2]
		h.Articles = append(h.Articles, Article{
			Key: int64(n + 1), Tags: []string{tag}, Data: fmt.Appendf(nil, `{"id":%d,"title":"t%d"}`, n+1, n+1),
			Behind: journal.LSN(100 * n), End: journal.LSN(100*n + 100),
		})
	}
	everything := Reader{Name: "all", Wants: Follows("*"), Connections: make([][]gatewaytest.Frame, 1)}
	tech := Reader{Name: "tech", Wants: Follows("tech"), Connections: make([][]gatewaytest.Frame, 1)}
	away := Reader{Name: "away", Wants: Follows("*"), Connections: make([][]gatewaytest.Frame, 1)}
	for n, a := range h.Articles {
		f := frameOf(a)
		everything.get(f)
		if n%2 == 0 {
			tech.get(f)
		}
		if n < 5 {
			away.get(f)
			continue
		}
		h.Offline = append(h.Offline, recordOf(f, away.Name))
	}
	h.Readers = []Reader{everything, tech, away}
	return h
}

func (r *Reader) get(f gatewaytest.Frame) {
	r.Connections[0] = append(r.Connections[0], f)
	r.Acked = append(r.Acked, f.ID)
}

func frameOf(a Article) gatewaytest.Frame {
	id := journal.ID{Epoch: 1, LSN: a.End - 10}.String()
	tags, _ := json.Marshal(a.Tags)
	return frame(fmt.Sprintf(`{"type":"message","id":"%s","action":"publish","tags":%s,"source":"public.articles","key":{"id":%d},"attempt":1,"replay":false,"data":%s}`,
		id, tags, a.Key, a.Data))
}

func frame(raw string) gatewaytest.Frame {
	f := gatewaytest.Frame{Raw: []byte(raw)}
	if err := json.Unmarshal(f.Raw, &f); err != nil {
		panic(err)
	}
	return f
}

// edited is a frame with a part of its text replaced.
func edited(f gatewaytest.Frame, old, new string) gatewaytest.Frame {
	return frame(strings.Replace(string(f.Raw), old, new, 1))
}

func recordOf(f gatewaytest.Frame, reader string) kafkatest.Record {
	return kafkatest.Record{
		Topic: OfflineTopic, Key: reader, Headers: map[string]string{"ce_id": f.ID + ":" + reader},
		Value: fmt.Appendf(nil, `{"id":"%s","reader":"%s","message":%s}`, f.ID, reader, f.Raw),
	}
}

func TestCheckFindsNothingInAFlawlessRun(t *testing.T) {
	for _, once := range []bool{true, false} {
		h := flawless()
		h.Once = once
		if found := h.Check(); len(found) > 0 {
			t.Errorf("once %t: %v", once, found)
		}
	}
}

func TestCheckAllowsWhatAFaultMayCause(t *testing.T) {
	h := flawless()
	again := h.Readers[0].Connections[0][4]
	h.Readers[0].Connections = append(h.Readers[0].Connections, []gatewaytest.Frame{
		edited(again, `"replay":false`, `"replay":true`),
		edited(h.Readers[0].Connections[0][2], `"attempt":1`, `"attempt":2`),
	})
	h.Offline = append(h.Offline, h.Offline[0])
	if found := h.Check(); len(found) > 0 {
		t.Error(found)
	}
	h.Once = true
	if found := h.Check(); len(found) == 0 {
		t.Error("a run without faults has repeats, and nothing is found")
	}
}

// TestCheckNoticesEveryDamage damages a flawless run in one place at a time.
func TestCheckNoticesEveryDamage(t *testing.T) {
	first := func(h *History) *[]gatewaytest.Frame { return &h.Readers[0].Connections[0] }
	for _, c := range []struct {
		name   string
		want   Promise
		damage func(*History)
	}{
		{"message dropped", Complete, func(h *History) {
			h.Readers[0].Connections[0] = slices.Delete(*first(h), 3, 4)
			h.Readers[0].Acked = slices.Delete(h.Readers[0].Acked, 3, 4)
		}},
		{"last message dropped for everybody", Complete, func(h *History) {
			h.Readers[0].Connections[0] = (*first(h))[:9]
			h.Readers[0].Acked = h.Readers[0].Acked[:9]
			h.Offline = h.Offline[:4]
		}},
		{"not acknowledged and not handed over", Complete, func(h *History) { h.Readers[1].Acked = h.Readers[1].Acked[1:] }},
		{"hand-over dropped", Complete, func(h *History) { h.Offline = h.Offline[1:] }},
		{"message doubled", Unique, func(h *History) { *first(h) = slices.Insert(*first(h), 3, (*first(h))[3]) }},
		{"message doubled later", Unique, func(h *History) { *first(h) = append(*first(h), (*first(h))[3]) }},
		{"article under two ids", Unique, func(h *History) {
			f := (*first(h))[3]
			*first(h) = append(*first(h), edited(f, f.ID, journal.ID{Epoch: 2, LSN: 395}.String()))
		}},
		{"two articles under one id", Unique, func(h *History) {
			f := (*first(h))[3]
			(*first(h))[3] = edited(f, f.ID, (*first(h))[2].ID)
		}},
		{"messages swapped", Ordered, func(h *History) { (*first(h))[3], (*first(h))[4] = (*first(h))[4], (*first(h))[3] }},
		{"body nulled", True, func(h *History) { (*first(h))[3] = edited((*first(h))[3], `"title":"t4"`, `"title":null`) }},
		{"body missing", True, func(h *History) { (*first(h))[3] = edited((*first(h))[3], `,"data":{"id":4,"title":"t4"}`, ``) }},
		{"body of another", True, func(h *History) { (*first(h))[3] = edited((*first(h))[3], `"title":"t4"`, `"title":"t5"`) }},
		{"body nulled in the hand-over", True, func(h *History) {
			h.Offline[0].Value = []byte(strings.Replace(string(h.Offline[0].Value), `"title":"t6"`, `"title":null`, 1))
		}},
		{"tags lost", True, func(h *History) { (*first(h))[3] = edited((*first(h))[3], `["sport"]`, `[]`) }},
		{"wrong reader", True, func(h *History) { h.Readers[1].get((*first(h))[1]) }},
		{"wrong reader in Kafka", True, func(h *History) { h.Offline = append(h.Offline, recordOf((*first(h))[1], "tech")) }},
		{"unknown reader in Kafka", True, func(h *History) { h.Offline = append(h.Offline, recordOf((*first(h))[1], "nobody")) }},
		{"rolled back", True, func(h *History) {
			*first(h) = append(*first(h), edited((*first(h))[3], `"key":{"id":4}`, `"key":{"id":11}`))
		}},
		{"id of another commit", True, func(h *History) {
			for _, frames := range []*[]gatewaytest.Frame{first(h)} {
				f := (*frames)[1]
				(*frames)[1] = edited(f, f.ID, journal.ID{Epoch: 1, LSN: 555}.String())
			}
		}},
		{"handed over under another key", True, func(h *History) { h.Offline[0].Key = "all" }},
	} {
		t.Run(c.name, func(t *testing.T) {
			h := flawless()
			c.damage(&h)
			found := h.Check()
			if !slices.ContainsFunc(found, func(v Violation) bool { return v.Promise == c.want }) {
				t.Errorf("found %v, want a violation of %s", found, c.want)
			}
		})
	}
}

func TestCrashesAreFoundInOutput(t *testing.T) {
	for _, output := range []string{
		"time=… level=INFO msg=ready\npanic: close of closed channel\n\ngoroutine 7 [running]:\n",
		"==================\nWARNING: DATA RACE\nWrite at 0x00c000\n",
		"fatal error: all goroutines are asleep - deadlock!\n",
		"goroutine 1 [select]:\n",
	} {
		if len(crashes(output)) == 0 {
			t.Errorf("nothing found in %q", output)
		}
	}
	if found := crashes("time=… level=WARN msg=\"replication interrupted\" err=\"no panic: it comes back\"\n"); len(found) > 0 {
		t.Error(found)
	}
}

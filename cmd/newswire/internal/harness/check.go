package harness

import (
	"bytes"
	"encoding/json"
	"fmt"
	"reflect"

	"newswire/ack/offline/kafkatest"
	"newswire/fanout/journal"
	"newswire/gateway/gatewaytest"
)

// Article is a committed row, as the database tells it.
type Article struct {
	Key    int64           `json:"key"`
	Tags   []string        `json:"tags"`
	Data   json.RawMessage `json:"data"` // the mapped columns, as to_jsonb prints them
	Behind journal.LSN     `json:"-"`    // the end of the commit before
	End    journal.LSN     `json:"-"`    // the end of its commit; 0 with Behind: not known
}

// History is a whole run as seen from outside.
type History struct {
	Articles []Article // in commit order
	Readers  []Reader
	Offline  []kafkatest.Record // what OfflineTopic holds
	Once     bool               // nothing went wrong: no repeat of any kind is allowed
}

// Reader is what one reader was to get, and got.
type Reader struct {
	Name        string
	Wants       func(Article) bool // by the sets that held at the article's place
	Connections [][]gatewaytest.Frame
	Acked       []string
}

// Promise is one of the invariants that a run must hold.
type Promise string

// The promises, by the names that the project's reliability page gives them.
const (
	Complete Promise = "I1 complete" // committed × follower: acked, or in news-offline
	Unique   Promise = "I2 unique"   // after dedupe by id, one delivery; one terminal state
	Ordered  Promise = "I3 ordered"  // on each connection, commit order
	True     Promise = "I5 true"     // nobody else's, nothing else, and as committed
)

// Violation is one promise broken.
type Violation struct {
	Promise Promise
	Text    string
}

func (v Violation) String() string { return string(v.Promise) + ": " + v.Text }

// Check judges a run. It gives every violation that it finds.
func (h History) Check() []Violation {
	c := &checker{
		history: h, places: make(map[int64]int), ids: make(map[string]int64), keys: make(map[int64]string), right: make(map[string]int),
	}
	for place, a := range h.Articles {
		c.places[a.Key] = place
	}
	for n := range h.Readers {
		for number, frames := range h.Readers[n].Connections {
			c.connection(&h.Readers[n], number, frames)
		}
	}
	c.records()
	for n := range h.Readers {
		c.terminal(&h.Readers[n])
	}
	return c.found
}

type checker struct {
	history History
	places  map[int64]int    // of articles in commit order
	ids     map[string]int64 // which article an id stands for
	keys    map[int64]string // and the other way round
	right   map[string]int   // places by the text of messages that are as committed
	handed  map[string]int   // records by reader and id
	found   []Violation
}

func (c *checker) report(p Promise, format string, args ...any) {
	c.found = append(c.found, Violation{p, fmt.Sprintf(format, args...)})
}

// connection judges what came on one connection, in its order.
func (c *checker) connection(r *Reader, number int, frames []gatewaytest.Frame) {
	where := fmt.Sprintf("reader %s, connection %d", r.Name, number+1)
	type attempt struct {
		id string
		n  int
	}
	seen, last := make(map[attempt]bool), -1
	for _, f := range frames {
		place, known := c.message(where, r, f.Raw)
		if !known {
			continue
		}
		if seen[attempt{f.ID, f.Attempt}] {
			c.report(Unique, "%s: message %s came twice as attempt %d", where, f.ID, f.Attempt)
			continue
		}
		seen[attempt{f.ID, f.Attempt}] = true
		if c.history.Once && (f.Attempt != 1 || f.Replay) {
			c.report(Unique, "%s: message %s came as attempt %d, replay %t, though nothing went wrong", where, f.ID, f.Attempt, f.Replay)
		}
		if f.Attempt > 1 && !f.Replay {
			continue // a retry may come after its successors
		}
		if place <= last {
			c.report(Ordered, "%s: article %d, %d. to be committed, came after the %d.", where, c.history.Articles[place].Key, place+1, last+1)
		}
		last = max(last, place)
	}
}

// message judges one message on its own, and gives its article's place in
// commit order.
func (c *checker) message(where string, r *Reader, raw []byte) (place int, known bool) {
	place, known = c.right[string(raw)] // most go to many readers, in the same words
	if !known {
		before := len(c.found)
		place, known = c.content(where, raw)
		if !known {
			return 0, false
		}
		if len(c.found) == before {
			c.right[string(raw)] = place
		}
	}
	if a := c.history.Articles[place]; !r.Wants(a) {
		c.report(True, "%s: article %d %q is not the reader's", where, a.Key, a.Tags)
	}
	return place, true
}

// content judges a message without regard to who got it.
func (c *checker) content(where string, raw []byte) (place int, known bool) {
	var m struct {
		ID     string          `json:"id"`
		Action string          `json:"action"`
		Source string          `json:"source"`
		Tags   []string        `json:"tags"`
		Data   json.RawMessage `json:"data"`
		Key    struct {
			ID int64 `json:"id"`
		} `json:"key"`
	}
	if err := json.Unmarshal(raw, &m); err != nil {
		c.report(True, "%s: %v: %s", where, err, raw)
		return 0, false
	}
	place, known = c.places[m.Key.ID]
	if !known {
		c.report(True, "%s: message %s is of row %d, which nobody committed", where, m.ID, m.Key.ID)
		return 0, false
	}
	a := c.history.Articles[place]
	c.identity(where, m.ID, a)
	if m.Action != "publish" || m.Source != "public.articles" || !reflect.DeepEqual(m.Tags, a.Tags) {
		c.report(True, "%s: article %d %q came as %s of %s with tags %q", where, a.Key, a.Tags, m.Action, m.Source, m.Tags)
	}
	if !sameJSON(m.Data, a.Data) {
		c.report(True, "%s: article %d came with the data %s, was committed with %s", where, a.Key, m.Data, a.Data)
	}
	return place, true
}

// identity judges that an article has one id for ever, and that it lies where
// the article was committed.
func (c *checker) identity(where, text string, a Article) {
	if key, ok := c.ids[text]; ok && key != a.Key {
		c.report(Unique, "%s: id %s stands for the articles %d and %d", where, text, key, a.Key)
	}
	if other, ok := c.keys[a.Key]; ok && other != text {
		c.report(Unique, "%s: article %d has the ids %s and %s", where, a.Key, other, text)
	}
	c.ids[text], c.keys[a.Key] = a.Key, text
	id, err := journal.ParseID(text)
	if err != nil {
		c.report(True, "%s: id %q: %v", where, text, err)
		return
	}
	if a.End != 0 && (id.LSN < a.Behind || id.LSN >= a.End) {
		c.report(True, "%s: id %s says that article %d was committed at %s; it was between %s and %s", where, text, a.Key, id.LSN, a.Behind, a.End)
	}
}

// records judges what Kafka was given.
func (c *checker) records() {
	c.handed = make(map[string]int)
	readers := make(map[string]*Reader)
	for n := range c.history.Readers {
		readers[c.history.Readers[n].Name] = &c.history.Readers[n]
	}
	seen := make(map[string]bool)
	for _, record := range c.history.Offline {
		where := fmt.Sprintf("%s, partition %d, offset %d", record.Topic, record.Partition, record.Offset)
		var v Record
		if err := json.Unmarshal(record.Value, &v); err != nil {
			c.report(True, "%s: %v", where, err)
			continue
		}
		ce := record.Headers["ce_id"]
		if ce != v.ID+":"+v.Reader || record.Key != v.Reader {
			c.report(True, "%s: key %q and ce_id %q do not fit the record of %s for %s", where, record.Key, ce, v.ID, v.Reader)
		}
		r := readers[v.Reader]
		if r == nil {
			c.report(True, "%s: reader %q is nobody", where, v.Reader)
			continue
		}
		c.message(where, r, v.Message)
		if seen[ce] && c.history.Once {
			c.report(Unique, "%s: a second record %s", where, ce)
		}
		seen[ce] = true
		c.handed[ce]++
	}
}

// terminal judges that everything a reader was to get has come to an end, and
// to one.
func (c *checker) terminal(r *Reader) {
	acked := make(map[string]bool)
	for _, id := range r.Acked {
		acked[id] = true
	}
	for _, a := range c.history.Articles {
		if !r.Wants(a) {
			continue
		}
		id := c.keys[a.Key]
		handed := c.handed[id+":"+r.Name] > 0
		switch {
		case !acked[id] && !handed:
			c.report(Complete, "reader %s: article %d %q (id %q) was neither acknowledged nor handed over", r.Name, a.Key, a.Tags, id)
		case acked[id] && handed && c.history.Once:
			c.report(Unique, "reader %s: article %d (id %q) was acknowledged and handed over", r.Name, a.Key, id)
		}
	}
}

// sameJSON compares values, numbers digit for digit.
func sameJSON(a, b []byte) bool {
	var values [2]any
	for n, raw := range [][]byte{a, b} {
		d := json.NewDecoder(bytes.NewReader(raw))
		d.UseNumber()
		if d.Decode(&values[n]) != nil {
			return false
		}
	}
	return reflect.DeepEqual(values[0], values[1])
}

// Follows is for Reader.Wants: articles with one of these tags.
func Follows(tags ...string) func(Article) bool {
	return func(a Article) bool {
		for _, followed := range tags {
			for _, tag := range a.Tags {
				if tag == followed || followed == "*" {
					return true
				}
			}
		}
		return false
	}
}

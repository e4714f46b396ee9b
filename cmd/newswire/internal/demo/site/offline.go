package site

import (
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"net/http"
	"strconv"
	"sync"
	"time"

	"github.com/segmentio/kafka-go"
	"golang.org/x/sync/errgroup"
)

const (
	ringSize   = 500                    // records that the page can still ask for
	lookAgain  = time.Second            // between attempts at a broker or topic that is not there yet
	fetchWait  = 250 * time.Millisecond // longest a record waits in the broker for company
	fetchBytes = 8 << 20
)

// Run reads the offline topic from its beginning until ctx ends, for the page's
// list, and waits for what is not there yet. It belongs to no consumer group,
// so it takes nothing from anyone. It is called once.
func (s *Site) Run(ctx context.Context, brokers []string) error {
	partitions := s.awaitTopic(ctx, brokers)
	g, ctx := errgroup.WithContext(ctx)
	for _, partition := range partitions {
		g.Go(func() error { return s.read(ctx, brokers, partition) })
	}
	return g.Wait()
}

// awaitTopic waits for the engine to make the topic, and gives its partitions;
// none once ctx has ended.
func (s *Site) awaitTopic(ctx context.Context, brokers []string) (partitions []int) {
	transport := &kafka.Transport{}
	defer transport.CloseIdleConnections()
	client := &kafka.Client{Addr: kafka.TCP(brokers...), Transport: transport}
	for ctx.Err() == nil {
		meta, err := client.Metadata(ctx, &kafka.MetadataRequest{Topics: []string{s.cfg.Topic}})
		if err == nil {
			for _, topic := range meta.Topics {
				err = topic.Error
				for _, p := range topic.Partitions {
					partitions = append(partitions, p.ID)
				}
			}
			if len(partitions) > 0 {
				return partitions
			}
		}
		s.log.DebugContext(ctx, "offline topic not there yet", "topic", s.cfg.Topic, "err", err)
		pause(ctx, lookAgain)
	}
	return nil
}

func (s *Site) read(ctx context.Context, brokers []string, partition int) error {
	reader := kafka.NewReader(kafka.ReaderConfig{
		Brokers:   brokers,
		Topic:     s.cfg.Topic,
		Partition: partition,
		MinBytes:  1,
		MaxBytes:  fetchBytes,
		MaxWait:   fetchWait,
	})
	defer reader.Close()
	for {
		message, err := reader.ReadMessage(ctx)
		switch {
		case ctx.Err() != nil:
			return nil // the end of the demo, not a fault
		case err != nil:
			s.log.WarnContext(ctx, "offline topic not read", "topic", s.cfg.Topic, "partition", partition, "err", err)
			pause(ctx, lookAgain)
		default:
			s.offline.add(message)
		}
	}
}

func pause(ctx context.Context, d time.Duration) {
	timer := time.NewTimer(d)
	defer timer.Stop()
	select {
	case <-timer.C:
	case <-ctx.Done():
	}
}

// ring keeps the last records of the topic for pages that ask.
type ring struct {
	mu      sync.Mutex          // guards the rest
	records []json.RawMessage   // the last ringSize at most, oldest first
	ids     []string            // ce_id of each
	known   map[string]struct{} // the same ids: Kafka may carry a record twice
	next    int                 // number of the record to come; the last of records is next-1
}

func newRing() *ring { return &ring{known: make(map[string]struct{})} }

// add takes a record once, and none that is not JSON.
func (r *ring) add(message kafka.Message) {
	if !json.Valid(message.Value) {
		return // somebody else's: kcat can produce too
	}
	id := fmt.Sprintf("%d/%d", message.Partition, message.Offset)
	for _, h := range message.Headers {
		if h.Key == "ce_id" {
			id = string(h.Value)
		}
	}
	r.mu.Lock()
	defer r.mu.Unlock()
	if _, known := r.known[id]; known {
		return
	}
	r.known[id] = struct{}{}
	r.records, r.ids, r.next = append(r.records, message.Value), append(r.ids, id), r.next+1
	if len(r.records) > ringSize {
		delete(r.known, r.ids[0])
		r.records, r.ids = r.records[1:], r.ids[1:]
	}
}

// since gives the records from number n on that are still there, and the
// number to ask for next.
func (r *ring) since(n int) (records []json.RawMessage, next int) {
	r.mu.Lock()
	defer r.mu.Unlock()
	first := r.next - len(r.records)
	skip := min(max(n-first, 0), len(r.records))
	return append([]json.RawMessage{}, r.records[skip:]...), r.next
}

func (s *Site) listOffline(w http.ResponseWriter, r *http.Request) {
	from := 0
	if text := r.URL.Query().Get("from"); text != "" {
		n, err := strconv.Atoi(text)
		if err == nil && n < 0 {
			err = errors.New("negative")
		}
		if err != nil {
			problem(w, http.StatusBadRequest, fault{Code: "bad_from", Message: "from is a number that an earlier answer gave as next."})
			return
		}
		from = n
	}
	records, next := s.offline.since(from)
	answer(w, http.StatusOK, struct {
		Records []json.RawMessage `json:"records"`
		Next    int               `json:"next"`
	}{records, next})
}

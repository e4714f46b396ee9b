//go:build linux

package yard

import (
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"log/slog"
	"net/http"
	"os"
	"path/filepath"
	"time"

	"newswire/cmd/newswire/internal/config"
	"newswire/cmd/newswire/internal/engine"
	"newswire/fanout/journal"
)

// hosted is the whole engine. Commits come into its journal as the listener would
// bring them, without a PostgreSQL.
type hosted struct {
	ctx    context.Context
	stop   context.CancelFunc
	done   chan error
	at     engine.Addresses
	stream *journal.Journal
}

// ackTimeout is so long that nothing is sent twice during a measurement.
const ackTimeout = time.Hour

func newEngine(ctx context.Context, dir, listen string) (*hosted, error) {
	cfg := config.Default()
	cfg.Journal.Dir = filepath.Join(dir, "journal")
	cfg.Gateway.Listen, cfg.Gateway.Admin = listen, "127.0.0.1:0"
	cfg.Gateway.Auth.HS256Secret = Secret
	cfg.Ack.Timeout = ackTimeout
	cfg.Offline.Brokers, cfg.Offline.EmbeddedListen = []string{"embedded"}, "127.0.0.1:0"

	h := &hosted{done: make(chan error, 1)}
	h.ctx, h.stop = context.WithCancel(ctx)
	streams, ready := make(chan *journal.Journal, 1), make(chan engine.Addresses, 1)
	log := slog.New(slog.NewTextHandler(os.Stderr, &slog.HandlerOptions{Level: slog.LevelWarn}))
	go func() {
		h.done <- engine.Run(h.ctx, cfg, log, engine.Options{
			OnReady: func(at engine.Addresses) { ready <- at },
			Feed: func(ctx context.Context, j *journal.Journal) error {
				streams <- j
				<-ctx.Done()
				return nil
			},
		})
	}()
	select {
	case h.at = <-ready:
		h.stream = <-streams
		return h, nil
	case err := <-h.done:
		return nil, errors.Join(errors.New("the engine ended before it was ready"), err)
	}
}

func (h *hosted) address() string { return h.at.Gateway }

func (h *hosted) publish(n int, at time.Time) error { return h.stream.Append(h.ctx, commit(n, at)) }

func (h *hosted) owed() (int, error) {
	answer, err := http.Get("http://" + h.at.Admin + "/v1/status")
	if err != nil {
		return 0, err
	}
	defer answer.Body.Close()
	var status engine.Status
	if err := json.NewDecoder(answer.Body).Decode(&status); err != nil {
		return 0, fmt.Errorf("read /v1/status: %w", err)
	}
	return status.Ledger.Messages, nil
}

func (h *hosted) close() error {
	h.stop()
	return <-h.done
}

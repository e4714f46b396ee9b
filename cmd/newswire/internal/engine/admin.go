package engine

import (
	"context"
	_ "embed"
	"encoding/json"
	"errors"
	"fmt"
	"log/slog"
	"net"
	"net/http"
	"net/http/pprof"
	"time"

	"newswire/ack"
	"newswire/fanout/journal"

	"github.com/prometheus/client_golang/prometheus/promhttp"
	"golang.org/x/sync/errgroup"
)

//go:embed admin.html
var adminPage []byte

//go:embed admin.js
var adminScript []byte

// admin serves those who run the engine: health, metrics, status, the journal's
// tail. It is on an address of its own, loopback by default.
type admin struct {
	listener net.Listener
	server   *http.Server
}

func newAdmin(address string, e *engine) (*admin, error) {
	ln, err := listen("gateway.admin", address)
	if err != nil {
		return nil, err
	}
	return &admin{ln, &http.Server{
		Handler:           ownHost(address, ln.Addr(), e.adminHandler()),
		ReadHeaderTimeout: 5 * time.Second,
		ErrorLog:          slog.NewLogLogger(e.log.Handler(), slog.LevelDebug),
	}}, nil
}

func (a *admin) run(ctx context.Context) error {
	var g errgroup.Group
	g.Go(func() error {
		if err := a.server.Serve(a.listener); !errors.Is(err, http.ErrServerClosed) {
			return fmt.Errorf("serve: %w", err)
		}
		return nil
	})
	<-ctx.Done()
	_ = a.server.Close() // whoever follows the tail is cut off
	return g.Wait()
}

func (e *engine) adminHandler() http.Handler {
	mux := http.NewServeMux()
	mux.HandleFunc("GET /healthz", func(w http.ResponseWriter, _ *http.Request) { fmt.Fprintln(w, "alive") })
	mux.HandleFunc("GET /readyz", e.serveReady)
	mux.Handle("GET /metrics", promhttp.HandlerFor(e.registry, promhttp.HandlerOpts{}))
	mux.HandleFunc("GET /v1/status", e.serveStatus)
	mux.HandleFunc("GET /v1/tail", e.serveTail)
	mux.HandleFunc("GET /v1/audit", e.serveAudit)
	mux.HandleFunc("GET /v1/backup", e.serveBackup)
	mux.Handle("POST /v1/resync", http.NewCrossOriginProtection().Handler(http.HandlerFunc(e.serveResync)))
	mux.Handle("/v1/revocations", e.revocationHandler())
	mux.HandleFunc("GET /debug/pprof/", pprof.Index)
	mux.HandleFunc("GET /debug/pprof/cmdline", pprof.Cmdline)
	mux.HandleFunc("GET /debug/pprof/profile", pprof.Profile)
	mux.HandleFunc("GET /debug/pprof/symbol", pprof.Symbol)
	mux.HandleFunc("GET /debug/pprof/trace", pprof.Trace)
	page := func(kind string, body []byte) http.HandlerFunc {
		return func(w http.ResponseWriter, _ *http.Request) {
			w.Header().Set("Content-Type", kind)
			w.Header().Set("Content-Security-Policy", "default-src 'none'; script-src 'self'; style-src 'self' 'unsafe-inline'; connect-src 'self'; base-uri 'none'; form-action 'none'; frame-ancestors 'none'")
			w.Header().Set("X-Content-Type-Options", "nosniff")
			_, _ = w.Write(body)
		}
	}
	mux.HandleFunc("GET /{$}", page("text/html; charset=utf-8", adminPage))
	mux.HandleFunc("GET /admin.js", page("text/javascript; charset=utf-8", adminScript))
	return mux
}

func (e *engine) serveReady(w http.ResponseWriter, _ *http.Request) {
	why := e.reasons()
	if len(why) > 0 {
		w.WriteHeader(http.StatusServiceUnavailable)
		for _, reason := range why {
			fmt.Fprintln(w, reason)
		}
		return
	}
	fmt.Fprintln(w, "ready")
}

// Status is what /v1/status tells.
type Status struct {
	Ready    bool        `json:"ready"`
	Reasons  []string    `json:"reasons"` // why not
	Uptime   float64     `json:"uptime_seconds"`
	Addrs    Addresses   `json:"addresses"`
	Journal  JournalAt   `json:"journal"`
	Waiting  Waiting     `json:"waiting"`
	Ledger   ack.Counts  `json:"ledger"`
	Audit    *audited    `json:"audit"` // the last recount; null before the first one
	Sessions int         `json:"sessions"`
	Kafka    string      `json:"kafka"` // "ok", or what is wrong
	Routed   journal.Seq `json:"routed"`
}

// JournalAt is where the journal stands.
type JournalAt struct {
	Oldest    journal.Seq `json:"oldest"`
	Head      journal.Seq `json:"head"`
	Synced    journal.Seq `json:"synced"`
	Confirmed string      `json:"confirmed_lsn"` // may be reported to the slot

	Disk journal.Room `json:"disk"`
}

// Waiting tells of the articles that wait for the time from which on they are
// news.
type Waiting struct {
	Articles int        `json:"articles"`
	Next     *time.Time `json:"next"` // when the first of them goes out; null when none waits
}

func (e *engine) waiting() (w Waiting) {
	n, first := e.listener.Waiting()
	w.Articles = n
	if !first.IsZero() {
		w.Next = &first
	}
	return w
}

func (e *engine) status() Status {
	why := e.reasons()
	s := Status{
		Ready: len(why) == 0, Reasons: append([]string{}, why...),
		Uptime: time.Since(e.started).Seconds(),
		Journal: JournalAt{
			e.journal.Oldest(), e.journal.Head(), e.journal.Synced(), e.journal.Confirmed().String(), e.journal.Room(),
		},
		Waiting: e.waiting(), Ledger: e.ledger.Counts(), Audit: e.lastAudit.Load(), Sessions: e.pools.Count(), Kafka: "ok", Routed: e.router.Routed(),
	}
	if err := e.sender.Ready(); err != nil {
		s.Kafka = err.Error()
	}
	if e.gateway.Addr() != nil {
		s.Addrs = e.addresses()
	}
	return s
}

func (e *engine) serveStatus(w http.ResponseWriter, _ *http.Request) {
	w.Header().Set("Content-Type", "application/json")
	w.Header().Set("Cache-Control", "no-store")
	out := json.NewEncoder(w)
	out.SetIndent("", "  ")
	_ = out.Encode(e.status()) // the client is gone, or has it
}

package compensate

import (
	"context"
	"crypto/tls"
	"encoding/json"
	"errors"
	"fmt"
	"log/slog"
	"net"
	"net/http"
	"net/http/pprof"
	"strings"
	"time"

	"github.com/prometheus/client_golang/prometheus/promhttp"
	"golang.org/x/sync/errgroup"
)

// serve answers on ln until ctx ends and the last request has ended, or has
// taken too long.
func serve(ctx context.Context, ln net.Listener, handler http.Handler, over *tls.Config, log *slog.Logger) error {
	server := &http.Server{
		Handler: handler, ReadHeaderTimeout: 5 * time.Second, ReadTimeout: 30 * time.Second, IdleTimeout: 2 * time.Minute,
		MaxHeaderBytes: 32 << 10, ErrorLog: slog.NewLogLogger(log.Handler(), slog.LevelDebug),
	}
	if over != nil {
		ln = tls.NewListener(ln, over)
	}
	var g errgroup.Group
	g.Go(func() error {
		if err := server.Serve(ln); !errors.Is(err, http.ErrServerClosed) {
			return fmt.Errorf("serve on %s: %w", ln.Addr(), err)
		}
		return nil
	})
	<-ctx.Done()
	end, cancel := context.WithTimeout(context.WithoutCancel(ctx), shutdownPatience)
	defer cancel()
	if server.Shutdown(end) != nil {
		_ = server.Close() // who is still there is cut off
	}
	return g.Wait()
}

func (s *Service) adminHandler() http.Handler {
	mux := http.NewServeMux()
	mux.HandleFunc("GET /healthz", func(w http.ResponseWriter, _ *http.Request) { fmt.Fprintln(w, "alive") })
	mux.HandleFunc("GET /readyz", s.serveReady)
	mux.Handle("GET /metrics", promhttp.HandlerFor(s.cfg.Registry, promhttp.HandlerOpts{}))
	mux.HandleFunc("GET /v1/status", s.serveStatus)
	mux.HandleFunc("GET /debug/pprof/", pprof.Index)
	mux.HandleFunc("GET /debug/pprof/profile", pprof.Profile)
	return mux
}

// reasons say why the service is not ready; none: it is. A channel that is
// stopped is none: the others work, and its own messages wait.
func (s *Service) reasons() []string {
	cancels := s.cancels.lasting()
	s.stateMu.Lock()
	defer s.stateMu.Unlock()
	why := []string{}
	if s.state.draining {
		why = append(why, "draining")
	}
	intake := s.state.intake
	if time.Since(s.state.intakeAt) >= intakeMemory {
		intake = nil
	}
	for _, part := range []struct {
		name string
		err  error
	}{{"database", s.state.database}, {"kafka", s.state.kafka}, {"intake", intake}, {"cancellations", cancels}} {
		if part.err != nil {
			why = append(why, part.name+": "+strings.Join(strings.Fields(part.err.Error()), " ")) // a line, whatever a client library writes
		}
	}
	return why
}

// intakeMemory is how long a fault of the intake counts: longer than until it recurs.
const intakeMemory = 15 * time.Second

// Ready tells whether the service takes in and sends.
func (s *Service) Ready() bool { return len(s.reasons()) == 0 }

func (s *Service) serveReady(w http.ResponseWriter, _ *http.Request) {
	why := s.reasons()
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
	Ready    bool            `json:"ready"`
	Reasons  []string        `json:"reasons"` // why not
	Uptime   float64         `json:"uptime_seconds"`
	Lag      int64           `json:"lag"`      // records of the topic not taken in
	Full     bool            `json:"full"`     // intake pauses: the backlog has reached its bound
	Doubtful int             `json:"doubtful"` // of all instances
	Channels []ChannelStatus `json:"channels"`
}

// ChannelStatus is how one channel is.
type ChannelStatus struct {
	Name    string `json:"name"`
	Breaker string `json:"breaker"` // closed, half-open, open
	Stopped bool   `json:"stopped"` // makes no calls for the moment
	Waiting int    `json:"waiting"` // deliveries without outcome, of all instances
}

func (s *Service) status() Status {
	why := s.reasons()
	s.stateMu.Lock()
	defer s.stateMu.Unlock()
	st := Status{
		Ready: len(why) == 0, Reasons: why, Uptime: time.Since(s.started).Seconds(),
		Lag: s.state.lag, Full: s.state.full, Doubtful: s.state.doubtful,
	}
	for _, l := range s.lanes {
		st.Channels = append(st.Channels, ChannelStatus{l.name, l.breaker.State().String(), l.stoppedFor() > 0, s.state.waiting[l.name]})
	}
	return st
}

func (s *Service) serveStatus(w http.ResponseWriter, _ *http.Request) {
	w.Header().Set("Content-Type", "application/json")
	w.Header().Set("Cache-Control", "no-store")
	out := json.NewEncoder(w)
	out.SetIndent("", "  ")
	_ = out.Encode(s.status()) // the client is gone, or has it
}

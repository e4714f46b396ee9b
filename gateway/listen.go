package gateway

import (
	"context"
	"crypto/tls"
	"errors"
	"fmt"
	"log/slog"
	"net"
	"net/http"
	"time"

	"newswire/gateway/certificate"

	"golang.org/x/sync/errgroup"
)

// Deadlines and bounds of what comes before the handlers.
const (
	headerTimeout = 5 * time.Second // for a request's header, and a TLS handshake
	bodyTimeout   = 10 * time.Second
	answerTimeout = time.Minute // longer than the longest poll
	idleTimeout   = time.Minute // between two requests of a connection
	maxHeader     = 16 << 10
)

// front is the way from the network to the handlers: a listener in layers, and
// the server on top.
type front struct {
	listener net.Listener
	server   *http.Server
	proxied  *proxied          // nil unless proxies tell whose connections they bring
	pair     *certificate.Pair // nil without TLS
}

func (g *Gateway) newFront() (*front, error) {
	pair, err := g.cfg.pair(g.log)
	if err != nil {
		return nil, err
	}
	ln, err := net.Listen("tcp", g.cfg.Listen)
	if err != nil {
		if cause := new(net.OpError); errors.As(err, &cause) {
			err = cause.Err // without the address, which is named already
		}
		return nil, fmt.Errorf("gateway.listen: cannot listen on %s: %w; choose another address or end the process that has it", g.cfg.Listen, err)
	}
	f := &front{listener: ln, pair: pair, server: &http.Server{
		Handler:           g.Handler(),
		ReadHeaderTimeout: headerTimeout,
		IdleTimeout:       idleTimeout,
		MaxHeaderBytes:    maxHeader,
		ErrorLog:          slog.NewLogLogger(g.log.Handler(), slog.LevelDebug),
	}}
	if g.cfg.ProxyProtocol {
		f.proxied = newProxied(f.listener, g.door.trusts, g.log)
		f.listener = f.proxied
		f.server.ConnContext = f.proxied.context
	}
	if pair != nil {
		f.listener = tls.NewListener(f.listener, pair.TLS(g.cfg.MinTLS))
	}
	waiting := newLobby(f.listener, mostConnections(openFiles()), g.door.held, g.deps.m.refusedAs("connections"))
	f.listener = waiting
	f.server.ConnState = func(c net.Conn, state http.ConnState) {
		waiting.note(c, state)
		if f.proxied != nil && (state == http.StateClosed || state == http.StateHijacked) {
			f.proxied.forget(c)
		}
	}
	return f, nil
}

// pair opens the certificate; nil where TLS is not configured.
func (c Config) pair(log *slog.Logger) (*certificate.Pair, error) {
	if c.CertFile == "" {
		return nil, nil
	}
	pair, err := certificate.Open(c.CertFile, c.KeyFile, log)
	if err != nil {
		return nil, fmt.Errorf("gateway.tls: %w", err)
	}
	return pair, nil
}

// serve answers until stop is called; ctx ends what follows the certificate.
func (f *front) serve(ctx context.Context, group *errgroup.Group) {
	if f.proxied != nil {
		group.Go(func() error { f.proxied.run(); return nil })
	}
	if f.pair != nil {
		group.Go(func() error { return f.pair.Run(ctx) })
	}
	group.Go(func() error {
		if err := f.server.Serve(f.listener); !errors.Is(err, http.ErrServerClosed) {
			return fmt.Errorf("serve gateway: %w", err)
		}
		return nil
	})
}

// stop lets answers that were begun end; who still polls then is cut off.
func (f *front) stop() {
	ctx, cancel := context.WithTimeout(context.Background(), closeTimeout)
	defer cancel()
	_ = f.server.Shutdown(ctx)
	_ = f.server.Close()
}

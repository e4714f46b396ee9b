// Package wire makes one request to a provider and knows what may have become
// of it. When no answer comes, it says whether the provider may have the
// request: certainly not, as long as the last byte of it had not been given to
// a connection. What it says about a failure names neither address nor secret.
// It follows no redirect, keeps no cookie, and bounds connections, headers and
// bodies.
package wire

import (
	"bytes"
	"context"
	"crypto/tls"
	"crypto/x509"
	"errors"
	"fmt"
	"io"
	"net"
	"net/http"
	"net/http/httptrace"
	"net/url"
	"os"
	"sync/atomic"
	"time"
)

// Config is how one channel speaks HTTP.
type Config struct {
	Timeout     time.Duration `yaml:"timeout"`     // how long the provider may take for one attempt, once there is a connection to it, and how long getting one may take; 0 means 10s
	Connections int           `yaml:"connections"` // most connections at once to one host; 0 means 16
	CAFile      string        `yaml:"ca_file"`     // PEM file of the authorities to trust instead of the system's; empty: the system's
	Proxy       string        `yaml:"proxy"`       // HTTP proxy on the way out, http://host:port; empty: none, whatever the environment says
}

const (
	defaultTimeout     = 10 * time.Second
	defaultConnections = 16
	mostHeaderBytes    = 64 << 10
	mostBodyBytes      = 64 << 10         // of an answer; who needs more is not a provider
	mostSessions       = 64               // TLS sessions to resume
	idleTimeout        = 20 * time.Second // below what gateways allow, so that they rarely close one under a request
)

// Validate says all that is wrong with c.
func (c Config) Validate() error {
	var faults []error
	if c.Timeout < 0 || c.Timeout > 0 && c.Timeout < 10*time.Millisecond {
		faults = append(faults, fmt.Errorf("http.timeout is %s: set at least 10ms", c.Timeout))
	}
	if c.Connections < 0 {
		faults = append(faults, fmt.Errorf("http.connections is %d: set 1 or more", c.Connections))
	}
	if c.Proxy != "" {
		u, err := url.Parse(c.Proxy)
		if err != nil || u.Scheme != "http" && u.Scheme != "https" || u.Host == "" {
			faults = append(faults, errors.New("http.proxy is not an address: write it as http://host:port"))
		}
	}
	return errors.Join(faults...)
}

// AttemptTimeout is Timeout, or its default.
func (c Config) AttemptTimeout() time.Duration {
	if c.Timeout == 0 {
		return defaultTimeout
	}
	return c.Timeout
}

// Needs is what a channel asks of its connections, beyond what is configured.
type Needs struct {
	HTTP2      bool // speak nothing else
	HTTP1      bool // speak nothing else: net/http repeats no POST there that the provider may have
	PublicOnly bool // readers say where to: only ports and addresses of the public internet, checked as each connection is made
	AnyPort    bool // with PublicOnly: not only 443
	FreshOnly  bool // a connection for each request: no server closes an idle one just as it is used again
}

// Client makes requests; many goroutines may use one.
type Client struct {
	http        *http.Client
	transport   *http.Transport
	timeout     time.Duration // fixed
	connections int           // fixed
}

// New makes a client; c must be valid.
func New(c Config, n Needs) (*Client, error) {
	roots, err := authorities(c.CAFile)
	if err != nil {
		return nil, err
	}
	connections := c.Connections
	if connections == 0 {
		connections = defaultConnections
	}
	dialer := &net.Dialer{Timeout: c.AttemptTimeout()}
	if n.PublicOnly && c.Proxy == "" {
		dialer.Control = guard(n.AnyPort)
	}
	t := &http.Transport{
		DialContext:            dialer.DialContext,
		TLSClientConfig:        &tls.Config{RootCAs: roots, MinVersion: tls.VersionTLS12, ClientSessionCache: tls.NewLRUClientSessionCache(mostSessions)},
		TLSHandshakeTimeout:    c.AttemptTimeout(),
		MaxConnsPerHost:        connections,
		MaxIdleConnsPerHost:    connections,
		MaxIdleConns:           8 * connections,
		IdleConnTimeout:        idleTimeout,
		MaxResponseHeaderBytes: mostHeaderBytes,
		DisableCompression:     true,
		DisableKeepAlives:      n.FreshOnly,
		Protocols:              new(http.Protocols),
	}
	if c.Proxy != "" {
		u, err := url.Parse(c.Proxy)
		if err != nil {
			return nil, errors.New("read http.proxy: not an address: write it as http://host:port")
		}
		t.Proxy = http.ProxyURL(u)
	}
	t.Protocols.SetHTTP1(!n.HTTP2)
	t.Protocols.SetHTTP2(!n.HTTP1)
	// A connection that has died silently is noticed between requests, not by
	// the first of them.
	t.HTTP2 = &http.HTTP2Config{SendPingTimeout: idleTimeout / 2, PingTimeout: c.AttemptTimeout()}
	client := &http.Client{
		Transport:     t,
		CheckRedirect: func(*http.Request, []*http.Request) error { return http.ErrUseLastResponse },
	}
	return &Client{client, t, c.AttemptTimeout(), connections}, nil
}

func authorities(file string) (*x509.CertPool, error) {
	if file == "" {
		return nil, nil // the system's
	}
	pem, err := os.ReadFile(file)
	if err != nil {
		return nil, fmt.Errorf("read http.ca_file: %w", err)
	}
	roots := x509.NewCertPool()
	if !roots.AppendCertsFromPEM(pem) {
		return nil, fmt.Errorf("read http.ca_file %s: it holds no certificate: name a PEM file", file)
	}
	return roots, nil
}

// Timeout is the longest that one attempt may take: to get a connection, and then to get an answer.
func (c *Client) Timeout() time.Duration { return 2 * c.timeout }

// Connections is how many there may be to one host at once.
func (c *Client) Connections() int { return c.connections }

// Close ends the connections that are idle; others end with their requests.
func (c *Client) Close() { c.transport.CloseIdleConnections() }

// Request is what a provider is asked.
type Request struct {
	Method string
	URL    string
	Header http.Header
	Body   []byte
}

// Answer is what a provider answered.
type Answer struct {
	Status int
	Header http.Header
	Body   []byte // at most 64 KiB of it
	Cut    bool   // the rest of the body was lost, or too long
}

// Do makes the request, once. Go's transport repeats one by itself only where
// the provider cannot have it, or where it carries an Idempotency-Key. The
// provider's time begins with the connection: who waits for a free one, or for
// a handshake, must not hand over a request that there is no time left to answer.
func (c *Client) Do(ctx context.Context, r Request) (Answer, *Lost) {
	ctx, cancel := context.WithCancelCause(ctx)
	defer cancel(nil)
	late := time.AfterFunc(c.timeout, func() { cancel(context.DeadlineExceeded) })
	defer late.Stop()
	f := &fate{body: r.Body, sticky: idempotent(r.Header)}
	ctx = httptrace.WithClientTrace(ctx, &httptrace.ClientTrace{GotConn: func(httptrace.GotConnInfo) {
		late.Reset(c.timeout)
		if len(r.Body) == 0 {
			f.given.Store(true)
		}
	}})
	req, err := http.NewRequestWithContext(ctx, r.Method, r.URL, nil)
	if err != nil {
		return Answer{}, &Lost{Reason: "bad_address", Detail: "the address is none"}
	}
	req.Header = r.Header.Clone()
	if req.Header == nil {
		req.Header = make(http.Header)
	}
	if req.Header.Get("User-Agent") == "" {
		req.Header.Set("User-Agent", "newswire")
	}
	if len(r.Body) > 0 {
		req.Body, req.GetBody, req.ContentLength = f.open(), f.again, int64(len(r.Body))
	}
	resp, err := c.http.Do(req)
	if err != nil {
		if cause := context.Cause(ctx); errors.Is(cause, context.DeadlineExceeded) {
			err = cause // a dialer says only that it was cancelled
		}
		return Answer{}, lost(err, f.given.Load())
	}
	defer resp.Body.Close()
	a := Answer{Status: resp.StatusCode, Header: resp.Header}
	a.Body, err = io.ReadAll(io.LimitReader(resp.Body, mostBodyBytes+1))
	if a.Cut = err != nil || len(a.Body) > mostBodyBytes; a.Cut {
		a.Body = a.Body[:min(len(a.Body), mostBodyBytes)]
	}
	return a, nil
}

// idempotent tells whether net/http may repeat the request after the provider
// had it.
func idempotent(h http.Header) bool {
	return h.Get("Idempotency-Key") != "" || h.Get("X-Idempotency-Key") != ""
}

// fate knows whether a request may have reached the provider: its last byte
// was given to a connection. The transport reads the body only to write it, and
// no byte is on the wire before it was read. This is stricter than
// httptrace.WroteRequest, which may be told of a long request after its last
// byte has left.
type fate struct {
	body   []byte      // fixed
	sticky bool        // fixed; a repeat does not undo that the first may have arrived
	given  atomic.Bool // the last byte was read
}

func (f *fate) open() io.ReadCloser {
	return &reading{fate: f, r: bytes.NewReader(f.body)}
}

// again is asked for by the transport when it repeats a request of which a
// provider has nothing: not a byte was written, or an HTTP/2 server said that
// it did not process it.
func (f *fate) again() (io.ReadCloser, error) {
	if !f.sticky {
		f.given.Store(false)
	}
	return f.open(), nil
}

// reading is the body of one try. It has no WriteTo, which would pass over
// Read.
type reading struct {
	fate *fate
	r    *bytes.Reader
}

func (b *reading) Read(p []byte) (int, error) {
	n, err := b.r.Read(p)
	if b.r.Len() == 0 {
		b.fate.given.Store(true)
	}
	return n, err
}

func (b *reading) Close() error { return nil }

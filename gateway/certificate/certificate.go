// Package certificate serves TLS with a certificate that may be replaced while
// it is in use. It promises that connections always find a pair that fits: one
// that does not leaves the pair before it in force, and is told.
package certificate

import (
	"bytes"
	"context"
	"crypto/tls"
	"fmt"
	"log/slog"
	"os"
	"sync/atomic"
	"time"
)

// lookEvery is how often the files are read again. Their content counts, so
// every way of replacing them is seen: written over, renamed, or behind the
// symbolic links that Kubernetes turns to another directory.
const lookEvery = 2 * time.Second

// Pair is a certificate, with those that vouch for it, and its key.
type Pair struct {
	certFile, keyFile string
	log               *slog.Logger
	current           atomic.Pointer[tls.Certificate]

	now  content // owned by Run: what current was made of
	odd  content // owned by Run: what was found last and does not fit
	told bool    // owned by Run: odd was logged
}

// content is what the two files hold.
type content struct{ cert, key []byte }

func (c content) equal(other content) bool {
	return bytes.Equal(c.cert, other.cert) && bytes.Equal(c.key, other.key)
}

// Open reads a pair. It starts nothing.
func Open(certFile, keyFile string, log *slog.Logger) (*Pair, error) {
	p := &Pair{certFile: certFile, keyFile: keyFile, log: log}
	found, err := p.read()
	if err != nil {
		return nil, err
	}
	pair, err := tls.X509KeyPair(found.cert, found.key)
	if err != nil {
		return nil, fmt.Errorf("%s and %s: %w", certFile, keyFile, err)
	}
	p.now = found
	p.current.Store(&pair)
	return p, nil
}

func (p *Pair) read() (c content, err error) {
	if c.cert, err = os.ReadFile(p.certFile); err == nil {
		c.key, err = os.ReadFile(p.keyFile)
	}
	return c, err
}

// TLS is a server's configuration that uses the pair as it is at each
// handshake. HTTP/2 is not offered: WebSocket has no use for it.
func (p *Pair) TLS(least uint16) *tls.Config {
	return &tls.Config{
		MinVersion: least,
		NextProtos: []string{"http/1.1"},
		GetCertificate: func(*tls.ClientHelloInfo) (*tls.Certificate, error) {
			return p.current.Load(), nil
		},
	}
}

// Run follows the files until ctx ends. It returns nil.
func (p *Pair) Run(ctx context.Context) error {
	look := time.NewTicker(lookEvery)
	defer look.Stop()
	for {
		select {
		case <-look.C:
			p.look()
		case <-ctx.Done():
			return nil
		}
	}
}

// look takes what the files hold by now. Between the two of them one may be new
// and the other old, so what does not fit is told only when it stays so.
func (p *Pair) look() {
	found, err := p.read()
	switch {
	case err != nil || found.equal(p.now):
		return // away for the moment between two steps of a replacement, or as before
	case found.equal(p.odd) && p.told:
		return
	}
	pair, err := tls.X509KeyPair(found.cert, found.key)
	if err != nil {
		p.told = found.equal(p.odd)
		p.odd = found
		if p.told {
			p.log.Error("the new certificate cannot be used; the one before stays in force",
				"cert_file", p.certFile, "key_file", p.keyFile, "err", err, "expires", p.current.Load().Leaf.NotAfter)
		}
		return
	}
	p.now, p.odd, p.told = found, content{}, false
	p.current.Store(&pair)
	p.log.Info("certificate read again", "cert_file", p.certFile, "expires", pair.Leaf.NotAfter)
}

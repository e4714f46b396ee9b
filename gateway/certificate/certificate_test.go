package certificate

import (
	"bytes"
	"context"
	"crypto/ecdsa"
	"crypto/elliptic"
	"crypto/rand"
	"crypto/tls"
	"crypto/x509"
	"crypto/x509/pkix"
	"encoding/pem"
	"errors"
	"fmt"
	"log/slog"
	"math/big"
	"net"
	"os"
	"path/filepath"
	"strings"
	"testing"
	"testing/synctest"
	"time"

	"go.uber.org/goleak"
)

func TestMain(m *testing.M) { goleak.VerifyTestMain(m) }

// files is a pair as it lies on the disk.
type files struct{ cert, key []byte }

// issue makes a pair with a name of its own.
func issue(t testing.TB, name string) files {
	t.Helper()
	key, err := ecdsa.GenerateKey(elliptic.P256(), rand.Reader)
	if err != nil {
		t.Fatal(err)
	}
	template := &x509.Certificate{
		SerialNumber: big.NewInt(1), Subject: pkix.Name{CommonName: name}, DNSNames: []string{name},
		NotBefore: time.Now().Add(-time.Hour), NotAfter: time.Now().Add(time.Hour),
	}
	cert, err := x509.CreateCertificate(rand.Reader, template, template, &key.PublicKey, key)
	if err != nil {
		t.Fatal(err)
	}
	der, err := x509.MarshalPKCS8PrivateKey(key)
	if err != nil {
		t.Fatal(err)
	}
	return files{
		pem.EncodeToMemory(&pem.Block{Type: "CERTIFICATE", Bytes: cert}),
		pem.EncodeToMemory(&pem.Block{Type: "PRIVATE KEY", Bytes: der}),
	}
}

// served gives the name on the certificate that a handshake brings.
func served(t testing.TB, p *Pair) string {
	t.Helper()
	client, server := net.Pipe()
	defer client.Close()
	done := make(chan error, 1)
	go func() {
		defer server.Close()
		done <- tls.Server(server, p.TLS(tls.VersionTLS12)).Handshake()
	}()
	var name string
	conn := tls.Client(client, &tls.Config{InsecureSkipVerify: true, VerifyConnection: func(s tls.ConnectionState) error {
		name = s.PeerCertificates[0].Subject.CommonName
		return nil
	}})
	if err := errors.Join(conn.Handshake(), <-done); err != nil {
		t.Errorf("handshake: %v", err)
	}
	return name
}

func TestAReplacedCertificateIsServed(t *testing.T) {
	both := func(dir string, f files) error {
		return errors.Join(os.WriteFile(filepath.Join(dir, "tls.crt"), f.cert, 0o600), os.WriteFile(filepath.Join(dir, "tls.key"), f.key, 0o600))
	}
	for name, replace := range map[string]func(dir string, f files) error{
		"written over": both,
		"renamed": func(dir string, f files) error {
			next := filepath.Join(dir, "next")
			return errors.Join(os.MkdirAll(next, 0o700), both(next, f),
				os.Rename(filepath.Join(next, "tls.crt"), filepath.Join(dir, "tls.crt")), os.Rename(filepath.Join(next, "tls.key"), filepath.Join(dir, "tls.key")))
		},
		"as Kubernetes does": func(dir string, f files) error { // ..data is a link to the directory of the moment
			next, err := os.MkdirTemp(dir, "..version")
			for _, file := range []string{"tls.crt", "tls.key"} {
				if link := os.Symlink(filepath.Join("..data", file), filepath.Join(dir, file)); !errors.Is(link, os.ErrExist) {
					err = errors.Join(err, link)
				}
			}
			return errors.Join(err, both(next, f), os.Symlink(next, filepath.Join(dir, "..next")), os.Rename(filepath.Join(dir, "..next"), filepath.Join(dir, "..data")))
		},
	} {
		t.Run(name, func(t *testing.T) {
			dir := t.TempDir()
			replaced := func(f files) {
				t.Helper()
				if err := replace(dir, f); err != nil {
					t.Fatal(err)
				}
			}
			first := issue(t, "first")
			replaced(first)
			synctest.Test(t, func(t *testing.T) {
				var log bytes.Buffer
				p, err := Open(filepath.Join(dir, "tls.crt"), filepath.Join(dir, "tls.key"), slog.New(slog.NewTextHandler(&log, nil)))
				if err != nil {
					t.Fatal(err)
				}
				ctx, stop := context.WithCancel(t.Context())
				done := make(chan struct{})
				go func() { defer close(done); _ = p.Run(ctx) }()
				for n := range 3 {
					want := fmt.Sprint("next", n)
					replaced(issue(t, want))
					time.Sleep(2 * lookEvery)
					if got := served(t, p); got != want {
						t.Errorf("served is the certificate of %q, want %q", got, want)
					}
				}
				for _, wrong := range []files{{issue(t, "x").cert, issue(t, "y").key}, {first.cert, nil}, {[]byte("half a"), first.key}} {
					replaced(wrong)
					time.Sleep(10 * lookEvery)
					if got := served(t, p); got != "next2" {
						t.Errorf("behind a wrong pair served is %q, want next2", got)
					}
				}
				replaced(first)
				time.Sleep(2 * lookEvery)
				if got := served(t, p); got != "first" {
					t.Errorf("served is %q, want first", got)
				}
				stop()
				<-done
				if n := strings.Count(log.String(), "cannot be used"); n != 3 {
					t.Errorf("three wrong pairs were told %d times:\n%s", n, &log)
				}
				if strings.Contains(log.String(), "PRIVATE") {
					t.Error("the log has a key")
				}
			})
		})
	}
}

// Files are replaced one after the other; what lies between is no fault.
func TestHalfAReplacementIsNotToldAtOnce(t *testing.T) {
	dir := t.TempDir()
	cert, key := filepath.Join(dir, "c"), filepath.Join(dir, "k")
	write := func(path string, text []byte) {
		t.Helper()
		if err := os.WriteFile(path, text, 0o600); err != nil {
			t.Fatal(err)
		}
	}
	first, next := issue(t, "first"), issue(t, "next")
	write(cert, first.cert)
	write(key, first.key)
	var log bytes.Buffer
	p, err := Open(cert, key, slog.New(slog.NewTextHandler(&log, nil)))
	if err != nil {
		t.Fatal(err)
	}
	write(cert, next.cert)
	p.look()
	if err := os.Remove(key); err != nil {
		t.Fatal(err)
	}
	p.look()
	write(key, next.key)
	p.look()
	if got := served(t, p); got != "next" || strings.Contains(log.String(), "cannot") {
		t.Errorf("served is %q; logged:\n%s", got, &log)
	}
	if _, err := Open(cert, filepath.Join(dir, "nothing"), slog.Default()); err == nil {
		t.Error("a pair without a key is opened")
	}
}

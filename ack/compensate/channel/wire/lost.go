package wire

import (
	"context"
	"crypto/tls"
	"errors"
	"io"
	"net"
	"strings"
	"syscall"

	"code.dny.dev/ssrf"

	"newswire/ack/compensate/channel"
)

// Lost is a request without an answer.
type Lost struct {
	Arrived bool   // the provider may have it
	Reason  string // one word: timeout, refused, dns, tls, reset …
	Detail  string // for people; no address in it
}

// Result is what to say to the service: in doubt, if the provider may have the
// request. The fault counts for everybody; a channel whose addresses readers
// choose takes that back.
func (l *Lost) Result() channel.Result {
	r := channel.Result{Outcome: channel.Temporary, Reason: l.Reason, Detail: l.Detail, Everybody: true}
	switch {
	case l.Arrived:
		r.Outcome = channel.Doubtful
	case l.Reason == forbiddenAddress || l.Reason == "bad_address":
		r.Outcome, r.Everybody = channel.Permanent, false
	case l.Reason == "cancelled":
		r.Everybody = false // the service itself is ending
	}
	return r
}

const forbiddenAddress = "forbidden_address"

// lost puts an error of net/http, which names the whole URL, into words that
// anybody may read.
func lost(err error, arrived bool) *Lost {
	reason, detail := explain(err)
	if arrived && reason == "unreachable" {
		reason, detail = "no_answer", "the connection ended, or what came was no HTTP"
	}
	return &Lost{Arrived: arrived, Reason: reason, Detail: clip(detail, mostDetail)}
}

func explain(err error) (reason, detail string) {
	var (
		dns     *net.DNSError
		cert    *tls.CertificateVerificationError
		record  tls.RecordHeaderError
		alert   tls.AlertError
		timeout net.Error
	)
	switch {
	case errors.Is(err, ssrf.ErrProhibitedIP), errors.Is(err, ssrf.ErrProhibitedPort), errors.Is(err, ssrf.ErrProhibitedNetwork):
		return forbiddenAddress, "the address does not lead into the public internet"
	case errors.Is(err, context.Canceled):
		return "cancelled", "the service is ending"
	case errors.As(err, &dns) && !dns.IsTimeout:
		return "dns", "resolve the provider's name: " + dns.Err
	case errors.As(err, &cert):
		return "tls", "the provider's certificate: " + strings.TrimPrefix(cert.Err.Error(), "x509: ")
	case errors.As(err, &record), errors.As(err, &alert):
		return "tls", "the provider does not speak TLS as we do"
	case errors.Is(err, context.DeadlineExceeded), errors.As(err, &timeout) && timeout.Timeout():
		return "timeout", "no answer in time"
	case errors.Is(err, syscall.ECONNREFUSED):
		return "refused", "connection refused"
	case errors.Is(err, syscall.ECONNRESET), errors.Is(err, net.ErrClosed), errors.Is(err, syscall.EPIPE), errors.Is(err, io.EOF), errors.Is(err, io.ErrUnexpectedEOF):
		return "reset", "the connection ended"
	default:
		return "unreachable", "no connection"
	}
}

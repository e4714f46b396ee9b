package doctor

import (
	"bytes"
	"encoding/binary"
	"io"

	"github.com/jackc/pgx/v5/pgproto3"
)

// login watches how a connection proves who it is: the server does not tell
// that in SQL before version 16, and then not whether channels were bound.
type login struct {
	from, to prefix // of the bytes that the server and we sent
}

// frontend is a pgconn.BuildFrontendFunc. A connection that tries several
// addresses, or again without TLS, builds one each time.
func (l *login) frontend(r io.Reader, w io.Writer) *pgproto3.Frontend {
	l.from, l.to = prefix{}, prefix{}
	return pgproto3.NewFrontend(io.TeeReader(r, &l.from), io.MultiWriter(w, &l.to))
}

// prefix keeps the first bytes written to it: the login comes first.
type prefix struct{ kept bytes.Buffer }

const prefixMost = 4 << 10

func (p *prefix) Write(b []byte) (int, error) {
	if room := prefixMost - p.kept.Len(); room > 0 {
		p.kept.Write(b[:min(room, len(b))])
	}
	return len(b), nil
}

// The ways to log in that are told apart.
const (
	loginNone      = "none" // trust, peer, or a client certificate
	loginCleartext = "password"
	loginMD5       = "md5"
	loginSCRAM     = "scram-sha-256"
	loginBound     = "scram-sha-256-plus" // with the channel bound
	loginOther     = "other"
)

// Authentication requests of the protocol, by their numbers.
const (
	authOK        = 0
	authCleartext = 3
	authMD5       = 5
	authSASL      = 10
)

// method is what the server asked for: its first message that is a request to
// authenticate, R, then length and number.
func (l *login) method() string {
	const header = 9
	b := l.from.kept.Bytes()
	if len(b) < header || b[0] != 'R' {
		return loginOther
	}
	switch binary.BigEndian.Uint32(b[5:header]) {
	case authOK:
		return loginNone
	case authCleartext:
		return loginCleartext
	case authMD5:
		return loginMD5
	case authSASL:
		if bytes.Contains(l.to.kept.Bytes(), []byte("SCRAM-SHA-256-PLUS\x00")) {
			return loginBound
		}
		if bytes.Contains(l.to.kept.Bytes(), []byte("SCRAM-SHA-256\x00")) {
			return loginSCRAM
		}
	}
	return loginOther
}

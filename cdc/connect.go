package cdc

import (
	"bufio"
	"context"
	"errors"
	"fmt"
	"maps"
	"net"
	"slices"
	"strings"
	"time"

	"github.com/jackc/pgx/v5"
	"github.com/jackc/pgx/v5/pgconn"

	"newswire/cdc/pgjson"
)

// Codes of PostgreSQL errors that the listener tells apart.
const (
	codeInvalidPassword       = "28P01"
	codeInvalidAuthorization  = "28000"
	codeInsufficientPrivilege = "42501"
	codeUndefinedObject       = "42704"
	codeUnknownDatabase       = "3D000"
	codeTooManyConnections    = "53300"
	codeObjectInUse           = "55006"
	codeNotReady              = "55000"
	codeReadOnly              = "25006"
	codeUndefinedFile         = "58P01"
)

// connectTimeout bounds a connection attempt that the DSN does not bound: long
// enough for a server under load, short enough to try another host soon.
const connectTimeout = 10 * time.Second

func parseDSN(dsn string) (*pgx.ConnConfig, error) {
	c, err := pgx.ParseConfig(dsn)
	if err != nil {
		return nil, errors.New("postgres.dsn cannot be read")
	}
	if c.ConnectTimeout == 0 {
		c.ConnectTimeout = connectTimeout
	}
	if c.RuntimeParams["application_name"] == "" {
		c.RuntimeParams["application_name"] = "newswire"
	}
	return c, nil
}

// connect opens a normal connection. A failure that another try may heal
// wraps ErrUnreachable.
func connect(ctx context.Context, dsn string) (*pgx.Conn, error) {
	c, err := parseDSN(dsn)
	if err != nil {
		return nil, err
	}
	// Simple queries need no prepared statements, so a pooler may stand between.
	c.DefaultQueryExecMode = pgx.QueryExecModeExec
	conn, err := pgx.ConnectConfig(ctx, c)
	if err != nil {
		return nil, connectError(c, err)
	}
	return conn, nil
}

// connectReplication opens a connection that can follow a slot. Values come as
// pgjson reads them, whatever role, database or server have as their default.
// drained, unless it is nil, is called when all that was read is taken and the
// socket is about to be read again.
func connectReplication(ctx context.Context, dsn string, drained func()) (*pgconn.PgConn, error) {
	params := maps.Clone(pgjson.Settings)
	params["replication"] = "database"
	params["client_min_messages"] = "warning" // some tell of rows that are left out
	return connectThrough(ctx, dsn, params, drained)
}

// connectAs opens a connection with run-time parameters of its own, which a
// pooler may refuse.
func connectAs(ctx context.Context, dsn string, params map[string]string) (*pgconn.PgConn, error) {
	return connectThrough(ctx, dsn, params, nil)
}

func connectThrough(ctx context.Context, dsn string, params map[string]string, drained func()) (*pgconn.PgConn, error) {
	c, err := parseDSN(dsn)
	if err != nil {
		return nil, err
	}
	maps.Copy(c.RuntimeParams, params)
	dial := c.DialFunc
	c.DialFunc = func(ctx context.Context, network, address string) (net.Conn, error) {
		conn, err := dial(ctx, network, address)
		if err != nil {
			return nil, err
		}
		return &readAhead{Conn: conn, buffer: bufio.NewReaderSize(conn, readAheadBytes), drained: drained}, nil
	}
	conn, err := pgconn.ConnectConfig(ctx, &c.Config)
	if err != nil {
		return nil, connectError(c, err)
	}
	return conn, nil
}

// readAheadBytes is what is read from a stream at once where there is so much:
// eight times pgx's own buffer, and as many system calls less.
const readAheadBytes = 64 << 10

// readAhead is a connection that is read through a large buffer.
type readAhead struct {
	net.Conn
	buffer  *bufio.Reader // owned by the one who reads
	drained func()        // nil for none
}

func (c *readAhead) Read(b []byte) (int, error) {
	if c.drained != nil && c.buffer.Buffered() == 0 {
		c.drained()
	}
	return c.buffer.Read(b)
}

// connectError tells a server that refuses us from one that does not answer.
func connectError(c *pgx.ConnConfig, err error) error {
	var refusal *pgconn.PgError
	if !errors.As(err, &refusal) {
		return fmt.Errorf("%w: %w; start it, open the way to it, or correct postgres.dsn", ErrUnreachable, oneLine{err})
	}
	said := &loginError{refusal}
	switch refusal.Code {
	case codeInvalidPassword, codeInvalidAuthorization:
		return fmt.Errorf("PostgreSQL refuses user %q (%s): %w; check user and password in postgres.dsn, and pg_hba.conf", c.User, refusal.Code, said)
	case codeUnknownDatabase:
		return fmt.Errorf("PostgreSQL refuses the login: %w; correct postgres.dsn", said)
	case codeInsufficientPrivilege:
		return fmt.Errorf("user %q may not connect so: %w; run `newswire setup --apply`", c.User, said)
	case codeTooManyConnections:
		return fmt.Errorf("%w: %w; raise that limit, or end connections that nobody needs", ErrUnreachable, said)
	}
	return fmt.Errorf("%w: %w (%s); wait until it takes connections", ErrUnreachable, said, refusal.Code) // starting up, shutting down
}

// oneLine prints an error that lists every attempt as one line, and what each
// met once: one without TLS often meets what the one with it has met.
type oneLine struct{ error }

func (e oneLine) Error() string {
	var met []string
	for line := range strings.Lines(e.error.Error()) {
		if line = strings.TrimSpace(line); !slices.Contains(met, line) {
			met = append(met, line)
		}
	}
	return strings.Join(met, " ")
}

func (e oneLine) Unwrap() error { return e.error }

// loginError shortens a refusal to the server's own sentence.
type loginError struct{ refusal *pgconn.PgError }

func (e *loginError) Error() string { return e.refusal.Message }
func (e *loginError) Unwrap() error { return e.refusal }

// pgCode is the code of the PostgreSQL error in err, "" when there is none.
func pgCode(err error) string {
	var e *pgconn.PgError
	if errors.As(err, &e) {
		return e.Code
	}
	return ""
}

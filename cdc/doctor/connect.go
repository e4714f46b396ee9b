package doctor

import (
	"context"
	"crypto/tls"
	"errors"
	"fmt"
	"maps"
	"net"
	"strings"
	"time"

	"github.com/jackc/pglogrepl"
	"github.com/jackc/pgx/v5"
	"github.com/jackc/pgx/v5/pgconn"
)

// Codes of PostgreSQL errors that are told apart.
const (
	codeInvalidPassword       = "28P01"
	codeInvalidAuthorization  = "28000"
	codeInsufficientPrivilege = "42501"
	codeUndefinedObject       = "42704"
	codeUnknownDatabase       = "3D000"
	codeTooManyConnections    = "53300"
	codeQueryCanceled         = "57014"
)

const setupRemedy = "run `newswire setup --apply`"

// connect opens the connection that the examination runs on, and tells how it
// came about.
func (e *examination) connect(ctx context.Context) bool {
	c, err := pgx.ParseConfig(e.cfg.DSN)
	if err != nil { // never pgx's text: it may hold the password
		e.fatal("reach", "postgres.dsn", "write postgres://user@host/database or key=value pairs", "the connection string cannot be read")
		return false
	}
	if c.ConnectTimeout == 0 {
		c.ConnectTimeout = connectTimeout
	}
	if c.RuntimeParams["application_name"] == "" {
		c.RuntimeParams["application_name"] = "newswire doctor"
	}
	c.DefaultQueryExecMode = pgx.QueryExecModeExec // prepares nothing, so a pooler may stand between
	watched := new(login)
	c.BuildFrontend = watched.frontend
	begun := time.Now()
	e.conn, err = pgx.ConnectConfig(ctx, c)
	if err != nil {
		e.unreached(c, err)
		return false
	}
	e.user = c.User
	e.ok("reach", address(c), "PostgreSQL answers user %q in database %q after %.0f ms", c.User, c.Database, time.Since(begun).Seconds()*1000)
	e.passwordMethod(ctx, c, watched.method())
	e.tls(c)
	return true
}

// unreached tells a server that does not answer from one that refuses us.
func (e *examination) unreached(c *pgx.ConnConfig, err error) {
	var refusal *pgconn.PgError
	if !errors.As(err, &refusal) {
		e.fatal("reach", address(c), "check postgres.dsn, that PostgreSQL runs, and what stands between", "PostgreSQL does not answer: %s", oneLine(err))
		return
	}
	switch refusal.Code {
	case codeInvalidPassword, codeInvalidAuthorization:
		e.fatal("login", c.User, "check user and password in postgres.dsn, and pg_hba.conf; the role is made by `newswire setup --apply`",
			"PostgreSQL refuses the login: %s", refusal.Message)
	case codeUnknownDatabase:
		e.fatal("login", c.Database, "correct postgres.dsn", "PostgreSQL refuses the login: %s", refusal.Message)
	case codeInsufficientPrivilege:
		e.fatal("login", c.User, setupRemedy, "PostgreSQL refuses the login: %s", refusal.Message)
	default:
		e.fatal("reach", address(c), "wait for PostgreSQL, or raise max_connections", "PostgreSQL takes no connection: %s", refusal.Message)
	}
}

// replication opens the kind of connection that the engine streams over.
func (e *examination) replication(ctx context.Context) error {
	c, err := pgconn.ParseConfig(e.cfg.DSN)
	if err != nil {
		return err
	}
	c.ConnectTimeout = e.conn.Config().ConnectTimeout
	c.RuntimeParams = maps.Clone(e.conn.Config().RuntimeParams)
	c.RuntimeParams["replication"] = "database"
	conn, err := pgconn.ConnectConfig(ctx, c)
	if err == nil {
		defer func() { _ = conn.Close(context.WithoutCancel(ctx)) }() // the server ends the session either way
		var system pglogrepl.IdentifySystemResult
		if system, err = pglogrepl.IdentifySystem(ctx, conn); err == nil {
			e.replicates = true
			e.ok("login", e.user, "the role may replicate; system %s, timeline %d", system.SystemID, system.Timeline)
			return e.pooler(ctx)
		}
	}
	var refusal *pgconn.PgError
	errors.As(err, &refusal)
	switch {
	case refusal != nil && refusal.Code == codeInsufficientPrivilege:
		e.fatal("login", e.user, fmt.Sprintf("%s, or ALTER ROLE %s REPLICATION", setupRemedy, pgx.Identifier{e.user}.Sanitize()),
			"the role may not replicate")
	case refusal != nil && refusal.Code == codeTooManyConnections:
		if !e.toldFatal("wal-senders") {
			e.fatal("wal-senders", "max_wal_senders", "raise max_wal_senders and restart PostgreSQL", "PostgreSQL has no replication connection free")
		}
	case refusal != nil && refusal.Code == codeInvalidAuthorization:
		e.fatal("login", e.user, "let pg_hba.conf admit it", "PostgreSQL refuses the replication connection: %s", refusal.Message)
	default:
		e.fatal("pooler", address(e.conn.Config()), "give postgres.dsn the address of PostgreSQL itself",
			"an ordinary connection is taken, but not one for replication, as by a connection pooler in between: %s", oneLine(err))
	}
	return nil
}

// pooler compares the process that serves us with the one that was promised at
// the login: a pooler promises one of its own.
func (e *examination) pooler(ctx context.Context) error {
	var pid uint32
	if err := e.conn.QueryRow(ctx, "SELECT pg_catalog.pg_backend_pid()").Scan(&pid); err != nil {
		return err
	}
	object := address(e.conn.Config())
	if pid == e.conn.PgConn().PID() {
		e.ok("pooler", object, "nothing stands between us and PostgreSQL")
		return nil
	}
	e.warn("pooler", object, "give postgres.dsn the address of PostgreSQL itself",
		"a connection pooler stands between us and PostgreSQL; a stream that it cuts or moves is a stream that starts again")
	return nil
}

// passwordMethod judges how the connection proved who it is.
func (e *examination) passwordMethod(ctx context.Context, c *pgx.ConnConfig, method string) {
	const check, scram = "password-method", "set password_encryption = 'scram-sha-256', set the password anew, and write scram-sha-256 in pg_hba.conf"
	_, encrypted := e.conn.PgConn().Conn().(*tls.Conn)
	switch {
	case method == loginBound:
		e.ok(check, c.User, "the password is proved by SCRAM, bound to the encrypted channel")
	case method == loginSCRAM:
		e.ok(check, c.User, "the password is proved by SCRAM")
	case method == loginMD5:
		e.warn(check, c.User, scram, "the password is proved by md5, which who has read pg_authid can do without it")
	case method == loginCleartext && encrypted:
		e.warn(check, c.User, scram, "the password itself is sent to the server, inside TLS")
	case method == loginCleartext:
		e.warn(check, c.User, scram, "the password itself is sent over the network, in the clear")
	case method == loginOther:
		e.ok(check, c.User, "the login is none by password")
	case e.trusted(ctx):
		e.warn(check, c.User, "write scram-sha-256, or peer for a socket, in pg_hba.conf", "whoever reaches the server may log in as this role (trust)")
	case local(e.conn):
		e.ok(check, c.User, "no password was asked for on the socket (peer, or trust)")
	case c.TLSConfig != nil && (len(c.TLSConfig.Certificates) > 0 || c.TLSConfig.GetClientCertificate != nil):
		e.ok(check, c.User, "the login is by certificate")
	default:
		e.warn(check, c.User, "write scram-sha-256 in pg_hba.conf", "no password was asked for over the network (trust)")
	}
}

// trusted asks the server whether it knows who we are: from version 16 on it
// tells, and knows nobody under trust.
func (e *examination) trusted(ctx context.Context) bool {
	var trusted bool
	err := e.conn.QueryRow(ctx, "SELECT system_user IS NULL").Scan(&trusted)
	return err == nil && trusted
}

// tls judges what the connection string demands: what it tolerates is what an
// attacker in between will offer.
func (e *examination) tls(c *pgx.ConnConfig) {
	const check = "tls"
	object := address(c)
	if local(e.conn) {
		e.ok(check, object, "the connection does not leave this machine")
		return
	}
	mode := sslMode(&c.Config)
	if mode == "verify-full" {
		e.ok(check, object, "the connection is encrypted, and the server's name is checked")
		return
	}
	state := "this connection is encrypted, but nobody has checked whose server it is"
	if _, encrypted := e.conn.PgConn().Conn().(*tls.Conn); !encrypted {
		state = "this connection is not encrypted, so rows and login can be read on the way"
	}
	e.warn(check, object, "write sslmode=verify-full in postgres.dsn, with sslrootcert where the machine does not know the issuer", "sslmode is %s: %s", mode, state)
}

// sslMode reads back what pgx has made of sslmode.
func sslMode(c *pgconn.Config) string {
	encrypted, plain := c.TLSConfig != nil, c.TLSConfig == nil
	for _, f := range c.Fallbacks {
		encrypted = encrypted || f.TLSConfig != nil
		plain = plain || f.TLSConfig == nil && !strings.HasPrefix(f.Host, "/")
	}
	switch {
	case !encrypted:
		return "disable"
	case c.TLSConfig == nil:
		return "allow"
	case plain:
		return "prefer"
	case c.TLSConfig.InsecureSkipVerify && c.TLSConfig.VerifyPeerCertificate == nil:
		return "require"
	case c.TLSConfig.InsecureSkipVerify:
		return "verify-ca"
	}
	return "verify-full"
}

// local tells a connection that does not leave this machine.
func local(conn *pgx.Conn) bool {
	switch a := conn.PgConn().Conn().RemoteAddr().(type) {
	case *net.UnixAddr:
		return true
	case *net.TCPAddr:
		return a.IP.IsLoopback()
	}
	return false
}

// address is the server as the connection string names it.
func address(c *pgx.ConnConfig) string {
	if strings.HasPrefix(c.Host, "/") {
		return c.Host
	}
	return net.JoinHostPort(c.Host, fmt.Sprint(c.Port))
}

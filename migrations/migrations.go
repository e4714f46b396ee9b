// Package migrations holds the tables that Newswire brings along, as versioned
// SQL: a folder for each database they belong to. Apply promises that a
// database has all of a folder's files, each run once, whole and in order,
// however many programs apply them at once.
package migrations

import (
	"context"
	"embed"
	"errors"
	"fmt"
	"io/fs"
	"path"
	"slices"
	"strings"

	"github.com/jackc/pgx/v5"
	"github.com/jackc/pgx/v5/pgconn"
	"github.com/jackc/pgx/v5/stdlib"
	"github.com/pressly/goose/v3"
	"github.com/pressly/goose/v3/lock"
)

//go:embed cms/*.sql compensate/*.sql
var files embed.FS

// Set is what one database shall have.
type Set struct {
	Name   string // of the folder
	Schema string // keeps the table of applied versions apart from the tables of others
	Files  fs.FS
}

// CMS is the database of the demo's editors.
func CMS() Set { return folder("cms", "newswire_migrations") }

// Compensate is the database of the compensation service: devices and receipts.
func Compensate() Set { return folder("compensate", "newswire_compensate") }

func folder(name, schema string) Set {
	sub, err := fs.Sub(files, name)
	if err != nil {
		panic("migrations: " + err.Error()) // the name is one of this file
	}
	return Set{Name: name, Schema: schema, Files: sub}
}

// Latest is the version that a database with all files has.
func (s Set) Latest() int64 {
	names, _ := fs.Glob(s.Files, "*.sql") // the pattern is right
	latest := int64(0)
	for _, name := range names {
		if v, err := goose.NumericComponent(name); err == nil {
			latest = max(latest, v)
		}
	}
	return latest
}

// versions is the table of applied versions.
func (s Set) versions() string { return s.Schema + ".versions" }

// Applied is the version that conn's database has; 0 without any.
func (s Set) Applied(ctx context.Context, conn *pgx.Conn) (version int64, err error) {
	err = conn.QueryRow(ctx, "SELECT COALESCE(max(version_id), 0) FROM "+s.versions()).Scan(&version)
	var pg *pgconn.PgError
	if errors.As(err, &pg) && (pg.Code == "42P01" || pg.Code == "3F000") { // no such table, no such schema
		return 0, nil
	}
	if err != nil {
		return 0, fmt.Errorf("read %s: %w", s.versions(), err)
	}
	return version, nil
}

// NotNewer refuses a database that a newer program has changed.
func (s Set) NotNewer(version int64) error {
	if version <= s.Latest() {
		return nil
	}
	return fmt.Errorf("the tables of %s are at version %d, this newswire knows %d: use the newer newswire that made them", s.Schema, version, s.Latest())
}

// SQL is what Apply runs in an empty database, for a DBA to read.
func (s Set) SQL() (string, error) {
	names, err := fs.Glob(s.Files, "*.sql")
	if err != nil {
		return "", fmt.Errorf("list migrations: %w", err)
	}
	slices.Sort(names)
	var text strings.Builder
	fmt.Fprintf(&text, "CREATE SCHEMA IF NOT EXISTS %s;\n", s.Schema)
	for _, name := range names {
		file, err := fs.ReadFile(s.Files, name)
		if err != nil {
			return "", fmt.Errorf("read migration %s: %w", name, err)
		}
		fmt.Fprintf(&text, "\n-- %s\n%s", name, file)
	}
	return text.String(), nil
}

// lockKey keeps two programs from applying at once: "newswire" in ASCII.
const lockKey = 0x6e65777377697265

// Waiting for another program that applies, in seconds and times.
const lockPeriod, lockPatience = 1, 300

// Apply runs those files that the database has not seen, each in a transaction
// of its own, and gives their names. A file that is refused leaves nothing
// behind, and those before it stand.
func Apply(ctx context.Context, dsn string, s Set) (ran []string, err error) {
	cfg, err := pgx.ParseConfig(dsn)
	if err != nil {
		return nil, fmt.Errorf("read connection string: %w", err)
	}
	if err := s.prepare(ctx, cfg); err != nil {
		return nil, err
	}
	locker, err := lock.NewPostgresSessionLocker(lock.WithLockID(lockKey), lock.WithLockTimeout(lockPeriod, lockPatience))
	if err != nil {
		return nil, fmt.Errorf("prepare lock of migrations: %w", err)
	}
	db := stdlib.OpenDB(*cfg)
	defer db.Close()
	steps, err := goose.NewProvider(goose.DialectPostgres, db, s.Files,
		goose.WithTableName(s.versions()), goose.WithSessionLocker(locker), goose.WithDisableGlobalRegistry(true))
	if err != nil {
		return nil, fmt.Errorf("read migrations of %s: %w", s.Name, err)
	}
	results, err := steps.Up(ctx)
	var partial *goose.PartialError
	if errors.As(err, &partial) {
		results = partial.Applied
		err = fmt.Errorf("apply migration %s: %w", path.Base(partial.Failed.Source.Path), partial.Err)
	}
	for _, r := range results {
		ran = append(ran, path.Base(r.Source.Path))
	}
	return ran, err
}

// prepare makes the schema before goose asks for the table in it, and refuses a
// database that is ahead of this program.
func (s Set) prepare(ctx context.Context, cfg *pgx.ConnConfig) error {
	schema := s.Schema
	conn, err := pgx.ConnectConfig(ctx, cfg)
	if err != nil {
		return fmt.Errorf("connect to database %s: %w", cfg.Database, err)
	}
	defer conn.Close(context.WithoutCancel(ctx))
	var there bool
	if err := conn.QueryRow(ctx, "SELECT EXISTS (SELECT FROM pg_namespace WHERE nspname = $1)", schema).Scan(&there); err != nil {
		return fmt.Errorf("look for schema %s: %w", schema, err)
	}
	if there {
		version, err := s.Applied(ctx, conn)
		if err != nil {
			return err
		}
		return s.NotNewer(version)
	}
	return pgx.BeginFunc(ctx, conn, func(tx pgx.Tx) error {
		if _, err := tx.Exec(ctx, "SELECT pg_advisory_xact_lock($1)", int64(lockKey)); err != nil {
			return fmt.Errorf("lock migrations: %w", err)
		}
		if _, err := tx.Exec(ctx, "CREATE SCHEMA IF NOT EXISTS "+pgx.Identifier{schema}.Sanitize()); err != nil {
			return fmt.Errorf("create schema %s: %w", schema, err)
		}
		return nil
	})
}

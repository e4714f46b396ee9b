// Package migrations holds the tables that Newswire brings along, as versioned
// SQL: a folder for each database they belong to. Apply promises that a
// database has all of a folder's files, each run once and in order, or is as it
// was before.
package migrations

import (
	"context"
	"embed"
	"fmt"
	"io/fs"
	"slices"

	"github.com/jackc/pgx/v5"
)

//go:embed cms/*.sql
var files embed.FS

// CMS is the database of the demo's editors.
func CMS() fs.FS { return folder("cms") }

func folder(name string) fs.FS {
	sub, err := fs.Sub(files, name)
	if err != nil {
		panic("migrations: " + err.Error()) // the name is one of this file
	}
	return sub
}

// applied is kept apart from the tables that it records, so that it is in no
// one's way and in no publication by accident.
const applied = `
CREATE SCHEMA IF NOT EXISTS newswire_migrations;
CREATE TABLE IF NOT EXISTS newswire_migrations.applied (
    file text PRIMARY KEY,
    at   timestamptz NOT NULL DEFAULT now()
)`

// lockKey keeps two programs from applying at once: "newswire" in ASCII.
const lockKey = 0x6e65777377697265

// Apply runs those .sql files of dir that conn's database has not seen, in the
// order of their names, in one transaction, and gives their names.
func Apply(ctx context.Context, conn *pgx.Conn, dir fs.FS) (ran []string, err error) {
	names, err := fs.Glob(dir, "*.sql")
	if err != nil {
		return nil, fmt.Errorf("list migrations: %w", err)
	}
	slices.Sort(names)
	err = pgx.BeginFunc(ctx, conn, func(tx pgx.Tx) error {
		ran = nil
		return apply(ctx, tx, dir, names, func(name string) { ran = append(ran, name) })
	})
	if err != nil {
		return nil, err
	}
	return ran, nil
}

func apply(ctx context.Context, tx pgx.Tx, dir fs.FS, names []string, done func(name string)) error {
	if _, err := tx.Exec(ctx, "SELECT pg_advisory_xact_lock($1)", int64(lockKey)); err != nil {
		return fmt.Errorf("lock migrations: %w", err)
	}
	if _, err := tx.Exec(ctx, applied); err != nil {
		return fmt.Errorf("create table of applied migrations: %w", err)
	}
	rows, err := tx.Query(ctx, "SELECT file FROM newswire_migrations.applied")
	if err != nil {
		return fmt.Errorf("read applied migrations: %w", err)
	}
	seen, err := pgx.CollectRows(rows, pgx.RowTo[string])
	if err != nil {
		return fmt.Errorf("read applied migrations: %w", err)
	}
	for _, name := range names {
		if slices.Contains(seen, name) {
			continue
		}
		sql, err := fs.ReadFile(dir, name)
		if err != nil {
			return fmt.Errorf("read migration %s: %w", name, err)
		}
		if _, err := tx.Exec(ctx, string(sql)); err != nil {
			return fmt.Errorf("apply migration %s: %w", name, err)
		}
		if _, err := tx.Exec(ctx, "INSERT INTO newswire_migrations.applied (file) VALUES ($1)", name); err != nil {
			return fmt.Errorf("record migration %s: %w", name, err)
		}
		done(name)
	}
	return nil
}

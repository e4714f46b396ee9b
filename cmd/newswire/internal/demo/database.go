package demo

import (
	"context"
	"fmt"

	"github.com/jackc/pgx/v5"

	"newswire/cdc/cluster"
	"newswire/cdc/setup"
	"newswire/migrations"
)

// What the demo calls things in its PostgreSQL.
const (
	database = "cms"
	phones   = "phones" // of the compensation service: devices and receipts
	editor   = "editor" // the role that the page's SQL runs as; the migrations make it
	name     = "newswire"
	schema   = "public"
	table    = "articles"
)

// columns are those that readers get.
var columns = []string{"id", "title", "summary", "url", "published_at"}

// prepare makes the CMS and what Newswire needs to read it; what is there from
// an earlier run stays.
func prepare(ctx context.Context, pg *cluster.Cluster, say func(string, ...any)) error {
	for _, database := range []string{database, phones} {
		if err := createDatabase(ctx, pg.DSN("postgres", cluster.Superuser), database); err != nil {
			return err
		}
	}
	if _, err := migrations.Apply(ctx, pg.DSN(phones, cluster.Superuser), migrations.Compensate()); err != nil {
		return fmt.Errorf("make the tables of database %s: %w", phones, err)
	}
	conn, err := pgx.Connect(ctx, pg.DSN(database, cluster.Superuser))
	if err != nil {
		return fmt.Errorf("connect to database %s: %w", database, err)
	}
	defer conn.Close(context.WithoutCancel(ctx))
	ran, err := migrations.Apply(ctx, pg.DSN(database, cluster.Superuser), migrations.CMS())
	if err != nil {
		return fmt.Errorf("make the tables of database %s: %w", database, err)
	}
	if len(ran) > 0 {
		say("Made the CMS: database %s with the table %s.%s.", database, schema, table)
	}
	plan, err := setup.Prepare(ctx, conn, setup.Config{
		Role:        name,
		Slot:        name,
		Publication: name,
		Tables:      []setup.Table{{Schema: schema, Name: table}},
	}, setup.Options{})
	if err != nil {
		return fmt.Errorf("plan the setup of database %s: %w", database, err)
	}
	if !plan.Needed() {
		return nil
	}
	if err := plan.Apply(ctx, conn); err != nil {
		return fmt.Errorf("set up database %s: %w", database, err)
	}
	say("Made role, publication and replication slot %q, as newswire setup --apply does.", name)
	return nil
}

func createDatabase(ctx context.Context, dsn, database string) error {
	conn, err := pgx.Connect(ctx, dsn)
	if err != nil {
		return fmt.Errorf("connect to PostgreSQL: %w", err)
	}
	defer conn.Close(context.WithoutCancel(ctx))
	var there bool
	if err := conn.QueryRow(ctx, "SELECT EXISTS (SELECT FROM pg_database WHERE datname = $1)", database).Scan(&there); err != nil {
		return fmt.Errorf("look for database %s: %w", database, err)
	}
	if there {
		return nil
	}
	if _, err := conn.Exec(ctx, "CREATE DATABASE "+database); err != nil {
		return fmt.Errorf("create database %s: %w", database, err)
	}
	return nil
}

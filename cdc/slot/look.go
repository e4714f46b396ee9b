package slot

import (
	"context"
	"errors"
	"fmt"

	"github.com/jackc/pgx/v5"
	"github.com/jackc/pgx/v5/pgconn"
)

// ErrNoRoom reports that there is no replication slot to spare for a look.
var ErrNoRoom = errors.New("all replication slots are taken, and a look needs one for a moment")

const codeTooManySlots = "53400" // PostgreSQL's code

// Look has do read from a temporary copy of the slot, within the transaction.
// The slot itself is never decoded: the server would count that as read, and
// an empty journal would take the slot for one whose news is in another. Nobody
// has to wait for the copy, and the slot's inactive_since stays.
func Look(ctx context.Context, tx pgx.Tx, name string, do func(ctx context.Context, tx pgx.Tx, copied string) error) error {
	var copied string
	err := tx.QueryRow(ctx, `SELECT slot_name FROM pg_catalog.pg_copy_logical_replication_slot(
		$1::name, ('newswire_look_' || pg_catalog.pg_backend_pid())::name, true)`, name).Scan(&copied)
	var refusal *pgconn.PgError
	if errors.As(err, &refusal) && refusal.Code == codeTooManySlots {
		return ErrNoRoom
	}
	if err != nil {
		return fmt.Errorf("copy slot %q to look into it: %w", name, err)
	}
	if err := do(ctx, tx, copied); err != nil {
		return err // by which the server has dropped the copy
	}
	if _, err := tx.Exec(ctx, "SELECT pg_catalog.pg_drop_replication_slot($1::name)", copied); err != nil {
		return fmt.Errorf("drop slot %q: %w", copied, err)
	}
	return nil
}

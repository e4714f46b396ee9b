package slot

import (
	"context"
	"errors"
	"fmt"

	"github.com/jackc/pgx/v5"

	"newswire/cdc/publication"
	"newswire/fanout/journal"
)

// Past tells why an empty journal would miss what was read from the slot; "" is
// that nobody has read it yet. PostgreSQL does not keep where a slot was made,
// so setup notes it; of a slot that setup did not make, the server's statistics
// tell whether a transaction was ever read from it, until a crash of the server
// clears them.
func Past(ctx context.Context, conn *pgx.Conn, name, from string, confirmed journal.LSN) (why string, err error) {
	var note string
	var read int64
	err = conn.QueryRow(ctx, `SELECT coalesce(pg_catalog.obj_description(oid, 'pg_publication'), '')
		FROM pg_catalog.pg_publication WHERE pubname = $1::text`, from).Scan(&note)
	if err == nil || errors.Is(err, pgx.ErrNoRows) {
		err = conn.QueryRow(ctx, `SELECT coalesce(sum(total_txns), 0)::bigint
			FROM pg_catalog.pg_stat_replication_slots WHERE slot_name = $1::text`, name).Scan(&read)
	}
	if err != nil {
		return "", fmt.Errorf("read the past of slot %q: %w", name, err)
	}
	made, noted := publication.SlotMade(note, name)
	switch {
	case noted && made != confirmed.String():
		return fmt.Sprintf("this journal is empty, but replication slot %q, which `newswire setup` made at %s, stands at %s: it was read into another journal, or made anew",
			name, made, confirmed), nil
	case !noted && read > 0:
		return fmt.Sprintf("this journal is empty, but %d transactions were read from replication slot %q before: they may be in another journal", read, name), nil
	}
	return "", nil
}

package slot

import (
	"context"
	"fmt"
	"net"
	"path/filepath"

	"github.com/jackc/pgx/v5"
)

// Disk is the one that the server's log is on.
type Disk struct {
	Free int64 `json:"free_bytes"`
	Size int64 `json:"size_bytes"`
}

// readDisk looks at the disk of pg_wal, which SQL does not tell of: through the
// directory's name, where the server is on this machine and the role may know
// the name (pg_read_all_settings or pg_monitor). nil elsewhere.
func readDisk(ctx context.Context, conn *pgx.Conn) (*Disk, error) {
	if _, here := conn.PgConn().Conn().RemoteAddr().(*net.UnixAddr); !here {
		return nil, nil
	}
	var dir string
	err := conn.QueryRow(ctx, "SELECT coalesce((SELECT setting FROM pg_catalog.pg_settings WHERE name = 'data_directory'), '')").Scan(&dir)
	if err != nil {
		return nil, fmt.Errorf("read name of the data directory: %w", err)
	}
	if dir == "" {
		return nil, nil
	}
	for _, place := range []string{filepath.Join(dir, "pg_wal"), dir} { // the former may be closed to us
		if d := diskOf(place); d != nil {
			return d, nil
		}
	}
	return nil, nil
}

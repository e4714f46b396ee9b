package slot_test

import (
	"fmt"

	"newswire/cdc/slot"
)

// A slot that stands still beside a server that writes.
func ExampleStatus_String() {
	safe := int64(300 << 20)
	s := slot.Status{Name: "newswire", Plugin: "pgoutput", Database: "cms"}
	s.VersionTxt, s.WALStatus, s.SafeWAL, s.Limit = "16.14", "reserved", &safe, 1<<30
	s.Retained, s.Unread = 724<<20, 7<<20
	s.Publication = &slot.Publication{Name: "newswire", Operations: []string{"insert", "update"}, Tables: []slot.PublishedTable{{Name: "public.articles", Columns: 6}}}
	s.SetRate(1 << 20)
	fmt.Print(s)
	// Output:
	// slot newswire (pgoutput, database cms)   INACTIVE   PostgreSQL 16.14
	//   wal_status reserved   safe_wal 300 MiB of 1.0 GiB   invalidation -
	//   current 0/0   confirmed 0/0 (7.0 MiB behind)   restart - (724 MiB kept)
	//   write rate 1.0 MiB/s: invalid in 5 min at the earliest if reading stops now
	//   publication newswire: public.articles 6 columns; insert update
	//   costs the server 724 MiB of log and the catalog rows of 0 transactions; `newswire slot drop --confirm newswire` frees both
	//   WARN slot "newswire" is lost after 300 MiB more of log, less than half of what it may keep; start the engine, or raise max_slot_wal_keep_size and run SELECT pg_reload_conf()
}

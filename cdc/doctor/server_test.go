package doctor_test

import (
	"context"
	"fmt"
	"net"
	"os"
	"path/filepath"
	"regexp"
	"strings"
	"sync"
	"testing"

	"github.com/google/go-cmp/cmp"
	"github.com/jackc/pgx/v5/pgconn"
	"github.com/jackc/pgx/v5/pgproto3"
	"golang.org/x/sync/errgroup"

	"newswire/cdc/cluster"
	"newswire/cdc/doctor"
	"newswire/cdc/pgtest"
	"newswire/fanout/journal"
)

// write adds so many MiB to the log and leaves a checkpoint behind.
func write(db *pgtest.DB, mebibytes int) {
	_ = pgtest.Value[int](db, "SELECT count(pg_logical_emit_message(false, 'filler', repeat('x', 1 << 20))) FROM generate_series(1, $1::int)", mebibytes)
	db.Exec("SELECT pg_switch_wal()")
	db.Exec("CHECKPOINT")
}

func TestALostSlot(t *testing.T) {
	c := pgtest.NewCluster(t, map[string]string{"max_slot_wal_keep_size": "32MB", "max_wal_size": "32MB"})
	db := pgtest.New(t, pgtest.On(c))
	cfg := config(db)
	if got, want := find(t, doctor.Run(t.Context(), cfg), "slot-wal"), "ok slot-wal "+db.Slot+": wal_status is reserved, "; !strings.HasPrefix(got, want) {
		t.Errorf("%s\nwant\n%s…", got, want)
	}
	write(db, 80)
	report := doctor.Run(t.Context(), cfg)
	want := "fatal slot-wal $NAME: replication slot \"$NAME\" is lost: PostgreSQL has removed log that it needed (max_slot_wal_keep_size); " +
		"raise max_slot_wal_keep_size, so that the engine may be away for as long as it was, then run `newswire resync`"
	if diff := cmp.Diff(expand(db, []string{want}), needs(report)); diff != "" {
		t.Errorf("findings (-want +got):\n%s", diff)
	}
	if got := find(t, report, "wal-keep-limit"); !strings.HasSuffix(got, "max_slot_wal_keep_size: a slot keeps at most 32.0 MiB; ") && !strings.Contains(got, "loses its slot") {
		t.Error(got)
	}
	agrees(t, cfg, true)
}

func TestASlotThatMayKeepForEver(t *testing.T) {
	db := pgtest.New(t)
	want := regexp.MustCompile(`^warn wal-keep-limit max_slot_wal_keep_size: max_slot_wal_keep_size is -1: while the engine is away its slot keeps log until the disk of pg_wal is full` +
		`(, [0-9.]+ .?i?B an hour at the present [0-9.]+ .?i?B/s)?; run ALTER SYSTEM SET max_slot_wal_keep_size = '…' and SELECT pg_reload_conf\(\), with less than the disk of pg_wal has free$`)
	if got := find(t, doctor.Run(t.Context(), config(db)), "wal-keep-limit"); !want.MatchString(got) {
		t.Errorf("%s\nwant\n%s", got, want)
	}
}

func TestSettings(t *testing.T) {
	c := pgtest.NewCluster(t, map[string]string{
		"wal_sender_timeout": "0", "max_replication_slots": "1", "max_wal_senders": "1",
	})
	db := pgtest.New(t, pgtest.On(c))
	cfg := config(db)
	want := []string{
		"warn replication-slots max_replication_slots: all 1 replication slots are taken; `newswire resync` needs one more for a moment; run ALTER SYSTEM SET max_replication_slots = 10 and restart PostgreSQL",
		"warn sender-timeout wal_sender_timeout: wal_sender_timeout is 0, so a reader whose machine has vanished holds the slot for ever; run ALTER SYSTEM SET wal_sender_timeout = '60s' and SELECT pg_reload_conf()",
	}
	if diff := cmp.Diff(want, needs(doctor.Run(t.Context(), cfg))); diff != "" {
		t.Errorf("findings (-want +got):\n%s", diff)
	}

	other, err := pgconn.Connect(t.Context(), db.SuperDSN+"&replication=database")
	if err != nil {
		t.Fatal(err)
	}
	defer other.Close(context.Background())
	cfg.Slot = "missing"
	want = []string{
		"fatal wal-senders max_wal_senders: all 1 replication connections are taken, and newswire has none of them; run ALTER SYSTEM SET max_wal_senders = 10 and restart PostgreSQL",
		"fatal replication-slots max_replication_slots: all 1 replication slots are taken, and newswire has none of them; run ALTER SYSTEM SET max_replication_slots = 10 and restart PostgreSQL",
		want[1],
		"fatal slot missing: the replication slot does not exist; run `newswire setup --apply`",
	}
	if diff := cmp.Diff(want, needs(doctor.Run(t.Context(), cfg))); diff != "" {
		t.Errorf("findings (-want +got):\n%s", diff)
	}
}

func TestRoomForAFirstStart(t *testing.T) {
	c := pgtest.NewCluster(t, map[string]string{"max_replication_slots": "1", "max_wal_senders": "1"})
	db := pgtest.New(t, pgtest.On(c))
	cfg := config(db)
	at := journal.LSN(0)
	cfg.JournalDir, cfg.Journal = t.TempDir(), func(context.Context) (journal.LSN, bool) { return at, true }
	const (
		senders = "fatal wal-senders max_wal_senders: 1 of 1 replication connections are free, and the first start needs 2: it streams over one, and reads what was published before as of the snapshot of another; run ALTER SYSTEM SET max_wal_senders = 10 and restart PostgreSQL"
		slots   = " replication-slots max_replication_slots: 0 of 1 replication slots are free, and the first start needs 1: "
		remedy  = "; run ALTER SYSTEM SET max_replication_slots = 10 and restart PostgreSQL"
	)
	finding := func(check, want string) {
		t.Helper()
		if got := find(t, doctor.Run(t.Context(), cfg), check); got != want {
			t.Errorf("%s\nwant\n%s", got, want)
		}
	}
	finding("wal-senders", senders)
	finding("replication-slots", "warn"+slots+"without a spare one what was published before stays unknown, so that the next change of an old article counts as its publication"+remedy)
	cfg.Backfill = true
	finding("replication-slots", "fatal"+slots+"postgres.backfill waits for a spare one"+remedy)
	at = 1 // the journal has begun
	finding("wal-senders", "ok wal-senders max_wal_senders: 1 of 1 replication connections are free; ")
	finding("replication-slots", "warn replication-slots max_replication_slots: all 1 replication slots are taken; `newswire resync` needs one more for a moment"+remedy)
}

func TestALogWithoutRows(t *testing.T) {
	c := pgtest.NewCluster(t, map[string]string{"wal_level": "replica"})
	db := pgtest.New(t, pgtest.On(c), pgtest.WithoutSlot())
	cfg := config(db)
	cfg.Slot = db.Name
	report := doctor.Run(t.Context(), cfg)
	want := []string{
		"fatal wal-level wal_level: wal_level is replica, which carries no row changes; run ALTER SYSTEM SET wal_level = 'logical' and restart PostgreSQL",
		"fatal slot $NAME: the replication slot does not exist; run `newswire setup --apply`",
	}
	if diff := cmp.Diff(expand(db, want), needs(report)); diff != "" {
		t.Errorf("findings (-want +got):\n%s", diff)
	}
	agrees(t, cfg, true)
}

func TestAnIdleTimeout(t *testing.T) {
	db := pgtest.New(t)
	if pgtest.Value[int](db, "SELECT current_setting('server_version_num')::int") < 180000 {
		t.Skip("the setting came with version 18")
	}
	db.Exec("ALTER SYSTEM SET idle_replication_slot_timeout = '2h'")
	db.Exec("SELECT pg_reload_conf()")
	defer db.Exec("SELECT pg_reload_conf()")
	defer db.Exec("ALTER SYSTEM RESET idle_replication_slot_timeout")
	await(t, db, "SELECT current_setting('idle_replication_slot_timeout') <> '0'")
	want := "warn idle-timeout idle_replication_slot_timeout: an engine that is away for longer than 2h0m0s finds its slot lost; set it above the longest time that the engine may be away, or to 0"
	if got := find(t, doctor.Run(t.Context(), config(db)), "idle-timeout"); got != want {
		t.Errorf("%s\nwant\n%s", got, want)
	}
}

func TestFailover(t *testing.T) {
	c := pgtest.NewCluster(t, nil)
	db := pgtest.New(t, pgtest.On(c))
	if pgtest.Value[int](db, "SELECT current_setting('server_version_num')::int") < 170000 {
		t.Skip("slots fail over from version 17 on")
	}
	finding := func(want string) {
		t.Helper()
		if got, want := find(t, doctor.Run(t.Context(), config(db)), "slot-failover"), expand(db, []string{want})[0]; got != want {
			t.Errorf("%s\nwant\n%s", got, want)
		}
	}
	finding("warn slot-failover $NAME: the slot is not synchronised to standbys, so a failover ends in `newswire resync`; " +
		"while nobody reads it run psql 'dbname=… replication=database' -c 'ALTER_REPLICATION_SLOT $NAME (FAILOVER true)'")
	conn, err := pgconn.Connect(t.Context(), db.DSN+"&replication=database")
	if err != nil {
		t.Fatal(err)
	}
	defer conn.Close(context.Background())
	if _, err := conn.Exec(t.Context(), "ALTER_REPLICATION_SLOT "+db.Slot+" (FAILOVER true)").ReadAll(); err != nil {
		t.Fatal(err)
	}
	finding("ok slot-failover $NAME: a standby that synchronises slots can take it over; ")
	db.Exec("SELECT pg_create_physical_replication_slot('standby')")
	finding("warn slot-failover $NAME: the slot fails over, but may then be ahead of the standby: synchronized_standby_slots is empty; " +
		"name the slot of the standby that takes over in synchronized_standby_slots, and set sync_replication_slots and hot_standby_feedback there")
	db.Exec("SELECT pg_drop_replication_slot('standby')")
}

func TestPasswordMethods(t *testing.T) {
	c := pgtest.NewCluster(t, nil)
	db := pgtest.New(t, pgtest.On(c))
	const remedy = "; set password_encryption = 'scram-sha-256', set the password anew, and write scram-sha-256 in pg_hba.conf"
	for _, m := range []struct{ method, encryption, want string }{
		{"scram-sha-256", "scram-sha-256", "ok password-method $NAME: the password is proved by SCRAM; "},
		{"md5", "md5", "warn password-method $NAME: the password is proved by md5, which who has read pg_authid can do without it" + remedy},
		{"password", "scram-sha-256", "warn password-method $NAME: the password itself is sent over the network, in the clear" + remedy},
	} {
		db.Exec("SET password_encryption = '" + m.encryption + "'; ALTER ROLE " + db.Role + " PASSWORD 'secret'")
		hba := fmt.Sprintf("local all %s %s\nlocal all all trust\n", db.Role, m.method)
		if err := os.WriteFile(filepath.Join(c.DataDir(), "pg_hba.conf"), []byte(hba), 0o644); err != nil {
			t.Fatal(err)
		}
		db.Exec("SELECT pg_reload_conf()")
		await(t, db, "SELECT auth_method = $1 FROM pg_hba_file_rules ORDER BY line_number LIMIT 1", m.method)
		cfg := config(db)
		cfg.DSN = strings.Replace(db.DSN, db.Role+"@", db.Role+":secret@", 1)
		if got, want := find(t, doctor.Run(t.Context(), cfg), "password-method"), expand(db, []string{m.want})[0]; got != want {
			t.Errorf("%s\nwant\n%s", got, want)
		}
		cfg.DSN = strings.Replace(db.DSN, db.Role+"@", db.Role+":wrong@", 1)
		want := fmt.Sprintf(`fatal login %[1]s: PostgreSQL refuses the login: password authentication failed for user "%[1]s"; check user and password in postgres.dsn, and pg_hba.conf; the role is made by `+"`newswire setup --apply`", db.Role)
		if got := find(t, doctor.Run(t.Context(), cfg), "login"); got != want {
			t.Errorf("%s\nwant\n%s", got, want)
		}
	}
}

func TestReach(t *testing.T) {
	db := pgtest.New(t)
	ln, err := net.Listen("tcp", "127.0.0.1:0")
	if err != nil {
		t.Fatal(err)
	}
	closed := ln.Addr().String()
	if err := ln.Close(); err != nil {
		t.Fatal(err)
	}
	for dsn, want := range map[string]string{
		"postgres://u:hunter2/3@db/cms":                           "fatal reach postgres.dsn: the connection string cannot be read; write postgres://user@host/database or key=value pairs",
		"postgres://u:hunter2@" + closed + "/cms?sslmode=disable": "fatal reach " + closed + ": PostgreSQL does not answer: failed to connect to ",
		db.Server().DSN("nowhere", db.Role):                       `fatal login nowhere: PostgreSQL refuses the login: database "nowhere" does not exist; correct postgres.dsn`,
		db.Server().DSN(db.Name, "nobody"):                        `fatal login nobody: PostgreSQL refuses the login: role "nobody" does not exist; check user and password in postgres.dsn, and pg_hba.conf; the role is made by ` + "`newswire setup --apply`",
	} {
		cfg := config(db)
		cfg.DSN = dsn
		got := needs(doctor.Run(t.Context(), cfg))
		if len(got) != 1 || !strings.HasPrefix(got[0], want) || strings.Contains(got[0], "hunter2") {
			t.Errorf("%q\nwant\n%q", got, want)
		}
	}
}

// pooler passes connections on to a server's socket, as PgBouncer does: it
// knows no replication, and promises processes of its own.
func pooler(t *testing.T, c *cluster.Cluster, replication bool) (address string) {
	ln, err := net.Listen("tcp", "127.0.0.1:0")
	if err != nil {
		t.Fatal(err)
	}
	var g errgroup.Group
	t.Cleanup(func() {
		_ = ln.Close()
		if err := g.Wait(); err != nil {
			t.Error(err)
		}
	})
	g.Go(func() error {
		for {
			client, err := ln.Accept()
			if err != nil {
				return nil // closed
			}
			g.Go(func() error { return pool(client, c.SocketDir(), replication) })
		}
	})
	return ln.Addr().String()
}

func pool(client net.Conn, socketDir string, replication bool) error {
	defer client.Close()
	backend := pgproto3.NewBackend(client, client)
	message, err := backend.ReceiveStartupMessage()
	if err != nil {
		return err
	}
	startup := message.(*pgproto3.StartupMessage)
	if _, wanted := startup.Parameters["replication"]; wanted && !replication {
		backend.Send(&pgproto3.ErrorResponse{Severity: "FATAL", Code: "08P01", Message: "unsupported startup parameter: replication"})
		return backend.Flush()
	}
	server, err := net.Dial("unix", filepath.Join(socketDir, ".s.PGSQL.5432"))
	if err != nil {
		return err
	}
	defer server.Close()
	hello, err := startup.Encode(nil)
	if err != nil {
		return err
	}
	if _, err := server.Write(hello); err != nil {
		return err
	}
	var once sync.Once
	var g errgroup.Group
	g.Go(func() error {
		defer server.Close()
		return through(server, client, nil)
	})
	g.Go(func() error {
		defer client.Close()
		return through(client, server, func(b []byte) {
			once.Do(func() { changeKey(b) })
		})
	})
	return g.Wait()
}

// through copies until either end has gone, which is how a session ends.
func through(to, from net.Conn, change func([]byte)) error {
	b := make([]byte, 64<<10)
	for {
		n, err := from.Read(b)
		if err != nil {
			return nil
		}
		if change != nil {
			change(b[:n])
		}
		if _, err := to.Write(b[:n]); err != nil {
			return nil
		}
	}
}

// changeKey gives the session another process than the server has: K, length
// 12, process, key.
func changeKey(b []byte) {
	if i := strings.Index(string(b), "K\x00\x00\x00\x0c"); i >= 0 {
		b[i+5] ^= 1
	}
}

func TestAPoolerInBetween(t *testing.T) {
	db := pgtest.New(t)
	for _, c := range []struct {
		replication bool
		want        string
	}{
		{false, "fatal pooler $ADDRESS: an ordinary connection is taken, but not one for replication, as by a connection pooler in between: "},
		{true, "warn pooler $ADDRESS: a connection pooler stands between us and PostgreSQL; a stream that it cuts or moves is a stream that starts again; give postgres.dsn the address of PostgreSQL itself"},
	} {
		address := pooler(t, db.Server(), c.replication)
		cfg := config(db)
		cfg.DSN = "postgres://" + db.Role + "@" + address + "/" + db.Name + "?sslmode=disable"
		want := strings.ReplaceAll(c.want, "$ADDRESS", address)
		if got := find(t, doctor.Run(t.Context(), cfg), "pooler"); !strings.HasPrefix(got, want) || !strings.HasSuffix(got, "; give postgres.dsn the address of PostgreSQL itself") {
			t.Errorf("%s\nwant\n%s", got, want)
		}
	}
}

func TestAStandby(t *testing.T) {
	c := pgtest.NewCluster(t, nil)
	db := pgtest.New(t, pgtest.On(c))
	signal := filepath.Join(c.DataDir(), "standby.signal")
	if err := os.WriteFile(signal, nil, 0o644); err != nil {
		t.Fatal(err)
	}
	if err := c.Restart(t.Context()); err != nil {
		t.Fatal(err)
	}
	defer db.Exec("SELECT pg_promote()") // for what drops the database
	report := doctor.Run(t.Context(), config(db))
	want := "fatal recovery PostgreSQL $VERSION: the server is a standby, and the engine reads a primary only; name the primary in postgres.dsn"
	want = strings.ReplaceAll(want, "$VERSION", pgtest.Value[string](db, "SELECT split_part(current_setting('server_version'), ' ', 1)"))
	if diff := cmp.Diff([]string{want}, needs(report)); diff != "" {
		t.Errorf("findings (-want +got):\n%s", diff)
	}
}

package cluster_test

import (
	"context"
	"errors"
	"log/slog"
	"os"
	"os/exec"
	"path/filepath"
	"strings"
	"testing"
	"time"

	"github.com/jackc/pgx/v5"
	"go.uber.org/goleak"

	"newswire/cdc/cluster"
)

func TestMain(m *testing.M) {
	if dir := os.Getenv(childDir); dir != "" {
		child(dir)
	}
	goleak.VerifyTestMain(m)
}

// childDir makes the test program a parent to be killed: see
// TestAKilledParentLeavesNoServer.
const childDir = "NEWSWIRE_TEST_CHILD_DIR"

func child(dir string) {
	c, err := cluster.Start(context.Background(), cluster.Config{Dir: dir, Settings: fast}, slog.Default())
	if err != nil {
		println(err.Error())
		os.Exit(1)
	}
	os.Stdout.WriteString("ready\n")
	<-c.Done()
}

var fast = map[string]string{"fsync": "off", "full_page_writes": "off"}

// ground is a directory that the OS user postgres can enter; t.TempDir is not.
func ground(t *testing.T) string {
	t.Helper()
	if _, err := cluster.FindBinaries(""); err != nil {
		if os.Getenv("CI") == "true" {
			t.Fatal(err)
		}
		t.Skipf("SKIPPED, NOTHING TESTED: %v", err)
	}
	dir, err := os.MkdirTemp("", "newswire-cluster-test-")
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() {
		if err := os.RemoveAll(dir); err != nil {
			t.Error(err)
		}
	})
	return dir
}

func start(t *testing.T, cfg cluster.Config) *cluster.Cluster {
	t.Helper()
	c, err := cluster.Start(t.Context(), cfg, slog.New(slog.DiscardHandler))
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() {
		if err := c.Stop(context.Background()); err != nil {
			t.Error(err)
		}
	})
	return c
}

func value(t *testing.T, c *cluster.Cluster, sql string) string {
	t.Helper()
	conn, err := pgx.Connect(t.Context(), c.DSN("postgres", cluster.Superuser))
	if err != nil {
		t.Fatal(err)
	}
	defer conn.Close(context.Background())
	var s string
	if err := conn.QueryRow(t.Context(), sql).Scan(&s); err != nil && !errors.Is(err, pgx.ErrNoRows) {
		t.Fatalf("%s: %v", sql, err)
	}
	return s
}

func TestAClusterIsReadyForChangeCaptureAndClosedToTheNetwork(t *testing.T) {
	c := start(t, cluster.Config{Dir: ground(t), Settings: fast})
	for setting, want := range map[string]string{
		"wal_level": "logical", "listen_addresses": "", "server_encoding": "UTF8",
		"fsync": "off", "TimeZone": "UTC", "data_directory": c.DataDir(),
	} {
		if got := value(t, c, "SHOW "+setting); got != want {
			t.Errorf("%s = %q, want %q", setting, got, want)
		}
	}
	info, err := os.Stat(c.SocketDir())
	if err != nil || info.Mode().Perm() != 0o700 {
		t.Errorf("socket directory: mode %v, %v, want 0700", info.Mode(), err)
	}
}

func TestDataSurvivesStopCrashAndRestart(t *testing.T) {
	dir := ground(t)
	c := start(t, cluster.Config{Dir: dir, Settings: fast})
	value(t, c, "CREATE TABLE kept AS SELECT 'here' AS word")

	if err := c.Crash(); err != nil {
		t.Fatal(err)
	}
	if c.Running() {
		t.Fatal("Running() = true after Crash")
	}
	if err := c.Restart(t.Context()); err != nil {
		t.Fatal(err)
	}
	if got := value(t, c, "SELECT word FROM kept"); got != "here" {
		t.Errorf("after Crash and Restart: %q, want here", got)
	}
	if err := c.Restart(t.Context()); err != nil {
		t.Fatal(err)
	}
	if err := c.Stop(t.Context()); err != nil {
		t.Fatal(err)
	}
	if err := c.Stop(t.Context()); err != nil {
		t.Errorf("second Stop: %v, want nil", err)
	}
	again := start(t, cluster.Config{Dir: dir, Settings: fast})
	if got := value(t, again, "SELECT word FROM kept"); got != "here" {
		t.Errorf("after Stop and Start: %q, want here", got)
	}
}

func TestASecondServerOnTheSameDirectoryIsRefused(t *testing.T) {
	dir := ground(t)
	c := start(t, cluster.Config{Dir: dir, Settings: fast})
	_, err := cluster.Start(t.Context(), cluster.Config{Dir: dir, Settings: fast}, slog.New(slog.DiscardHandler))
	if !errors.Is(err, cluster.ErrRunning) {
		t.Fatalf("second Start: %v, want ErrRunning", err)
	}
	if got := value(t, c, "SELECT 'alive'"); got != "alive" {
		t.Errorf("the first server answers %q, want alive", got)
	}
}

func TestADirectoryOfAnotherVersionIsRefusedWithTheRemedy(t *testing.T) {
	dir := ground(t)
	c := start(t, cluster.Config{Dir: dir, Settings: fast})
	if err := c.Stop(t.Context()); err != nil {
		t.Fatal(err)
	}
	if err := os.WriteFile(filepath.Join(c.DataDir(), "PG_VERSION"), []byte("9.6\n"), 0o600); err != nil {
		t.Fatal(err)
	}
	_, err := cluster.Start(t.Context(), cluster.Config{Dir: dir}, slog.New(slog.DiscardHandler))
	if !errors.Is(err, cluster.ErrVersion) || !strings.Contains(err.Error(), "or remove "+c.DataDir()[:len(c.DataDir())-len("/data")]) {
		t.Errorf("Start = %v, want ErrVersion and what helps", err)
	}
}

func TestAForeignDirectoryIsLeftAlone(t *testing.T) {
	dir := ground(t)
	precious := filepath.Join(dir, "data", "thesis.txt")
	if err := os.MkdirAll(filepath.Dir(precious), 0o700); err != nil {
		t.Fatal(err)
	}
	if err := os.WriteFile(precious, nil, 0o600); err != nil {
		t.Fatal(err)
	}
	if _, err := cluster.Start(t.Context(), cluster.Config{Dir: dir}, slog.New(slog.DiscardHandler)); err == nil {
		t.Error("Start = nil, want an error")
	}
	if _, err := os.Stat(precious); err != nil {
		t.Error(err)
	}
}

func TestAWrongSettingIsToldInTheServersWords(t *testing.T) {
	_, err := cluster.Start(t.Context(), cluster.Config{
		Dir: ground(t), Settings: map[string]string{"fsync": "off", "shared_buffers": "plenty"},
	}, slog.New(slog.DiscardHandler))
	if err == nil || !strings.Contains(err.Error(), `invalid value for parameter "shared_buffers"`) {
		t.Errorf("Start = %v, want the server's complaint", err)
	}
}

func TestAnInterruptedCreationIsNotTakenForWhole(t *testing.T) {
	dir := ground(t)
	ctx, cancel := context.WithTimeout(t.Context(), 50*time.Millisecond)
	defer cancel()
	if _, err := cluster.Start(ctx, cluster.Config{Dir: dir, Settings: fast}, slog.New(slog.DiscardHandler)); !errors.Is(err, context.DeadlineExceeded) {
		t.Fatalf("Start = %v, want the deadline", err)
	}
	c := start(t, cluster.Config{Dir: dir, Settings: fast})
	if got := value(t, c, "SELECT 'whole'"); got != "whole" {
		t.Errorf("got %q, want whole", got)
	}
}

func TestALongDirectoryGetsAShortSocket(t *testing.T) {
	dir := filepath.Join(ground(t), strings.Repeat("long", 30))
	if err := os.Chmod(filepath.Dir(dir), 0o711); err != nil {
		t.Fatal(err)
	}
	c := start(t, cluster.Config{Dir: dir, Settings: fast})
	if got := value(t, c, "SELECT 'reached'"); got != "reached" {
		t.Errorf("got %q, want reached", got)
	}
	if err := c.Stop(t.Context()); err != nil {
		t.Fatal(err)
	}
	if _, err := os.Stat(c.SocketDir()); !errors.Is(err, os.ErrNotExist) {
		t.Errorf("socket directory after Stop: %v, want it gone", err)
	}
}

func TestAKilledParentLeavesNoServer(t *testing.T) {
	dir := ground(t)
	cmd := exec.Command(os.Args[0])
	cmd.Env = append(os.Environ(), childDir+"="+dir)
	out, err := cmd.StdoutPipe()
	if err != nil {
		t.Fatal(err)
	}
	cmd.Stderr = os.Stderr
	if err := cmd.Start(); err != nil {
		t.Fatal(err)
	}
	line := make([]byte, len("ready\n"))
	if _, err := out.Read(line); err != nil {
		t.Fatalf("read the child's word: %v", err)
	}
	if err := cmd.Process.Kill(); err != nil {
		t.Fatal(err)
	}
	if err := cmd.Wait(); err == nil {
		t.Fatal("the killed child ended well")
	}
	// A server left behind would make this Start fail with ErrRunning.
	c := start(t, cluster.Config{Dir: dir, Settings: fast})
	if got := value(t, c, "SELECT 'ours'"); got != "ours" {
		t.Errorf("got %q, want ours", got)
	}
}

func TestFindBinariesNamesTheRemedy(t *testing.T) {
	if _, err := cluster.FindBinaries(t.TempDir()); !errors.Is(err, cluster.ErrNoBinaries) {
		t.Errorf("FindBinaries(empty directory) = %v, want ErrNoBinaries", err)
	}
	lone := t.TempDir() // a postgres without its company, as a wrapper script is
	if err := os.WriteFile(filepath.Join(lone, "postgres"), nil, 0o755); err != nil {
		t.Fatal(err)
	}
	t.Setenv("PATH", lone)
	if dir, err := cluster.FindBinaries(""); dir == lone {
		t.Errorf("FindBinaries took a lone postgres on PATH, error %v", err)
	}
}

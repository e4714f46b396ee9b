package main

import (
	"bytes"
	"log/slog"
	"os"
	"path/filepath"
	"strings"
	"testing"

	"newswire/fanout/journal"
)

// apart has the journal in the test's directory, and an engine's address where
// none answers.
var apart = strings.Replace(least, "gateway: {", "gateway: {admin: 127.0.0.1:1, ", 1) + "journal: {dir: journal}\n"

func TestLookingInsideMakesNoJournal(t *testing.T) {
	for _, args := range [][]string{{"audit"}, {"tail"}, {"backup", "copy"}} {
		code, stdout, stderr := call(t, apart, nil, args...)
		want := "newswire: " + args[0] + ": no journal in journal.dir journal, and no engine on gateway.admin 127.0.0.1:1; correct them, or start `newswire serve`, which makes it\n"
		if code != exitFailed || stdout != "" || stderr != want {
			t.Errorf("%v: code %d, %q on stdout, on stderr\n%swant code 1 and\n%s", args, code, stdout, stderr, want)
		}
		if left, _ := filepath.Glob("*"); strings.Join(left, " ") != "newswire.yaml secret" {
			t.Errorf("%v leaves %q", args, left)
		}
	}
}

// again runs the program where call has run.
func again(t *testing.T, args ...string) (code int, stdout, stderr string) {
	t.Helper()
	var out, errs bytes.Buffer
	code = run(t.Context(), args, nil, &out, &errs)
	return code, out.String(), errs.String()
}

// lay makes an empty journal in the directory in which call has run.
func lay(t *testing.T) {
	t.Helper()
	j, err := journal.Open(journal.Config{Dir: "journal"}, slog.New(slog.DiscardHandler), nil)
	if err != nil {
		t.Fatal(err)
	}
	if err := j.Close(); err != nil {
		t.Fatal(err)
	}
}

func TestAnEmptyJournalCanBeLookedInto(t *testing.T) {
	call(t, apart, nil, "version")
	lay(t)
	for _, args := range [][]string{{"audit"}, {"tail"}, {"backup", "copy"}} {
		if code, _, stderr := again(t, args...); code != exitDone {
			t.Errorf("%v: code %d, %s", args, code, stderr)
		}
	}
	const unknown = "newswire: reader \"nobody\" is not known: it has never come, or was forgotten; name the sub of its token\n"
	if code, _, stderr := again(t, "audit", "--reader", "nobody"); code != exitFailed || stderr != unknown {
		t.Errorf("audit of an unknown reader: code %d, %s", code, stderr)
	}
}

func TestWhatIsNoBackupIsNotRestored(t *testing.T) {
	const want = "newswire: restore secret: it is no backup of newswire: backup damaged; name a file that `newswire backup` has made, another one where this is damaged\n"
	if code, _, stderr := call(t, apart, nil, "restore", "secret"); code != exitFailed || stderr != want {
		t.Errorf("code %d, %swant code 1 and %s", code, stderr, want)
	}
}

func TestAnotherAccountsJournalIsLeftAlone(t *testing.T) {
	if os.Geteuid() != 0 {
		t.Skip("only root can give a file away")
	}
	call(t, apart, nil, "version")
	lay(t)
	if err := os.Chown("journal/MANIFEST", 54321, 54321); err != nil {
		t.Fatal(err)
	}
	before, _ := filepath.Glob("journal/*")
	for _, args := range [][]string{{"audit"}, {"tail"}, {"backup", "copy"}, {"resync"}} {
		code, _, stderr := again(t, args...)
		want := args[0] + ": journal.dir journal belongs to #54321, and what another account opens could be closed to the engine; run this as that account, such as with sudo -u #54321\n"
		if code != exitFailed || !strings.HasSuffix(stderr, want) {
			t.Errorf("%v: code %d, %swant code 1 and %s", args, code, stderr, want)
		}
	}
	if after, _ := filepath.Glob("journal/*"); strings.Join(after, " ") != strings.Join(before, " ") {
		t.Errorf("the journal is %q, was %q", after, before)
	}
}

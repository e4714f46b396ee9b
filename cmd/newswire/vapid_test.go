package main

import (
	"os"
	"path/filepath"
	"strings"
	"testing"

	"newswire/ack/compensate/channel/webpush"
)

func TestVAPIDKeyIsMadeOnceAndNeverReplaced(t *testing.T) {
	file := filepath.Join(t.TempDir(), "vapid.pem")
	code, public, stderr := call(t, "", nil, "compensate", "vapid", file)
	if code != exitDone || len(strings.TrimSpace(public)) != 87 || stderr != "" {
		t.Fatalf("code %d, %q, %s", code, public, stderr)
	}
	before, err := os.ReadFile(file)
	if err != nil {
		t.Fatal(err)
	}
	if info, err := os.Stat(file); err != nil || info.Mode().Perm() != 0o600 {
		t.Errorf("the key file's mode is %v (%v)", info.Mode(), err)
	}
	ch, err := webpush.New(webpush.Config{KeyFile: file, Subject: "mailto:desk@example.com"})
	if err != nil {
		t.Fatal(err)
	}
	if got := ch.Properties().PublicKey; got != strings.TrimSpace(public) {
		t.Errorf("the channel sends as %s, the command printed %s", got, public)
	}
	code, again, _ := call(t, "", nil, "compensate", "vapid", file)
	if after, err := os.ReadFile(file); code != exitDone || again != public || err != nil || string(after) != string(before) {
		t.Errorf("the second call: code %d, %q, %v", code, again, err)
	}
	if err := os.WriteFile(file, []byte("something else"), 0o600); err != nil {
		t.Fatal(err)
	}
	if code, _, stderr := call(t, "", nil, "compensate", "vapid", file); code != exitFailed || !strings.Contains(stderr, file) {
		t.Errorf("a file that is no key: code %d, %s", code, stderr)
	}
	if code, _, stderr := call(t, "", nil, "compensate", "vapid"); code != exitUsage || !strings.Contains(stderr, "name one file") {
		t.Errorf("without a file: code %d, %s", code, stderr)
	}
}

package main

import (
	"os"
	"path/filepath"
	"strings"
	"testing"
)

// What the README tells people to write must be taken.
func TestChannelsOfTheREADMEAreTaken(t *testing.T) {
	text, err := os.ReadFile(filepath.Join(root(t), "README.md"))
	if err != nil {
		t.Fatal(err)
	}
	_, rest, _ := strings.Cut(string(text), "### The channels of `newswire compensate`")
	_, rest, _ = strings.Cut(rest, "```yaml\n")
	example, _, ok := strings.Cut(rest, "```")
	if !ok || strings.Count(example, "\n") < 20 {
		t.Fatal("the README shows no channels")
	}
	if code, _, stderr := call(t, least+example, nil, "config", "check"); code != exitDone {
		t.Errorf("config check refuses the README's channels, code %d:\n%s", code, stderr)
	}
	if code, _, stderr := call(t, least+strings.Replace(example, "segments: 2", "segmets: 2", 1), nil, "config", "check"); code != exitUsage || !strings.Contains(stderr, "segments") {
		t.Errorf("a key that is mistyped: code %d, %s", code, stderr)
	}
}

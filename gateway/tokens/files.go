package tokens

import (
	"bytes"
	"context"
	"fmt"
	"os"
	"time"
)

// lookEvery is how often the files are read again. Their content counts, not
// their times, so every way of replacing one is seen: a rename, or the symbolic
// links that Kubernetes turns to another directory.
const lookEvery = 2 * time.Second

// keyFile is a file with keys.
type keyFile struct {
	key   string // of the configuration
	path  string
	parse func([]byte) (*keyring, error)
	text  []byte // read last, good or bad
}

// read gives the file's keys.
func (f *keyFile) read() (*keyring, error) {
	text, err := os.ReadFile(f.path)
	if err != nil {
		return nil, fmt.Errorf("%s: %w", f.key, err)
	}
	return f.parsed(text)
}

func (f *keyFile) parsed(text []byte) (*keyring, error) {
	f.text = text
	ring, err := f.parse(text)
	if err != nil {
		return nil, fmt.Errorf("%s: %s: %w", f.key, f.path, err)
	}
	return ring, nil
}

// Run follows the files and the JWKS address until ctx ends. It returns nil.
func (v *Verifier) Run(ctx context.Context) error {
	look := time.NewTicker(lookEvery)
	defer look.Stop()
	for {
		v.lookAtFiles()
		if v.remote != nil {
			v.refresh(ctx, v.remote.pause())
		}
		select {
		case <-look.C:
		case <-ctx.Done():
			return nil
		}
	}
}

// lookAtFiles takes the keys of files that have changed. What cannot be used
// changes nothing, and is told once.
func (v *Verifier) lookAtFiles() {
	for _, f := range v.files {
		text, err := os.ReadFile(f.path)
		if err != nil || bytes.Equal(text, f.text) {
			continue // away for the moment between two steps of a replacement
		}
		ring, err := f.parsed(text)
		if err != nil {
			v.log.Error("changed keys cannot be used; the ones before stay in force", "err", err)
			continue
		}
		v.keys.Store(ring)
		v.log.Info("keys of tokens read again", "file", f.path, "keys", len(ring.keys))
	}
}

package torture

import (
	"compress/gzip"
	"encoding/json"
	"errors"
	"fmt"
	"os"

	"newswire/cmd/newswire/internal/checker"
)

// save keeps the history of a run that broke an invariant, so that it can be
// judged again by a better checker, or looked into.
func (r *run) save(h *checker.History) {
	f, err := os.CreateTemp("", "newswire-history-*.json.gz")
	if err == nil {
		z := gzip.NewWriter(f)
		err = errors.Join(json.NewEncoder(z).Encode(h), z.Close(), f.Close())
	}
	if err != nil {
		r.t.Logf("the history could not be kept: %v", err)
		return
	}
	r.t.Logf("judge this history again: %s=%s go test -count=1 -run '^TestSavedHistory$' ./cmd/newswire", HistoryVariable, f.Name())
}

// Load reads what a failed run has kept.
func Load(path string) (*checker.History, error) {
	f, err := os.Open(path)
	if err != nil {
		return nil, err
	}
	defer f.Close()
	z, err := gzip.NewReader(f)
	if err != nil {
		return nil, fmt.Errorf("%s: %w", path, err)
	}
	h := new(checker.History)
	if err := json.NewDecoder(z).Decode(h); err != nil {
		return nil, fmt.Errorf("%s: %w", path, err)
	}
	return h, nil
}

// HistoryVariable names the environment variable with the file of a history.
const HistoryVariable = "HISTORY"

package engine

import (
	"errors"
	"fmt"
	"io/fs"
	"log/slog"
	"os"
	"path/filepath"

	"newswire/cmd/newswire/internal/config"
	"newswire/fanout/journal"

	"github.com/prometheus/client_golang/prometheus"
)

// ErrNoJournal reports that journal.dir holds no journal.
var ErrNoJournal = errors.New("no journal")

// OpenAtRest opens the journal of an engine that does not run, to look inside.
// It makes none: the error wraps ErrNoJournal where there is none. Nor does it
// open another account's: the files that it left there would be closed to the
// engine.
func OpenAtRest(cfg config.Config) (*journal.Journal, error) {
	dir := cfg.Journal.Dir
	if !exists(filepath.Join(dir, manifest)) {
		return nil, fmt.Errorf("%w in journal.dir %s, and no engine on gateway.admin %s; correct them, or start `newswire serve`, which makes it", ErrNoJournal, dir, cfg.Gateway.Admin)
	}
	return openAtRest(cfg)
}

// openAtRest is OpenAtRest that makes the journal where there is none, unless
// the superuser would make it in another account's directory.
func openAtRest(cfg config.Config) (*journal.Journal, error) {
	dir := cfg.Journal.Dir
	owner, foreign := foreignOwner(filepath.Join(dir, manifest))
	if !foreign && os.Geteuid() == 0 && !exists(filepath.Join(dir, manifest)) {
		owner, foreign = foreignOwner(dir)
	}
	if foreign {
		return nil, fmt.Errorf("journal.dir %s belongs to %s, and what another account opens could be closed to the engine; run this as that account, such as with sudo -u %s", dir, owner, owner)
	}
	j, err := journal.Open(journal.Config{Dir: dir, Reserve: cfg.Journal.Reserve}, slog.New(slog.DiscardHandler), prometheus.NewRegistry())
	if errors.Is(err, journal.ErrHeld) {
		err = fmt.Errorf("%w, which does not answer on gateway.admin %s; is that its address?", err, cfg.Gateway.Admin)
	}
	return j, err
}

// dirFault says that journal.dir cannot be made.
func dirFault(err error) error {
	return fmt.Errorf("journal.dir: %w; name a directory that is there or can be made, and that this account may write", err)
}

// manifest is a file that no journal is without.
const manifest = "MANIFEST"

func exists(path string) bool {
	_, err := os.Stat(path)
	return !errors.Is(err, fs.ErrNotExist)
}

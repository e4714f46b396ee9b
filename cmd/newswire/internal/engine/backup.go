package engine

import (
	"context"
	"errors"
	"fmt"
	"io"
	"net/http"
	"net/url"
	"os"
	"strconv"
	"syscall"

	"newswire/cmd/newswire/internal/config"
	"newswire/fanout/journal"
)

// Backup adds to the backup in a file, which it makes when it is missing, what
// the journal has come to since. A running engine gives it, else this process
// opens the journal. What an earlier run has not finished is cut off first, and
// so is what this one does not finish.
func Backup(ctx context.Context, cfg config.Config, name string) (b journal.BackupFile, added int64, err error) {
	f, err := os.OpenFile(name, os.O_CREATE|os.O_RDWR, 0o600)
	if err != nil {
		return b, 0, fmt.Errorf("backup: %w: name a file that this account may write, in a directory that is there", err)
	}
	defer func() { err = errors.Join(err, f.Close()) }()
	if err := lock(f); err != nil {
		return b, 0, fmt.Errorf("%s: another backup is being written to it: %w", name, err)
	}
	before, err := journal.ScanBackup(f)
	if err != nil {
		return b, 0, fmt.Errorf("%s: %w: move it away, or name another file", name, err)
	}
	if err := f.Truncate(before.Size); err != nil {
		return b, 0, err
	}
	if _, err := f.Seek(before.Size, io.SeekStart); err != nil {
		return b, 0, err
	}
	err = addPart(ctx, cfg, f, before)
	if err == nil {
		_, err = f.Seek(0, io.SeekStart)
	}
	if err == nil {
		b, err = journal.ScanBackup(f) // from the cache; what is on disk is then known to be whole
	}
	if err == nil && len(b.Parts) != len(before.Parts)+1 {
		err = errors.New("backup: the engine has ended before it was whole; run it again")
	}
	if err == nil {
		err = f.Sync()
	}
	if err == nil {
		return b, b.Size - before.Size, nil
	}
	if len(before.Parts) == 0 {
		return b, 0, errors.Join(err, os.Remove(name))
	}
	return b, 0, errors.Join(err, f.Truncate(before.Size))
}

// addPart writes the next part, of an empty file what begins one too.
func addPart(ctx context.Context, cfg config.Config, w io.Writer, b journal.BackupFile) error {
	var after journal.Part
	if n := len(b.Parts); n > 0 {
		after = b.Parts[n-1]
	}
	if b.Size == 0 {
		if err := journal.BeginBackup(w); err != nil {
			return err
		}
	}
	query := url.Values{"journal": {after.Journal}, "since": {strconv.FormatUint(after.Until, 10)}}
	req, err := http.NewRequestWithContext(ctx, http.MethodGet, "http://"+reachable(cfg.Gateway.Admin)+"/v1/backup?"+query.Encode(), nil)
	if err != nil {
		return fmt.Errorf("backup: %w", err)
	}
	resp, err := http.DefaultClient.Do(req)
	if errors.Is(err, syscall.ECONNREFUSED) {
		return backupAtRest(ctx, cfg, w, after)
	}
	if err != nil {
		return fmt.Errorf("backup: %w", err)
	}
	defer resp.Body.Close()
	switch resp.StatusCode {
	case http.StatusOK:
		_, err = io.Copy(w, resp.Body)
	case http.StatusConflict:
		return errOtherJournal
	default:
		return fmt.Errorf("backup: what answers on gateway.admin %s is not this engine (%s); correct gateway.admin", cfg.Gateway.Admin, resp.Status)
	}
	return err
}

var errOtherJournal = errors.New("the file is a backup of another journal, or of this one before it was restored; name another file")

func backupAtRest(ctx context.Context, cfg config.Config, w io.Writer, after journal.Part) error {
	j, err := OpenAtRest(cfg)
	if err != nil {
		return fmt.Errorf("backup: %w", err)
	}
	_, err = j.Backup(ctx, after, w)
	if errors.Is(err, journal.ErrOtherJournal) {
		err = errOtherJournal
	}
	return errors.Join(err, j.Close())
}

// serveBackup writes a part as it reads the journal. One that breaks off lacks
// its end.
func (e *engine) serveBackup(w http.ResponseWriter, r *http.Request) {
	since, err := strconv.ParseUint(r.FormValue("since"), 10, 64)
	if err != nil {
		http.Error(w, "since is no number", http.StatusBadRequest)
		return
	}
	w.Header().Set("Content-Type", "application/octet-stream")
	b, err := e.journal.Backup(r.Context(), journal.Part{Journal: r.FormValue("journal"), Until: since}, w)
	switch {
	case errors.Is(err, journal.ErrOtherJournal):
		http.Error(w, err.Error(), http.StatusConflict)
	case err != nil && r.Context().Err() == nil:
		e.log.Warn("backup ended", "err", err)
		panic(http.ErrAbortHandler) // so that the client sees it too
	case err == nil:
		e.log.Info("journal was backed up", "records", b.Keys, "values", b.Values, "bytes", b.Bytes, "head", b.Head)
	}
}

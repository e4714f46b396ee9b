package engine

import (
	"bufio"
	"context"
	"errors"
	"fmt"
	"io"
	"math"
	"net/http"
	"net/url"
	"slices"
	"strings"
	"syscall"

	"newswire/cmd/newswire/internal/config"
	"newswire/fanout/journal"
)

// Tail prints the journal's messages as JSON lines, from the one with the id
// from on (empty: from the first that is kept), those with a tag only when tag
// is set. A running engine is asked, and then Tail goes on until ctx ends; when
// none runs it reads the journal itself and ends with it.
func Tail(ctx context.Context, cfg config.Config, from, tag string, w io.Writer) error {
	query := url.Values{"from": {from}, "tag": {tag}}
	address := "http://" + reachable(cfg.Gateway.Admin) + "/v1/tail?" + query.Encode()
	req, err := http.NewRequestWithContext(ctx, http.MethodGet, address, nil)
	if err != nil {
		return fmt.Errorf("tail: %w", err)
	}
	resp, err := http.DefaultClient.Do(req)
	if errors.Is(err, syscall.ECONNREFUSED) {
		return tailAtRest(ctx, cfg, from, tag, w)
	}
	if err != nil {
		return ended(ctx, err)
	}
	defer resp.Body.Close()
	if resp.StatusCode != http.StatusOK {
		text, _ := bufio.NewReader(resp.Body).ReadString('\n')
		return fmt.Errorf("tail: the engine at %s says: %s", cfg.Gateway.Admin, strings.TrimSpace(text))
	}
	_, err = io.Copy(w, resp.Body)
	return ended(ctx, err)
}

// reachable turns an address to listen on into one to connect to.
func reachable(address string) string {
	if strings.HasPrefix(address, ":") {
		return "127.0.0.1" + address
	}
	return address
}

// ended tells the user's own end from a fault.
func ended(ctx context.Context, err error) error {
	if err == nil || ctx.Err() != nil {
		return nil
	}
	return fmt.Errorf("tail: %w", err)
}

// tailAtRest reads the journal of an engine that does not run.
func tailAtRest(ctx context.Context, cfg config.Config, from, tag string, w io.Writer) error {
	j, err := OpenAtRest(cfg)
	if err != nil {
		return fmt.Errorf("tail: %w", err)
	}
	after, err := before(j, from)
	if err == nil {
		err = printTail(ctx, j, after, j.Head(), tag, w, func() {})
	}
	return errors.Join(err, j.Close())
}

// serveTail follows the journal until the client leaves.
func (e *engine) serveTail(w http.ResponseWriter, r *http.Request) {
	after, err := before(e.journal, r.FormValue("from"))
	if err != nil {
		http.Error(w, err.Error(), http.StatusBadRequest)
		return
	}
	w.Header().Set("Content-Type", "application/x-ndjson")
	flush := func() { _ = http.NewResponseController(w).Flush() }
	flush()
	err = printTail(r.Context(), e.journal, after, forEver, r.FormValue("tag"), w, flush)
	if err != nil && r.Context().Err() == nil {
		e.log.Warn("tail ended", "err", err)
	}
}

// before gives the place behind which the message from comes.
func before(j *journal.Journal, from string) (journal.Seq, error) {
	if from == "" {
		return j.Oldest() - 1, nil
	}
	id, err := journal.ParseID(from)
	if err != nil {
		return 0, fmt.Errorf("from %.40q: %w", from, err)
	}
	place, err := j.Find(id)
	if err != nil {
		return 0, err
	}
	if place.Exact {
		return place.Seq - 1, nil
	}
	return place.Seq, nil
}

const forEver journal.Seq = math.MaxUint64

// printTail prints messages behind after, up to last.
func printTail(ctx context.Context, j *journal.Journal, after, last journal.Seq, tag string, w io.Writer, flush func()) error {
	for after < last {
		entries, err := j.Next(ctx, after, 256)
		if err != nil {
			return err
		}
		var lines []byte
		for _, e := range entries {
			after = e.Seq
			if m := e.Message; m != nil && (tag == "" || slices.Contains(m.Tags, tag)) {
				lines = append(m.AppendJSON(lines), '\n')
			}
		}
		if _, err := w.Write(lines); err != nil {
			return err
		}
		flush()
	}
	return nil
}

package engine

import (
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"net/http"
	"os"
	"strings"
	"syscall"

	"newswire/cdc"
	"newswire/cmd/newswire/internal/config"
)

// resyncRequest asks the listener's stage to resync between two runs.
type resyncRequest struct {
	ctx      context.Context
	progress func(string)
	done     chan error // gets the outcome
}

// intake runs the listener, and resyncs when it is asked to. After a gap it
// waits for that: what is in the journal goes on being delivered.
func (e *engine) intake(ctx context.Context) error {
	for ctx.Err() == nil {
		running, stop := context.WithCancel(ctx)
		ended := make(chan error, 1)
		go func() { ended <- e.listener.Run(running) }()
		var request resyncRequest
		select {
		case err := <-ended:
			ended <- nil
			if err != nil {
				e.log.Error("intake has stopped; what is in the journal goes on being delivered", "err", err)
			}
			select {
			case request = <-e.resyncs:
			case <-ctx.Done():
			}
		case request = <-e.resyncs:
		case <-ctx.Done():
		}
		stop()
		<-ended
		if request.done != nil {
			request.done <- e.resync(ctx, request)
		}
	}
	return nil
}

// resync ends with the engine as well as with whoever asked: it can be run again.
func (e *engine) resync(ctx context.Context, request resyncRequest) error {
	asked, stop := context.WithCancel(request.ctx)
	defer stop()
	defer context.AfterFunc(ctx, stop)()
	return cdc.Resync(asked, ListenerConfig(e.cfg), e.journal, request.progress)
}

// resyncLine is one line of the answer to POST /v1/resync. The last one has
// done or error.
type resyncLine struct {
	Progress string `json:"progress,omitempty"`
	Done     bool   `json:"done,omitempty"`
	Error    string `json:"error,omitempty"`
}

func (e *engine) serveResync(w http.ResponseWriter, r *http.Request) {
	w.Header().Set("Content-Type", "application/x-ndjson")
	say := func(line resyncLine) {
		_ = json.NewEncoder(w).Encode(line)
		_ = http.NewResponseController(w).Flush() // the client is gone, or has it
	}
	request := resyncRequest{r.Context(), func(text string) { say(resyncLine{Progress: text}) }, make(chan error, 1)}
	select {
	case e.resyncs <- request:
	case <-r.Context().Done():
		return
	}
	if err := <-request.done; err != nil {
		say(resyncLine{Error: err.Error()})
		return
	}
	e.log.Info("resynced with the database")
	say(resyncLine{Done: true})
}

// Resync makes up for what was never read, see cdc.Resync; progress is
// printed to w. A running engine does it, else this process opens the journal.
func Resync(ctx context.Context, cfg config.Config, w io.Writer) error {
	req, err := http.NewRequestWithContext(ctx, http.MethodPost, "http://"+reachable(cfg.Gateway.Admin)+"/v1/resync", nil)
	if err != nil {
		return fmt.Errorf("resync: %w", err)
	}
	resp, err := http.DefaultClient.Do(req)
	if errors.Is(err, syscall.ECONNREFUSED) {
		return resyncAtRest(ctx, cfg, w)
	}
	if err != nil {
		return fmt.Errorf("resync: %w", err)
	}
	defer resp.Body.Close()
	if resp.StatusCode != http.StatusOK {
		return fmt.Errorf("resync: what answers on gateway.admin %s is not this engine (%s); correct gateway.admin", cfg.Gateway.Admin, resp.Status)
	}
	for lines := json.NewDecoder(resp.Body); ; {
		var line resyncLine
		switch err := lines.Decode(&line); {
		case err != nil:
			return fmt.Errorf("resync: the engine ended before it was done (%w); run it again", err)
		case line.Error != "":
			return errors.New(strings.TrimSpace(line.Error))
		case line.Done:
			return nil
		}
		fmt.Fprintln(w, line.Progress)
	}
}

// resyncAtRest resyncs the journal of an engine that does not run.
func resyncAtRest(ctx context.Context, cfg config.Config, w io.Writer) error {
	if err := os.MkdirAll(cfg.Journal.Dir, 0o750); err != nil {
		return dirFault(err)
	}
	j, err := openAtRest(cfg)
	if err != nil {
		return fmt.Errorf("resync: %w", err)
	}
	running, stop := context.WithCancel(context.WithoutCancel(ctx))
	written := make(chan error, 1)
	go func() { written <- j.Run(running) }()
	err = cdc.Resync(ctx, ListenerConfig(cfg), j, func(text string) { fmt.Fprintln(w, text) })
	stop()
	return errors.Join(err, <-written, j.Close())
}

package compensate

import (
	"context"
	"errors"
	"log/slog"
	"sync"
	"time"
)

// complainAgain is how often a fault that lasts is told of.
const complainAgain = 30 * time.Second

// complaints keep a fault that recurs several times a second from filling the
// log: each is told of when it begins, and then now and again while it lasts.
type complaints struct {
	log *slog.Logger // fixed

	mu   sync.Mutex // guards told
	told map[string]time.Time
}

func newComplaints(log *slog.Logger) *complaints {
	return &complaints{log: log, told: make(map[string]time.Time)}
}

// warn tells of a fault of who, such as a channel, unless it did of late.
func (c *complaints) warn(what, who string, err error, more ...any) {
	if err == nil || errors.Is(err, context.Canceled) {
		return
	}
	c.mu.Lock()
	defer c.mu.Unlock()
	key, now := what+"\x00"+who, time.Now()
	if last, there := c.told[key]; there && now.Sub(last) < complainAgain {
		return
	}
	c.told[key] = now
	c.log.Warn(what, append(more, "err", err)...)
}

// over says that the faults have ended: the next are news.
func (c *complaints) over() {
	c.mu.Lock()
	defer c.mu.Unlock()
	clear(c.told)
}

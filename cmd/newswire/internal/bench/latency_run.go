//go:build linux

package bench

import (
	"bytes"
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"net/http"
	"net/netip"
	"os/exec"
	"path/filepath"
	"slices"
	"strconv"
	"strings"
	"time"

	"github.com/jackc/pgx/v5"

	"newswire/cdc/cluster"
	"newswire/cmd/newswire/internal/bench/crowd"
)

// A title tells the article's number among those of its tag, and when its commit
// was sent, in nanoseconds since 1970.
const (
	titleBegins = "news "
	titleFormat = titleBegins + "%06d %019d"
	titleLength = len(titleBegins) + titleNumber + len(" ") + titleStamp
	titleNumber = 6
	titleStamp  = 19
)

// readTitle finds the first whole title in data and gives what follows it; where
// there is none, the part that may become one.
func readTitle(data []byte) (n int, at int64, behind []byte, ok bool) {
	for {
		i := bytes.Index(data, []byte(titleBegins))
		if i < 0 {
			return 0, 0, data[max(0, len(data)-len(titleBegins)):], false
		}
		if data = data[i:]; len(data) < titleLength {
			return 0, 0, data, false
		}
		text := string(data[len(titleBegins):titleLength])
		n, err := strconv.Atoi(text[:titleNumber])
		at, wrong := strconv.ParseInt(text[titleNumber+1:], 10, 64)
		if err == nil && wrong == nil {
			return n, at, data[titleLength:], true
		}
		data = data[len(titleBegins):]
	}
}

// measurement has readers and tags of its own, so that nobody is brought what
// was committed in another one.
type measurement struct {
	name string
	tags int
}

func (m measurement) tag(n int) string { return fmt.Sprintf("%s-%d", m.name, n%m.tags) }

func (m measurement) hello(reader int) []byte {
	return hello(fmt.Sprintf("%s-reader-%d", m.name, reader), m.tag(reader), "")
}

// each is how many articles of each tag a measurement has.
func (l Latency) each(tags int) int { return max(1, int(l.For.Seconds()*float64(l.Rate))/tags) }

// save commits articles of each tag at the benchmark's pace, tag after tag.
func (l Latency) save(ctx context.Context, g *ground, m measurement) error {
	conn, err := pgx.Connect(ctx, g.dsn())
	if err != nil {
		return err
	}
	defer conn.Close(context.WithoutCancel(ctx))
	pace := time.NewTicker(time.Second / time.Duration(l.Rate))
	defer pace.Stop()
	summary := strings.Repeat("x", 200)
	for n := range m.tags * l.each(m.tags) {
		select {
		case <-pace.C:
		case <-ctx.Done():
			return ctx.Err()
		}
		_, err := conn.Exec(ctx, "INSERT INTO articles (title, summary, url, tags) VALUES ($1, $2, 'https://news.example.com/a', ARRAY[$3])",
			fmt.Sprintf(titleFormat, n/m.tags, time.Now().UnixNano()), summary, m.tag(n))
		if err != nil {
			return fmt.Errorf("save an article: %w", err)
		}
	}
	return nil
}

// piped measures pg_recvlogical, which writes to a pipe what it gets.
func (l Latency) piped(ctx context.Context, g *ground) (d delays, err error) {
	bin, err := cluster.FindBinaries(l.PGBin)
	if err != nil {
		return nil, err
	}
	ctx, stop := context.WithCancel(ctx)
	defer stop()
	cmd := exec.CommandContext(ctx, filepath.Join(bin, "pg_recvlogical"), "-d", g.dsn(), "--slot", yardstick(0), "--start", "--no-loop", "-f", "-",
		"-o", "proto_version=1", "-o", "publication_names="+publication)
	out, err := cmd.StdoutPipe()
	if err != nil {
		return nil, err
	}
	if err := cmd.Start(); err != nil {
		return nil, fmt.Errorf("run pg_recvlogical: %w", err)
	}
	saved := make(chan error, 1)
	from := time.Now().UnixNano() // what the slot has from before does not count
	go func() { saved <- l.save(ctx, g, measurement{"pipe", 1}) }()
	d, err = readPipe(out, from, l.each(1))
	if err != nil {
		stop()
	}
	err = errors.Join(err, <-saved)
	stop()
	_ = cmd.Wait() // says that it was stopped
	return d, err
}

// readPipe reads until it has had count articles that were sent behind from.
func readPipe(pipe io.Reader, from int64, count int) (d delays, err error) {
	buffer := make([]byte, 64<<10)
	var data []byte
	for len(d) < count {
		n, err := pipe.Read(buffer)
		now := time.Now().UnixNano()
		if err != nil {
			return nil, fmt.Errorf("read from pg_recvlogical: %w", err)
		}
		data = append(data, buffer[:n]...)
		for {
			_, at, behind, ok := readTitle(data)
			data = behind
			if !ok {
				break
			}
			if at >= from {
				d = append(d, time.Duration(now-at))
			}
		}
		data = slices.Clone(data)
	}
	slices.Sort(d)
	return d, nil
}

// served measures the engine, whose readers are spread over tags; first is that
// of each article's first reader, where all follow one tag.
func (l Latency) served(ctx context.Context, g *ground, e *engine, m measurement) (d, first delays, err error) {
	if err := e.start(); err != nil {
		return nil, nil, err
	}
	defer func() { err = errors.Join(err, e.stop()) }()
	if err := e.ready(ctx); err != nil {
		return nil, nil, err
	}
	address, err := e.gateway()
	if err != nil {
		return nil, nil, err
	}
	c, err := crowd.New(crowd.Config{
		Address: address,
		Ack:     true,
		Hello:   m.hello,
		Tail: func(payload []byte) (int, int64, bool) {
			n, at, _, ok := readTitle(payload)
			return n, at, ok
		},
	})
	if err != nil {
		return nil, nil, err
	}
	defer func() { err = errors.Join(err, c.Close()) }()
	if err := c.Connect(l.Readers, 0); err != nil {
		return nil, nil, err
	}
	c.Record(0, l.each(m.tags))
	saved := make(chan error, 1)
	go func() { saved <- l.save(ctx, g, m) }()
	err = c.Until(func() bool { return c.Delivered >= l.Readers*l.each(m.tags) || ctx.Err() != nil })
	return c.Delays(), c.Slowest(1), errors.Join(err, <-saved)
}

// gateway asks the engine where readers connect.
func (e *engine) gateway() (address netip.AddrPort, err error) {
	answer, err := http.Get("http://" + e.admin + "/v1/status")
	if err != nil {
		return address, err
	}
	defer answer.Body.Close()
	var status struct {
		Addresses struct{ Gateway netip.AddrPort }
	}
	err = json.NewDecoder(answer.Body).Decode(&status)
	return status.Addresses.Gateway, err
}

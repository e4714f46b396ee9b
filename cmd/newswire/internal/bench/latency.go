//go:build linux

package bench

import (
	"context"
	"errors"
	"fmt"
	"io"
	"log/slog"
	"time"
)

// Latency says who waits for how many commits.
type Latency struct {
	Readers int
	Rate    int           // commits of one article a second
	For     time.Duration // of one measurement
	Runs    int           // of each
	PGBin   string        // directory of PostgreSQL's programs; "" finds them
	Stdout  io.Writer
}

// sections are the numbers of tags over which the readers are spread; each
// article has one of them.
var sections = []int{100, 1}

// Run measures how long it takes from the sending of a commit until
// pg_recvlogical has it in its pipe, and until the engine's readers have it on
// their sockets, in turn. All share the machine.
func (l Latency) Run(ctx context.Context, log *slog.Logger) (err error) {
	if l.Readers < sections[0] || l.Rate < 1 || l.For < time.Second || l.Runs < 1 {
		return fmt.Errorf("latency benchmark: want %d readers or more, a commit a second or more, a second or more, and at least one run", sections[0])
	}
	if err := enoughDescriptors(l.Readers); err != nil {
		return err
	}
	g, err := newGround(ctx, l.PGBin, log)
	if err != nil {
		return err
	}
	defer func() { err = errors.Join(err, g.close()) }()
	if err := g.exec(ctx, "SELECT pg_create_logical_replication_slot('"+yardstick(0)+"', 'pgoutput')"); err != nil {
		return err
	}
	e, err := newEngine(ctx, g, 0)
	if err != nil {
		return err
	}
	var pipe []delays
	ours := make([][]delays, len(sections))
	for run := range l.Runs {
		d, err := l.piped(ctx, g)
		if err != nil {
			return err
		}
		pipe = append(pipe, d)
		fmt.Fprintf(l.Stdout, "run %d  pg_recvlogical's pipe                  %s\n", run+1, d)
		for i, tags := range sections {
			d, first, err := l.served(ctx, g, e, measurement{fmt.Sprintf("run-%d-%d", run, tags), tags})
			if err != nil {
				return err
			}
			ours[i] = append(ours[i], d)
			fmt.Fprintf(l.Stdout, "run %d  newswire, %5d readers of each article  %s", run+1, l.Readers/tags, d)
			if tags == 1 {
				fmt.Fprintf(l.Stdout, "; the first of them %s", first)
			}
			fmt.Fprintln(l.Stdout)
		}
	}
	for i, tags := range sections {
		p50 := middle(ours[i], 0.5) - middle(pipe, 0.5)
		fmt.Fprintf(l.Stdout, "p50 behind pg_recvlogical's, %d readers of each article: %.2f ms (medians of %d)\n", l.Readers/tags, p50.Seconds()*1000, l.Runs)
	}
	return nil
}

// delays are latencies, in order; at least one.
type delays []time.Duration

func (d delays) at(part float64) time.Duration { return d[int(float64(len(d)-1)*part)] }

func (d delays) String() string {
	return fmt.Sprintf("p50 %6.2f ms, p99 %6.2f ms", d.at(0.5).Seconds()*1000, d.at(0.99).Seconds()*1000)
}

// middle is the median of some runs' quantile.
func middle(runs []delays, part float64) time.Duration {
	var all []time.Duration
	for _, d := range runs {
		all = append(all, d.at(part))
	}
	return median(all)
}

package journal

import (
	"context"
	"fmt"
	"log/slog"
	"os"
	"path/filepath"
	"sync/atomic"
	"time"
)

// Badger maps its files into memory, so a full disk does not give it an error
// but ends the process. Therefore the journal stops short of that, in three
// steps: intake waits while less than the reserve is free; the ballast is given
// up where others go on filling the disk, so that acknowledgements and
// hand-overs have room; and when that is used up nothing is written. Each step
// is taken back when there is room again.

// lookEvery is how often the disk is looked at beside the writing, which looks
// before each transaction.
const lookEvery = 200 * time.Millisecond

// ground watches the disk of a journal.
type ground struct {
	dir     string               // fixed, as are the next four
	reserve Size                 // free space and ballast below which intake waits
	ballast Size                 // that the file has when it is there
	log     *slog.Logger         //
	disk    func() (Disk, error) // what the file system says

	at atomic.Pointer[Room] // stored by look
}

// stand checks the disk before the journal is opened, and gives up the ballast
// where Badger might need its room to open.
func stand(cfg Config, log *slog.Logger) (*ground, error) {
	g := &ground{dir: cfg.Dir, reserve: cfg.Reserve, log: log, disk: func() (Disk, error) { return DiskOf(cfg.Dir) }}
	d, err := g.disk()
	if err != nil {
		return nil, err
	}
	if g.reserve == 0 {
		g.reserve = d.Reserve()
	}
	g.ballast = min(g.reserve/4*3, ballastMost)
	held := BallastIn(g.dir)
	if err := d.fit(g.dir, g.reserve, held); err != nil {
		return nil, err
	}
	if held > 0 && d.Free < g.ballast/2 {
		if err := dropBallast(g.dir); err != nil {
			return nil, err
		}
		held = 0
	}
	g.at.Store(&Room{Free: d.Free, Size: d.Size, Reserve: g.reserve, Ballast: held, Low: d.Size > 0 && d.Free+held < g.reserve})
	return g, nil
}

// judge gives what follows from how much is free. What has waited goes on only
// when there is clearly room, so that it does not flutter.
func (g *ground) judge(before Room, d Disk) Room {
	r := Room{Free: d.Free, Size: d.Size, Reserve: g.reserve, Ballast: before.Ballast}
	if d.Size == 0 {
		return r
	}
	margin, room := Size(0), d.Free+before.Ballast
	if before.Low {
		margin = g.reserve / 8
	}
	r.Low = room < g.reserve+margin
	switch {
	case r.Ballast > 0 && d.Free < g.ballast/2:
		r.Ballast = 0
	case r.Ballast == 0 && d.Free >= g.ballast && room >= g.reserve+margin:
		r.Ballast = g.ballast
	}
	least := g.ballast / 8
	if before.Out {
		least = g.ballast / 4
	}
	r.Out = before.Ballast == 0 && d.Free < least
	return r
}

// look looks at the disk and does what follows. A disk that does not tell is
// one that is as it was.
func (g *ground) look() Room {
	before := *g.at.Load()
	d, err := g.disk()
	if err != nil {
		return before
	}
	r := g.judge(before, d)
	switch {
	case r.Ballast < before.Ballast:
		if err := dropBallast(g.dir); err != nil {
			g.log.Error("the journal's ballast cannot be given up", "dir", g.dir, "err", err)
			r.Ballast = before.Ballast
		} else {
			g.log.Warn("the disk is full but for the journal's ballast, which is given up", "dir", g.dir, "free", r.Free.String())
		}
	case r.Ballast > before.Ballast:
		if err := makeBallast(g.dir, g.ballast); err != nil {
			r.Ballast = 0 // next time
		}
	}
	switch {
	case r.Low && !before.Low:
		g.log.Warn("intake waits for room on the journal's disk; deliveries, acknowledgements and hand-overs go on",
			"dir", g.dir, "free", (r.Free + r.Ballast).String(), "reserve", g.reserve.String())
	case !r.Low && before.Low:
		g.log.Info("intake goes on: there is room on the journal's disk", "dir", g.dir, "free", (r.Free + r.Ballast).String())
	}
	if r.Out && !before.Out {
		g.log.Error("nothing is written until there is room on the journal's disk", "dir", g.dir, "free", r.Free.String())
	}
	g.at.Store(&r)
	if r.Free < 2*g.reserve {
		g.secure()
	}
	return r
}

// secure gives the files that are written to next the blocks that they will
// need: a write to a file mapped into memory that finds no room ends the
// process. Far from a full disk it is not worth the looking.
func (g *ground) secure() {
	logs, _ := filepath.Glob(filepath.Join(g.dir, "*.mem")) // the pattern is right
	for _, name := range logs {
		f, err := os.OpenFile(name, os.O_RDWR, 0)
		if err != nil {
			continue // its table has just been written
		}
		if info, err := f.Stat(); err == nil {
			_ = keep(f, info.Size()) // or as far as there is room
		}
		_ = f.Close() // nothing was written
	}
}

// err tells why intake waits; nil when it does not.
func (r Room) err(dir string) error {
	switch {
	case r.Out:
		return fmt.Errorf("journal.dir %q: the disk is full (%s of %s are free), so nothing is written: free some space on it", dir, r.Free, r.Size)
	case r.Low:
		return fmt.Errorf("journal.dir %q: %s of %s are free, less than journal.reserve (%s), so intake waits: free some space on the disk, or shorten journal.retention",
			dir, r.Free+r.Ballast, r.Size, r.Reserve)
	}
	return nil
}

// Room tells how much room the journal has.
func (j *Journal) Room() Room { return *j.ground.at.Load() }

// Full tells why intake waits although the journal works; nil when it does not.
func (j *Journal) Full() error { return j.Room().err(j.ground.dir) }

// lookAtDisk looks, and wakes who waits for room.
func (j *Journal) lookAtDisk() Room {
	j.looking.Lock()
	defer j.looking.Unlock()
	before := j.Room()
	r := j.ground.look()
	if before.Low && !r.Low || before.Out && !r.Out {
		j.mu.Lock()
		j.wakeWritersLocked()
		j.mu.Unlock()
	}
	return r
}

// watchDisk looks again and again, until ctx ends.
func (j *Journal) watchDisk(ctx context.Context) {
	tick := time.NewTicker(lookEvery)
	defer tick.Stop()
	for {
		select {
		case <-tick.C:
			j.lookAtDisk()
		case <-ctx.Done():
			return
		}
	}
}

// waitDisk returns once there is room to write in, before a transaction is
// begun; at the end there is nothing to wait for.
func (j *Journal) waitDisk(ctx context.Context) error {
	for {
		r := j.lookAtDisk()
		if !r.Out {
			return nil
		}
		select {
		case <-time.After(lookEvery):
		case <-ctx.Done():
			return r.err(j.ground.dir)
		}
	}
}

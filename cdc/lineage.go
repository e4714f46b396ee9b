package cdc

import (
	"bufio"
	"bytes"
	"context"
	"fmt"
	"strconv"
	"strings"

	"github.com/jackc/pglogrepl"
	"github.com/jackc/pgx/v5/pgconn"

	"newswire/fanout/journal"
)

// server is who answers on a replication connection.
type server struct {
	system   string
	timeline int32
	left     []branch // the timelines that it has left, oldest first
	unknown  bool     // its history file is missing, so left tells nothing
}

// branch is a timeline with the position at which it was left for the next.
type branch struct {
	timeline int32
	until    journal.LSN
}

// identify asks who answers, and how it came to its timeline.
func identify(ctx context.Context, conn *pgconn.PgConn) (server, error) {
	ctx, cancel := context.WithTimeout(ctx, queryTimeout)
	defer cancel()
	system, err := pglogrepl.IdentifySystem(ctx, conn)
	if err != nil {
		return server{}, fmt.Errorf("identify system: %w", err)
	}
	s := server{system: system.SystemID, timeline: system.Timeline}
	if s.timeline == 1 {
		return s, nil
	}
	history, err := pglogrepl.TimelineHistory(ctx, conn, s.timeline)
	if pgCode(err) == codeUndefinedFile {
		s.unknown = true
		return s, nil
	}
	if err != nil {
		return s, fmt.Errorf("read history of timeline %d: %w", s.timeline, err)
	}
	if s.left, err = parseHistory(history.Content); err != nil {
		return s, fmt.Errorf("read history of timeline %d: %w", s.timeline, err)
	}
	return s, nil
}

// parseHistory reads a timeline's history file: on each line the number of an
// earlier timeline, the position at which it was left, and why.
func parseHistory(content []byte) (left []branch, err error) {
	for lines := bufio.NewScanner(bytes.NewReader(content)); lines.Scan(); {
		fields := strings.Fields(lines.Text())
		if len(fields) == 0 || strings.HasPrefix(fields[0], "#") {
			continue
		}
		if len(fields) < 2 {
			return nil, fmt.Errorf("line %.80q: %w", lines.Text(), ErrMalformed)
		}
		timeline, errTimeline := strconv.ParseInt(fields[0], 10, 32)
		until, errUntil := journal.ParseLSN(fields[1])
		if errTimeline != nil || errUntil != nil {
			return nil, fmt.Errorf("line %.80q: %w", lines.Text(), ErrMalformed)
		}
		left = append(left, branch{int32(timeline), until})
	}
	return left, nil
}

// begin gives the source of a journal that begins with this server, or with
// this server anew: whatever its timelines, all of it is one epoch.
func (s server) begin(slot string, epoch uint16) journal.Source {
	return journal.Source{SystemID: s.system, Timeline: s.timeline, Slot: slot, Epoch: epoch, Past: s.past(s.left, epoch)}
}

func (s server) past(left []branch, epoch uint16) (past []journal.Past) {
	for _, b := range left {
		past = append(past, journal.Past{Timeline: b.timeline, Until: b.until, Epoch: epoch})
	}
	return past
}

// succeed gives the source of a journal that goes on with this server, having
// accepted everything up to there: the same one, or one with further timelines.
// It is a gap when the server does not have all that the journal has.
//
// Positions of all timelines that lead from one to the next make one line: each
// begins where the one before was left. So what a server that took over sends
// again is recognised by its position, and each commit has the epoch of the
// timeline that it was made on, wherever it is read.
func (s server) succeed(known journal.Source, accepted journal.LSN) (journal.Source, error) {
	now := known
	if known.SystemID != s.system {
		return now, gap("the journal was read from PostgreSQL system %s, this is system %s", known.SystemID, s.system)
	}
	if s.timeline < known.Timeline {
		return now, gap("the server is on timeline %d, which the journal has left for timeline %d: this is a former primary; name the present one in postgres.dsn, or to go back to this one",
			s.timeline, known.Timeline)
	}
	if err := s.descends(known); err != nil {
		return now, err
	}
	if s.timeline == known.Timeline {
		if len(now.Past) == 0 {
			now.Past = s.past(s.left, now.Epoch)
		}
		return now, nil
	}
	hops, ok := s.since(known.Timeline)
	if !ok {
		return now, gap("the server is on timeline %d, which does not come from timeline %d of the journal", s.timeline, known.Timeline)
	}
	// What was read of rows as of a snapshot must be there, too.
	if reached := max(accepted, known.Filled); reached > hops[0].until {
		return now, gap("the journal was read up to %s on timeline %d, which the server has left at %s for timeline %d: what was committed in between is not in the database any more",
			reached, known.Timeline, hops[0].until, s.timeline)
	}
	now.Timeline = s.timeline
	now.Past = append([]journal.Past(nil), known.Past...)
	for _, hop := range hops {
		now.Past = append(now.Past, s.past([]branch{hop}, now.Epoch)...)
		now.Epoch++
	}
	return now, nil
}

// descends compares the timelines that both know: a number alone may stand for
// two histories, when two servers were promoted apart from each other.
func (s server) descends(known journal.Source) error {
	if s.unknown {
		return nil
	}
	for _, p := range known.Past {
		hops, ok := s.since(p.Timeline)
		if !ok || hops[0].until != p.Until {
			return gap("the server is on timeline %d of another history than the journal's, which left timeline %d at %s", s.timeline, p.Timeline, p.Until)
		}
	}
	return nil
}

// since gives the branches from a timeline on, that one first.
func (s server) since(timeline int32) ([]branch, bool) {
	for i, b := range s.left {
		if b.timeline == timeline {
			return s.left[i:], true
		}
	}
	return nil, false
}

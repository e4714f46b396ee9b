package cdc

import (
	"context"
	"errors"
	"fmt"
	"sync/atomic"
	"time"

	"github.com/jackc/pglogrepl"
	"github.com/jackc/pgx/v5/pgconn"
	"github.com/jackc/pgx/v5/pgproto3"
	"golang.org/x/sync/errgroup"

	"newswire/fanout/journal"
	"newswire/fanout/journal/fault"
)

const (
	// settle is how long positions are gathered before one is recorded or
	// reported: a tenth of a second of repeats after a crash, against a sync
	// and a packet for each keepalive of a busy server.
	settle = 100 * time.Millisecond
	// soon is how often it is looked whether everything is synced.
	soon = settle / 5
	// statusMost is the longest time without a status update.
	statusMost = 10 * time.Second
	// writeTimeout ends a stream whose server takes no status updates.
	writeTimeout = 10 * time.Second
	// silenceDefault stands in for a wal_sender_timeout of 0.
	silenceDefault = 60 * time.Second
)

// stream is one replication connection, from START_REPLICATION to its end.
//
// Three goroutines share the work, so that a journal that takes its time stops
// neither the socket's reader nor the status updates: receive reads and
// decodes, apply gives to the journal, report alone writes to the socket.
type stream struct {
	listener *Listener      // fixed
	conn     *pgconn.PgConn // receive reads, report writes
	from     journal.LSN    // where the slot stood; fixed
	interval time.Duration  // longest time without a status update; fixed
	silence  time.Duration  // of the server, after which it counts as gone; fixed

	inbox    *inbox        // receive adds, and flushes as it reads conn; apply takes
	replyNow chan struct{} // receive pokes, report receives; never closed
	heard    atomic.Int64  // when receive last read something, Unix nanoseconds
	decoder  decoder       // owned by receive
	pace     pace          // apply stores, report loads

	journal   paced
	assembler *assembler  // owned by apply
	idle      journal.LSN // owned by apply; read up to here, not yet recorded
}

func newStream(l *Listener, conn *pgconn.PgConn, in *inbox, c *catalog, source journal.Source, slot slotState) *stream {
	s := &stream{
		listener: l,
		conn:     conn,
		from:     slot.confirmed,
		interval: statusMost,
		silence:  silenceDefault,
		inbox:    in,
		replyNow: make(chan struct{}, 1),
	}
	s.journal = paced{l.journal, &s.pace}
	s.assembler = newAssembler(l.tables, pacedShapes{c, &s.pace}, source, s.journal, l.metrics)
	s.assembler.log = l.log
	if t := slot.senderTimeout; t > 0 {
		s.interval = max(min(s.interval, t/3), settle)
		s.silence = t
	}
	s.silence += l.limits.silence
	return s
}

// run serves the stream until ctx or the connection ends, and hangs up.
func (s *stream) run(ctx context.Context) error {
	s.heard.Store(time.Now().UnixNano())
	g, within := errgroup.WithContext(ctx)
	g.Go(func() error { return s.receive(within) })
	g.Go(func() error { return s.apply(within) })
	g.Go(func() error { return s.report(within) })
	g.Go(func() error { return s.listener.probe(within) })
	err := g.Wait()
	_ = s.status(s.listener.journal.Confirmed(), false) // a courtesy: it spares repeats, where the server still listens
	hangUp(s.conn)
	return err
}

// receive reads the socket. A full inbox stops it, which stops the server.
func (s *stream) receive(ctx context.Context) error {
	// pgx watches a context anew for each message, which takes as long as
	// reading it does; so a deadline that has passed tells it the end instead.
	stop := context.AfterFunc(ctx, func() { _ = s.conn.Conn().SetReadDeadline(time.Unix(1, 0)) })
	defer stop()
	var deadline time.Time
	now := time.Now()
	for {
		// Pushing the deadline at each message would cost a system call each.
		if deadline.Sub(now) < s.silence {
			deadline = now.Add(s.silence + s.listener.limits.silence)
			if err := s.conn.Conn().SetReadDeadline(deadline); err != nil {
				return fmt.Errorf("read stream: %w", err)
			}
			if ctx.Err() != nil { // the deadline may have taken the place of the one that tells so
				return ctx.Err()
			}
		}
		raw, err := s.conn.ReceiveMessage(context.Background())
		if err != nil {
			return errors.Join(ctx.Err(), fmt.Errorf("read stream: %w", err))
		}
		if s.inbox.added == 0 { // the others came with it
			now = time.Now()
			s.heard.Store(now.UnixNano())
		}
		e, ok, err := s.read(raw)
		if err != nil {
			return err
		}
		if !ok {
			continue
		}
		fault.Point(fault.Decoded)
		waited, err := s.inbox.add(ctx, e)
		if err != nil {
			return err
		}
		if waited {
			now = time.Now()
		}
	}
}

// errEnded reports a server that closes the stream in good order.
var errEnded = errors.New("the server has ended the stream")

// read makes an event of what the server sent; ok is false where it is none.
func (s *stream) read(raw pgproto3.BackendMessage) (e event, ok bool, err error) {
	switch raw := raw.(type) {
	case *pgproto3.CopyData:
		return s.readCopy(raw.Data)
	case *pgproto3.ErrorResponse:
		return e, false, s.refused(pgconn.ErrorResponseToPgError(raw))
	case *pgproto3.NoticeResponse:
		return e, false, s.noticed(raw)
	case *pgproto3.CopyDone, *pgproto3.CommandComplete:
		return e, false, errEnded
	}
	return e, false, nil // parameters
}

func (s *stream) readCopy(data []byte) (e event, ok bool, err error) {
	if len(data) == 0 {
		return e, false, fmt.Errorf("read stream: %w", ErrTruncated)
	}
	switch data[0] {
	case pglogrepl.PrimaryKeepaliveMessageByteID:
		k, err := pglogrepl.ParsePrimaryKeepaliveMessage(data[1:])
		if err != nil {
			return e, false, fmt.Errorf("read keepalive: %w: %w", ErrMalformed, err)
		}
		if k.ReplyRequested {
			signal(s.replyNow)
		}
		return event{sent: journal.LSN(k.ServerWALEnd)}, true, nil
	case pglogrepl.XLogDataByteID:
		x, err := pglogrepl.ParseXLogData(data[1:])
		if err != nil {
			return e, false, fmt.Errorf("read stream: %w: %w", ErrTruncated, err)
		}
		m, err := s.decoder.decode(x.WALData)
		return event{message: m, bytes: len(x.WALData)}, err == nil, err
	}
	return e, false, nil // a kind of a later version, which proto_version 1 does not send
}

// apply gives to the journal what was received, in order. It blocks while the
// journal's queue is full.
func (s *stream) apply(ctx context.Context) error {
	tick := time.NewTicker(settle)
	defer tick.Stop()
	var events []event
	for {
		s.pace.busy.Store(false)
		s.inbox.rest()
		select {
		case <-s.inbox.filled:
			events = s.inbox.take(events)
			s.pace.busy.Store(true)
			for _, e := range events {
				if err := s.take(ctx, e); err != nil {
					return err
				}
				s.pace.steps.Add(1)
			}
		case <-tick.C:
			s.pace.busy.Store(true)
			if err := s.advance(ctx); err != nil {
				return err
			}
		case <-ctx.Done():
			return ctx.Err()
		}
	}
}

func (s *stream) take(ctx context.Context, e event) error {
	if e.message == nil {
		// A keepalive within a transaction stands before its commit and says
		// nothing about what of it has been sent.
		if s.assembler.open == nil {
			s.idle = max(s.idle, e.sent)
		}
		return nil
	}
	done, idle, err := s.assembler.step(ctx, e.message)
	if err != nil {
		return err
	}
	s.idle = max(s.idle, idle)
	if done == nil {
		return nil
	}
	// Behind the journal's Append: whoever looks then finds what it has changed.
	defer s.told(done.LSN)
	if len(done.Messages)+len(done.Rows)+done.Spooled == 0 {
		s.idle = max(s.idle, done.End)
		return nil
	}
	s.idle = 0 // the commit's end lies behind it
	if err := s.journal.Append(ctx, *done); err != nil {
		return fmt.Errorf("append commit %s: %w", done.LSN, err)
	}
	return nil
}

// told tells the timer of what is due what a commit has changed.
func (s *stream) told(lsn journal.LSN) {
	if a := s.assembler; a.moved != 0 || a.waited || a.due == lsn {
		s.listener.embargo.passed(a.moved, a.due)
	}
}

// advance records how far the stream was read without making a message. The
// journal syncs the position before it counts as confirmed.
func (s *stream) advance(ctx context.Context) error {
	if s.idle == 0 {
		return nil
	}
	lsn := s.idle
	s.idle = 0
	if lsn <= s.listener.journal.Confirmed() {
		return nil
	}
	if err := s.journal.Advance(ctx, lsn); err != nil {
		return fmt.Errorf("record position %s: %w", lsn, err)
	}
	return nil
}

// report tells the server what is confirmed: soon after it has moved, when
// asked, and regularly, while apply waits too; at once where all is synced, so
// that the slot stands at the end when there is no more to come. It alone keeps the slot ours, so
// it is here that the slot is let go when nothing moves any more.
func (s *stream) report(ctx context.Context) error {
	dog := watchdog{patience: s.listener.limits.stuck, pace: &s.pace, journal: s.listener.journal}
	tick := time.NewTicker(soon)
	defer tick.Stop()
	var last time.Time
	var reported journal.LSN
	for {
		asked := false
		select {
		case <-s.replyNow:
			asked = true
		case <-tick.C:
		case <-ctx.Done():
			return ctx.Err()
		}
		now, confirmed := time.Now(), s.listener.journal.Confirmed()
		if err := dog.look(now); err != nil {
			s.letGo(ctx, err)
			return err
		}
		due := now.Sub(last) >= s.interval
		moved := confirmed != reported && (now.Sub(last) >= settle || confirmed == s.listener.journal.Accepted())
		if !asked && !due && !moved {
			continue
		}
		if confirmed != reported {
			fault.Point(fault.Confirming)
		}
		quiet := now.Sub(time.Unix(0, s.heard.Load())) >= s.interval
		if err := s.status(confirmed, due && quiet); err != nil {
			return err
		}
		last, reported = now, confirmed
	}
}

// letGo gives the slot up at once. What is stuck may not return for long, and
// says so itself no more.
func (s *stream) letGo(ctx context.Context, why error) {
	l := s.listener
	_ = s.conn.Conn().Close() // the socket is closed either way
	l.metrics.letGo.Inc()
	if l.setState(why) {
		l.log.ErrorContext(ctx, "replication interrupted", "err", why)
	}
}

// status sends one status update. All three positions are the confirmed one:
// pglogrepl replaces a missing flush position by the write position, and what
// is written but not flushed must never be confirmed. With answer the server
// is asked for a keepalive, so that a dead connection is noticed.
func (s *stream) status(confirmed journal.LSN, answer bool) error {
	if err := s.conn.Conn().SetWriteDeadline(time.Now().Add(writeTimeout)); err != nil {
		return fmt.Errorf("send status: %w", err)
	}
	lsn := pglogrepl.LSN(confirmed)
	err := pglogrepl.SendStandbyStatusUpdate(context.Background(), s.conn, pglogrepl.StandbyStatusUpdate{
		WALWritePosition: lsn,
		WALFlushPosition: lsn,
		WALApplyPosition: lsn,
		ReplyRequested:   answer,
	})
	if err != nil {
		return fmt.Errorf("send status: %w", err)
	}
	return nil
}

package compensate

import (
	"context"
	"slices"
	"time"

	"newswire/ack/compensate/channel"
	"newswire/ack/compensate/policy"
	"newswire/ack/compensate/store"
	"newswire/fanout/journal/fault"
)

// The outcomes of a delivery, beside those of a call.
const (
	stateSent      = string(channel.Sent)
	stateGone      = string(channel.Gone)
	statePermanent = string(channel.Permanent)
	stateDoubtful  = string(channel.Doubtful)
	stateExpired   = "expired"   // became stale
	stateSkipped   = "skipped"   // the policy does not want it told
	stateCollapsed = "collapsed" // a newer one of the same article is told
)

// serve sends one reader's deliveries, device by device, in order, the urgent
// first.
func (l *lane) serve(ctx context.Context, ds []store.Delivery, devices []store.Device) {
	for _, urgent := range []bool{true, false} {
		for _, number := range numbers(ds) {
			var group []store.Delivery
			for _, d := range ds {
				if d.Device == number && d.Urgent == urgent {
					group = append(group, d)
				}
			}
			if len(group) > 0 {
				l.serveDevice(ctx, group, l.device(number, group[0].Reader, devices))
			}
		}
	}
}

func numbers(ds []store.Delivery) []int64 {
	var all []int64
	for _, d := range ds {
		if !slices.Contains(all, d.Device) {
			all = append(all, d.Device)
		}
	}
	return all
}

// device finds where a delivery goes; nil: it was deleted, or is another reader's.
func (l *lane) device(number int64, reader string, devices []store.Device) *store.Device {
	if !l.props.WithDevices {
		return &store.Device{Device: channel.Device{Reader: reader}, Channel: l.name}
	}
	for _, d := range devices {
		if d.Number() == number {
			return &d
		}
	}
	return nil
}

// item is a delivery with its message.
type item struct {
	store.Delivery
	message policy.Message
}

func deliveries(items []item) []store.Delivery {
	ds := make([]store.Delivery, len(items))
	for i, it := range items {
		ds[i] = it.Delivery
	}
	return ds
}

func messages(items []item) []policy.Message {
	ms := make([]policy.Message, len(items))
	for i, it := range items {
		ms[i] = it.message
	}
	return ms
}

func (l *lane) serveDevice(ctx context.Context, group []store.Delivery, device *store.Device) {
	if device == nil {
		l.settle(group, stateGone, channel.Result{Reason: "deleted"})
		return
	}
	now := time.Now()
	if until, quiet := l.quiet(group[0], *device, now); quiet {
		l.putBack(group, store.Again{In: until.Sub(now), Reason: "quiet_hours", AsWas: true})
		return
	}
	items := l.worthwhile(group, now)
	allowed, free, err := l.allowed(ctx, group[0], now)
	if err != nil {
		l.complain("cap not looked up", err)
		l.putBack(deliveries(items), store.Again{In: mendAfter, Reason: "database", AsWas: true})
		return
	}
	for bundle, rest := range l.bundles(items) {
		if allowed == 0 {
			l.putBack(deliveries(append(bundle, rest...)), store.Again{In: free.Sub(now), Reason: "reader_cap", AsWas: true})
			return
		}
		if err := l.send(ctx, bundle, rest, *device); err != nil {
			return
		}
		allowed--
	}
}

// quiet tells whether a delivery has to wait for the end of the reader's quiet hours.
func (l *lane) quiet(d store.Delivery, device store.Device, now time.Time) (until time.Time, yes bool) {
	if l.rules.AnyTime || d.Urgent {
		return now, false
	}
	return policy.Quiet(now, device.TimeZone, device.QuietFrom, device.QuietTo)
}

// worthwhile settles what is not to be told: stale, replaced by a newer one of
// the same article, or a correction where the channel could not replace what it
// told before.
func (l *lane) worthwhile(group []store.Delivery, now time.Time) (items []item) {
	newest := make(map[string]int)
	for i, d := range group {
		newest[d.Article] = i
	}
	for i, d := range group {
		m, err := policy.Parse(d.Value)
		switch {
		case err != nil:
			l.settle(group[i:i+1], statePermanent, channel.Result{Reason: "malformed", Detail: err.Error()})
		case !now.Before(d.Expires) && d.Bundle != "":
			l.settle(group[i:i+1], stateDoubtful, channel.Result{Reason: stateExpired}) // an earlier attempt may have arrived
		case !now.Before(d.Expires):
			l.settle(group[i:i+1], stateExpired, channel.Result{})
		case newest[d.Article] != i && d.Bundle == "":
			l.settle(group[i:i+1], stateCollapsed, channel.Result{})
		case d.Action == "correct" && d.Told && !l.rules.Corrections:
			l.settle(group[i:i+1], stateSkipped, channel.Result{Reason: "correction"})
		default:
			items = append(items, item{d, m})
		}
	}
	return items
}

// unlimited is more notifications than anybody gets at once.
const unlimited = 1 << 30

// allowed is how many notifications the reader may get on this device now, and when
// the next is free if none is.
func (l *lane) allowed(ctx context.Context, d store.Delivery, now time.Time) (n int, free time.Time, err error) {
	if l.rules.PerHour == 0 || d.Urgent {
		return unlimited, now, nil
	}
	sent, first, err := l.s.store.SentSince(ctx, l.name, d.Reader, d.Device, now.Add(-time.Hour))
	return max(0, l.rules.PerHour-sent), first.Add(time.Hour), err
}

// bundles divides items into notifications, and gives each with what follows it.
// What was begun together is repeated together; of the rest, too many become one.
func (l *lane) bundles(items []item) func(yield func(bundle, rest []item) bool) {
	return func(yield func([]item, []item) bool) {
		for len(items) > 0 {
			n := 1
			switch begun := items[0].Bundle; {
			case begun != "":
				for n < len(items) && items[n].Bundle == begun {
					n++
				}
			case l.rules.DigestAbove > 0 && len(items) > l.rules.DigestAbove && !items[0].Urgent:
				n = len(items)
			}
			bundle := items[:n:n]
			items = items[n:]
			if !yield(bundle, items) {
				return
			}
		}
	}
}

// send makes one notification of a bundle. An error means that the reader's
// turn has ended: the bundle, where it may be sent again, and the rest were put back.
func (l *lane) send(ctx context.Context, bundle, rest []item, device store.Device) error {
	ds := deliveries(bundle)
	all := append(slices.Clone(ds), deliveries(rest)...)
	n, err := l.notification(bundle, device)
	if err != nil {
		l.settle(ds, statePermanent, channel.Result{Reason: "template", Detail: err.Error()})
		return nil
	}
	if err := l.ready(ctx, all); err != nil {
		return err
	}
	if l.late(ds, device) {
		l.putBack(all, store.Again{Reason: "late", AsWas: true}) // the next look says what follows
		return errStopped
	}
	called, err := l.breaker.Allow()
	if err != nil || l.stoppedFor() > 0 {
		if err == nil {
			called(errNotCalled)
		}
		l.putBack(all, store.Again{In: l.stoppedFor(), Reason: "stopped", AsWas: true})
		return errStopped
	}
	begun := bundle[0].Bundle != ""
	claimed, err := l.s.store.Claim(ds, n.CeID)
	if err != nil || !claimed {
		called(errNotCalled)
		l.complain("delivery not claimed", err)
		// Where the answer was lost the claim may stand, but nothing was sent.
		l.putBack(all, store.Again{In: firstRetry / 4, Reason: "not_claimed", AsWas: begun, Untried: true})
		return errStopped
	}
	fault.Point("compensate.claimed")
	if ctx.Err() != nil { // the service ends: what was not begun is somebody else's
		called(errNotCalled)
		l.putBack(all, store.Again{Reason: "draining", AsWas: begun, Untried: true})
		return errStopped
	}
	result := l.call(ctx, device, n)
	fault.Point("compensate.answered")
	called(providerFault(result))
	return l.conclude(ctx, bundle, rest, device, result)
}

// ready waits for the channel's turn, and until what Kafka takes back is known.
// An error means that the reader's turn has ended: all were put back.
func (l *lane) ready(ctx context.Context, all []store.Delivery) error {
	reason, err := "turn", l.turn(ctx)
	if err == nil {
		fault.Point("compensate.taken")
		reason, err = "cancellations", l.s.cancels.known(ctx)
	}
	again := store.Again{In: mendAfter, Reason: reason, AsWas: true}
	switch {
	case err == nil:
		return nil
	case ctx.Err() != nil:
		again.In, again.Reason = 0, "draining"
	default:
		l.complain("nothing is sent", err)
	}
	l.putBack(all, again)
	return errStopped
}

// late tells whether the reader's quiet hours have begun, or a delivery has become
// stale, since they were looked at: those before it may have taken their time.
func (l *lane) late(ds []store.Delivery, device store.Device) bool {
	now := time.Now()
	_, quiet := l.quiet(ds[0], device, now)
	return quiet || slices.ContainsFunc(ds, func(d store.Delivery) bool { return !now.Before(d.Expires) })
}

// call makes the one attempt. The service's end does not cut it short: what was
// begun shall have an outcome.
func (l *lane) call(ctx context.Context, device store.Device, n channel.Notification) channel.Result {
	ctx, cancel := context.WithTimeout(context.WithoutCancel(ctx), l.props.Timeout)
	defer cancel()
	begin := time.Now()
	result := l.channel.Send(ctx, device.Device, n)
	l.s.metrics.send.WithLabelValues(l.name).Observe(time.Since(begin).Seconds())
	l.s.metrics.attempts.WithLabelValues(l.name, string(result.Outcome)).Inc()
	return result
}

// notification words a bundle.
func (l *lane) notification(bundle []item, device store.Device) (channel.Notification, error) {
	newest := bundle[len(bundle)-1]
	words, err := l.s.policy.Word(messages(bundle), device.Language, l.props.Title, l.props.Body)
	n := channel.Notification{
		CeID: newest.CeID, Reader: newest.Reader, MessageID: newest.message.ID, Action: newest.Action, Tags: newest.message.Tags,
		Title: words.Title, Body: words.Body, URL: words.URL, Collapse: policy.Collapse(newest.Article),
		Expires: newest.Expires, Urgent: newest.Urgent, Count: len(bundle), Data: newest.message.Data,
	}
	if len(bundle) > 1 {
		n.Collapse = policy.Collapse("digest")
	}
	if newest.Bundle != "" {
		n.CeID = newest.Bundle
	}
	return n, err
}

type providerError string

func (e providerError) Error() string { return string(e) }

// providerFault is what counts against the provider.
func providerFault(r channel.Result) error {
	if r.Outcome == channel.Doubtful || r.Everybody && r.Outcome != channel.Sent && r.Outcome != channel.Throttled {
		return providerError(r.Reason)
	}
	return nil
}

// conclude writes down what a call has come to.
func (l *lane) conclude(ctx context.Context, bundle, rest []item, device store.Device, r channel.Result) error {
	ds := deliveries(bundle)
	begun := bundle[0].Bundle != "" // an earlier attempt may have been accepted
	wait := backoff(r.RetryAfter, bundle[0].Attempts)
	switch r.Outcome {
	case channel.Sent:
		l.settle(ds, stateSent, r)
		for _, it := range bundle {
			l.s.metrics.reach.Observe(time.Since(it.message.HandedOver).Seconds())
		}
		fault.Point("compensate.settled")
		return nil
	case channel.Gone:
		l.forget(ctx, device)
		l.settle(append(ds, deliveries(rest)...), stateGone, r)
		return errStopped
	case channel.Permanent:
		l.settle(ds, statePermanent, r)
		return nil
	case channel.Throttled:
		if r.Everybody {
			l.stop(wait)
		}
	case channel.Temporary:
	default: // doubtful, and what a channel could not name
		if !l.props.Dedupes {
			l.settle(ds, stateDoubtful, r)
			return nil
		}
		begun = true
	}
	again := store.Again{In: wait, Reason: r.Reason, AsWas: begun}
	l.putBack(ds, again)
	again.AsWas = true
	l.putBack(deliveries(rest), again)
	return errStopped
}

// forget deletes a device that reaches nobody any more.
func (l *lane) forget(ctx context.Context, device store.Device) {
	if !l.props.WithDevices {
		return
	}
	ctx, cancel := context.WithTimeout(context.WithoutCancel(ctx), l.s.cfg.Lease)
	defer cancel()
	if _, err := l.s.store.RemoveDevices(ctx, store.Selection{Reader: device.Reader, ID: device.Number()}); err != nil {
		l.s.log.Warn("device not deleted; the next notification to it will show again that it is gone", "channel", l.name, "err", err)
	}
}

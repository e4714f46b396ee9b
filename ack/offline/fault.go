package offline

import (
	"context"
	"crypto/tls"
	"errors"
	"fmt"
	"io"
	"log/slog"
	"net"
	"slices"
	"strings"
	"sync"

	"github.com/segmentio/kafka-go"
	"github.com/segmentio/kafka-go/protocol"

	"newswire/ack"
)

// kind sorts the errors of Kafka by who can mend them. It is the label of the
// error counter and stands in the log.
type kind string

const (
	kindUnreachable kind = "unreachable" // no broker answers: network, address, broker down
	kindTimeout     kind = "timeout"     // a broker took the batch or the question and did not answer
	kindTLS         kind = "tls"         // certificate not trusted, or one side speaks plain text
	kindDenied      kind = "denied"      // login or access rights
	kindTopic       kind = "topic"       // the topic is missing or its name refused
	kindUnavailable kind = "unavailable" // a partition without leader or without enough replicas
	kindTooLarge    kind = "too_large"   // the topic takes smaller batches; the next are smaller
	kindOther       kind = "other"
)

var kinds = []kind{kindUnreachable, kindTimeout, kindTLS, kindDenied, kindTopic, kindUnavailable, kindTooLarge, kindOther}

var codeKinds = map[kafka.Error]kind{
	kafka.RequestTimedOut:              kindTimeout,
	kafka.TopicAuthorizationFailed:     kindDenied,
	kafka.ClusterAuthorizationFailed:   kindDenied,
	kafka.SASLAuthenticationFailed:     kindDenied,
	kafka.UnsupportedSASLMechanism:     kindDenied,
	kafka.IllegalSASLState:             kindDenied,
	kafka.UnknownTopicOrPartition:      kindTopic,
	kafka.InvalidTopic:                 kindTopic,
	kafka.LeaderNotAvailable:           kindUnavailable,
	kafka.NotLeaderForPartition:        kindUnavailable,
	kafka.BrokerNotAvailable:           kindUnavailable,
	kafka.ReplicaNotAvailable:          kindUnavailable,
	kafka.NotEnoughReplicas:            kindUnavailable,
	kafka.NotEnoughReplicasAfterAppend: kindUnavailable,
	kafka.KafkaStorageError:            kindUnavailable,
	kafka.MessageSizeTooLarge:          kindTooLarge,
	kafka.RecordListTooLarge:           kindTooLarge,
}

func kindOf(err error) kind {
	var code kafka.Error
	if errors.As(err, &code) {
		if k, ok := codeKinds[code]; ok {
			return k
		}
		return kindOther
	}
	var certificate *tls.CertificateVerificationError
	var plain tls.RecordHeaderError
	var alert tls.AlertError
	if errors.As(err, &certificate) || errors.As(err, &plain) || errors.As(err, &alert) {
		return kindTLS
	}
	if errors.Is(err, protocol.ErrNoLeader) || errors.Is(err, protocol.ErrNoPartition) || errors.Is(err, protocol.ErrNoTopic) {
		return kindUnavailable
	}
	var network net.Error
	isNetwork := errors.As(err, &network)
	switch {
	case errors.Is(err, context.DeadlineExceeded), isNetwork && network.Timeout():
		return kindTimeout
	case isNetwork, errors.Is(err, io.EOF), errors.Is(err, io.ErrUnexpectedEOF), errors.Is(err, net.ErrClosed):
		return kindUnreachable
	}
	return kindOther
}

// refusals are the errors behind which a record is not in Kafka for certain. Of
// the others some come behind the append, and some instead of its answer.
var refusals = []kafka.Error{
	kafka.TopicAuthorizationFailed, kafka.ClusterAuthorizationFailed, kafka.SASLAuthenticationFailed, kafka.UnsupportedSASLMechanism, kafka.IllegalSASLState,
	kafka.UnknownTopicOrPartition, kafka.InvalidTopic, kafka.LeaderNotAvailable, kafka.NotLeaderForPartition, kafka.BrokerNotAvailable,
	kafka.ReplicaNotAvailable, kafka.NotEnoughReplicas, kafka.MessageSizeTooLarge, kafka.RecordListTooLarge,
}

// outcomeOf tells what is known of a record whose write ended so.
func outcomeOf(err error) ack.Outcome {
	var code kafka.Error
	var network *net.OpError
	switch {
	case err == nil:
		return ack.Taken
	case errors.As(err, &code) && slices.Contains(refusals, code),
		errors.As(err, &network) && network.Op == "dial",
		errors.Is(err, protocol.ErrNoLeader), errors.Is(err, protocol.ErrNoPartition), errors.Is(err, protocol.ErrNoTopic):
		return ack.Refused
	}
	return ack.InDoubt
}

// outage is why Kafka does not take hand-overs.
type outage struct {
	kind kind
	err  error
}

func newOutage(err error) *outage {
	out := &outage{kind: kindOf(err), err: err}
	if inner := errors.Unwrap(err); inner != nil && strings.HasPrefix(err.Error(), "kafka.(*Client).") {
		out.err = inner // without the name of the client's method
	}
	if errors.Is(err, io.EOF) || errors.Is(err, io.ErrUnexpectedEOF) {
		// All that many brokers say to plain text on a TLS port or to a wrong
		// login.
		out.err = fmt.Errorf("the broker hung up; if it always does, offline.tls or offline.sasl is not what it wants: %w", out.err)
	}
	return out
}

// health is what the last exchange with Kafka said. It logs when that changes
// and is silent while it stays.
type health struct {
	log *slog.Logger // fixed

	outMu sync.Mutex // guards out
	out   *outage    // nil: Kafka takes what it is given
}

// set notes the result of a write: nil is a success.
func (h *health) set(ctx context.Context, out *outage) {
	h.outMu.Lock()
	before := h.out
	h.out = out
	h.outMu.Unlock()
	h.report(ctx, before, out)
}

// swap notes out only if before is still what is known, so that a question
// asked at the start cannot hide what a write has found out since.
func (h *health) swap(ctx context.Context, before, out *outage) {
	h.outMu.Lock()
	current := h.out == before
	if current {
		h.out = out
	}
	h.outMu.Unlock()
	if current {
		h.report(ctx, before, out)
	}
}

func (h *health) report(ctx context.Context, before, out *outage) {
	switch {
	case out != nil && (before == nil || before.kind != out.kind):
		h.log.WarnContext(ctx, "Kafka does not take hand-overs; they wait in the ledger", "kind", string(out.kind), "err", out.err)
	case out == nil && before != nil:
		h.log.InfoContext(ctx, "Kafka takes hand-overs again")
	}
}

func (h *health) err() error {
	h.outMu.Lock()
	defer h.outMu.Unlock()
	if h.out == nil {
		return nil
	}
	return fmt.Errorf("hand-overs are not taken by Kafka (%s): %w", h.out.kind, h.out.err)
}

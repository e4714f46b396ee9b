package store

import (
	"context"
	"sync"
)

// mostInBatch bounds one statement.
const mostInBatch = 256

// batcher makes one statement of what many goroutines ask at the same time:
// while one is under way, the next gathers. So a sync of the database's log
// serves many, and a single one waits for nobody.
type batcher[Q, A any] struct {
	asks chan question[Q, A]
	do   func(context.Context, []Q) ([]A, error) // gives an answer for each question, in order
	open sync.WaitGroup                          // askers
}

type question[Q, A any] struct {
	ask    Q
	answer chan answer[A] // buffered: nobody waits for an asker
}

type answer[A any] struct {
	value A
	err   error
}

func newBatcher[Q, A any](do func(context.Context, []Q) ([]A, error)) *batcher[Q, A] {
	return &batcher[Q, A]{asks: make(chan question[Q, A], mostInBatch), do: do}
}

// ask waits for its answer, which statementTimeout bounds and no caller's context: an
// outcome must not be lost because somebody is in a hurry.
func (b *batcher[Q, A]) ask(q Q) (A, error) {
	b.open.Add(1)
	defer b.open.Done()
	reply := make(chan answer[A], 1)
	b.asks <- question[Q, A]{q, reply}
	a := <-reply
	return a.value, a.err
}

// wait returns once nobody asks.
func (b *batcher[Q, A]) wait() { b.open.Wait() }

func (b *batcher[Q, A]) run(done <-chan struct{}) {
	for {
		var batch []question[Q, A]
		select {
		case q := <-b.asks:
			batch = append(batch, q)
		case <-done:
			return
		}
		for more := true; more && len(batch) < mostInBatch; {
			select {
			case q := <-b.asks:
				batch = append(batch, q)
			default:
				more = false
			}
		}
		b.serve(batch)
	}
}

func (b *batcher[Q, A]) serve(batch []question[Q, A]) {
	asks := make([]Q, len(batch))
	for i, q := range batch {
		asks[i] = q.ask
	}
	ctx, cancel := context.WithTimeout(context.Background(), statementTimeout)
	defer cancel()
	answers, err := b.do(ctx, asks)
	for i, q := range batch {
		if err != nil {
			q.answer <- answer[A]{err: err}
		} else {
			q.answer <- answer[A]{value: answers[i]}
		}
	}
}

//go:build linux

package bench

import (
	"bytes"
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"net/netip"
	"os"
	"os/exec"
	"time"

	"newswire/cmd/newswire/internal/bench/yard"
)

// child is a server of package yard in a process of its own.
type child struct {
	address netip.AddrPort
	process *exec.Cmd
	orders  io.WriteCloser
	answers chan yard.Answer // closed when the process says no more
	printed *bytes.Buffer    // its standard error; readable once answers is closed
}

// startChild waits until the server listens.
func startChild(kind, dir, listen string) (c *child, err error) {
	self, err := os.Executable()
	if err != nil {
		return nil, err
	}
	c = &child{process: exec.Command(self, "bench", "yard", kind, dir, listen), answers: make(chan yard.Answer, 1), printed: new(bytes.Buffer)}
	c.process.Stderr = c.printed
	if c.orders, err = c.process.StdinPipe(); err != nil {
		return nil, err
	}
	out, err := c.process.StdoutPipe()
	if err != nil {
		return nil, err
	}
	if err := c.process.Start(); err != nil {
		return nil, fmt.Errorf("start the server %s: %w", kind, err)
	}
	go func() {
		defer close(c.answers)
		for lines := json.NewDecoder(out); ; {
			var a yard.Answer
			if lines.Decode(&a) != nil {
				return // it has ended
			}
			c.answers <- a
		}
	}()
	a, err := c.answer()
	if err == nil {
		c.address, err = netip.ParseAddrPort(a.Address)
	}
	if err != nil {
		return nil, errors.Join(fmt.Errorf("start the server %s: %w", kind, err), c.end())
	}
	return c, nil
}

func (c *child) answer() (yard.Answer, error) {
	a, ok := <-c.answers
	if !ok {
		return a, errors.New("the server has ended by itself")
	}
	if a.Error != "" {
		return a, errors.New(a.Error)
	}
	return a, nil
}

// tell gives an order and does not wait for the answer.
func (c *child) tell(o yard.Order) error { return json.NewEncoder(c.orders).Encode(o) }

// used asks what the server has taken; collect lets it give back what is free.
func (c *child) used(collect bool) (yard.Used, error) {
	if err := c.tell(yard.Order{Measure: &yard.Measure{Collect: collect}}); err != nil {
		return yard.Used{}, err
	}
	a, err := c.answer()
	if err != nil {
		return yard.Used{}, err
	}
	return *a.Used, nil
}

// profile begins a CPU profile, which the next measuring ends.
func (c *child) profile(file string) error {
	if err := c.tell(yard.Order{Profile: file}); err != nil {
		return err
	}
	_, err := c.answer()
	return err
}

// endPatience is how long a server may take to end.
const endPatience = 30 * time.Second

// end lets the server close what it has.
func (c *child) end() error {
	_ = c.orders.Close()
	late := time.AfterFunc(endPatience, func() { _ = c.process.Process.Kill() })
	defer late.Stop()
	for range c.answers {
	}
	if err := c.process.Wait(); err != nil {
		return fmt.Errorf("the server's end: %w: %s", err, c.printed.Bytes())
	}
	return nil
}

// kill ends the server as a power switch would.
func (c *child) kill() error {
	err := c.process.Process.Kill()
	for range c.answers {
	}
	_ = c.process.Wait() // says that it was killed
	return err
}

package local_test

import (
	"context"
	"fmt"
	"testing"

	"newswire/ack/compensate/channel"
	"newswire/ack/compensate/channel/channeltest"
	"newswire/ack/compensate/channel/local"
)

func start(t *testing.T, c local.Config) *local.Channel {
	t.Helper()
	ch, err := local.New(c)
	if err != nil {
		t.Fatal(err)
	}
	return ch
}

func TestLocalDoesWhatEveryChannelDoes(t *testing.T) {
	channeltest.Run(t, func(t *testing.T) channeltest.Subject {
		return channeltest.Subject{Channel: start(t, local.Config{})}
	})
}

func TestARepeatIsShownOnce(t *testing.T) {
	ch := start(t, local.Config{})
	first, correction, other := channeltest.Note(1), channeltest.Note(2), channeltest.Note(3)
	correction.Collapse = first.Collapse
	for _, n := range []channel.Notification{first, first, other, correction} {
		ch.Send(t.Context(), channel.Device{}, n)
	}
	shown := ch.Shown("reader-1")
	if len(shown) != 2 || shown[0].Title != correction.Title || shown[1].Title != other.Title || shown[0].At.IsZero() {
		t.Errorf("the telephone shows %+v", shown)
	}
}

func TestMemoryIsBounded(t *testing.T) {
	ch := start(t, local.Config{PerReader: 2, Readers: 3})
	for n := range 100 {
		note := channeltest.Note(n)
		note.Reader = fmt.Sprint("reader-", n%5)
		ch.Send(t.Context(), channel.Device{}, note)
	}
	kept := 0
	for n := range 5 {
		shown := ch.Shown(fmt.Sprint("reader-", n))
		if len(shown) > 0 {
			kept++
		}
		if len(shown) > 2 {
			t.Errorf("reader-%d has %d", n, len(shown))
		}
	}
	if kept != 3 || len(ch.Shown("reader-4")) == 0 {
		t.Errorf("%d readers are kept, want the last 3", kept)
	}
	if _, err := local.New(local.Config{Readers: -1}); err == nil {
		t.Error("a negative bound is taken")
	}
}

func Example() {
	ch, err := local.New(local.Config{})
	if err != nil {
		fmt.Println(err)
		return
	}
	ch.Send(context.Background(), channel.Device{}, channel.Notification{Reader: "u1", CeID: "1:u1", Title: "Harbour closed"})
	for _, n := range ch.Shown("u1") {
		fmt.Println(n.Title)
	}
	// Output: Harbour closed
}

package webhook_test

import (
	"fmt"
	"testing"

	"newswire/ack/compensate/channel/channeltest"
	"newswire/ack/compensate/channel/webhook"
	"newswire/ack/compensate/channel/webhook/webhooktest"
)

func start(t *testing.T, c webhook.Config) *webhook.Channel {
	t.Helper()
	ch, err := webhook.New(c)
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { ch.Close() })
	return ch
}

func TestWebhookDoesWhatEveryChannelDoes(t *testing.T) {
	channeltest.Run(t, func(t *testing.T) channeltest.Subject {
		s := webhooktest.Start(t)
		stray := s.Config()
		stray.HTTP.CAFile = ""
		return channeltest.Subject{
			Channel: start(t, s.Config()), Stray: start(t, stray), Server: s.Server, Secrets: []string{webhooktest.Secret}, Shows: true, Many: 16,
		}
	})
}

func Example() {
	_, err := webhook.New(webhook.Config{URL: "https://cms.example.com/hook"})
	fmt.Println(err)
	// Output: secret_files names 0 files: name one, and a second while a secret is replaced
}

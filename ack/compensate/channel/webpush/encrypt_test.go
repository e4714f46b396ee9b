package webpush

import (
	"crypto/ecdh"
	"encoding/base64"
	"net/url"
	"strings"
	"testing"
	"time"

	"newswire/ack/compensate/channel"
	"newswire/ack/compensate/channel/wire"
)

func decode(t *testing.T, s string) []byte {
	t.Helper()
	b, err := base64.RawURLEncoding.DecodeString(s)
	if err != nil {
		t.Fatal(err)
	}
	return b
}

// The example of RFC 8291 §5 and appendix A.
func TestEncryptionIsThatOfTheRFC(t *testing.T) {
	const want = "DGv6ra1nlYgDCS1FRnbzlwAAEABBBP4z9KsN6nGRTbVYI_c7VJSPQTBtkgcy27mlmlMoZIIgDll6e3vCYLocInmYWAmS6TlzAC8wEqKK6PBru3jl7A_yl95bQpu6cVPTpK4Mqgkf1CXztLVBSt2Ks3oZwbuwXPXLWyouBWLVWGNWQexSgSxsj_Qulcy4a-fN"
	to, err := parseSubscriber(map[string]string{
		"p256dh": "BCVxsr7N_eNgVRqvHtD0zTZsEc6-VV-JvLexhqUzORcxaOzi6-AYWXvTBHm4bjyPjs7Vd8pZGH6SRpkNtoIAiw4",
		"auth":   "BTBZMqHH6r4Tts7J_aSIgg",
	})
	if err != nil {
		t.Fatal(err)
	}
	ephemeral, err := ecdh.P256().NewPrivateKey(decode(t, "yfWPiYE-n46HLnH0KqZOF1fJJU3MYrct3AELtAQ-oRw"))
	if err != nil {
		t.Fatal(err)
	}
	plain := append([]byte("When I grow up, I want to be a watermelon"), lastRecord)
	got, err := to.encryptWith(ephemeral, decode(t, "DGv6ra1nlYgDCS1FRnbzlw"), plain)
	if err != nil {
		t.Fatal(err)
	}
	if text := base64.RawURLEncoding.EncodeToString(got); text != want {
		t.Errorf("got  %s\nwant %s", text, want)
	}
}

func TestNothingIsLargerThanOneRecord(t *testing.T) {
	for n := range mostPlain + 2 {
		padded := pad(make([]byte, n))
		if n <= mostPlain && (len(padded) > mostPlain+1 || len(padded) <= n || padded[n] != lastRecord) {
			t.Fatalf("%d bytes are padded to %d", n, len(padded))
		}
	}
	key, _ := ecdh.P256().NewPrivateKey(append(make([]byte, 31), 1))
	to := subscriber{key.PublicKey(), make([]byte, authSize)}
	if body, err := to.encrypt(make([]byte, mostPlain)); err != nil || len(body) != recordSize {
		t.Errorf("the largest message has %d bytes (%v), want %d", len(body), err, recordSize)
	}
	if _, err := to.encrypt(make([]byte, mostPlain+1)); err == nil {
		t.Error("a message larger than a record is taken")
	}
}

func TestTokensAreRenewedInTimeAndBounded(t *testing.T) {
	pem, _, err := GenerateKey()
	if err != nil {
		t.Fatal(err)
	}
	key, err := parseKey(pem)
	if err != nil {
		t.Fatal(err)
	}
	now := time.Date(2026, 11, 23, 9, 0, 0, 0, time.UTC)
	v := newVAPID(key, "mailto:desk@example.com", func() time.Time { return now })
	ask := func(endpoint string) string {
		u, err := url.Parse(endpoint)
		if err != nil {
			t.Fatal(err)
		}
		h, err := v.authorization(u)
		if err != nil {
			t.Fatal(err)
		}
		return h
	}
	first := ask("https://push.example.com/a")
	for _, same := range []string{"https://push.example.com:443/b", "https://Push.Example.com/c"} {
		if ask(same) != first {
			t.Errorf("%s, of the same origin (RFC 6454), gets another signature", same)
		}
	}
	if other := ask("https://push.example.org/a"); other == first {
		t.Error("two origins get one token")
	}
	now = now.Add(tokenReuse)
	if later := ask("https://push.example.com/a"); later == first {
		t.Error("the token is not renewed")
	}
	before := ask("https://push.example.com/a")
	now = now.Add(-24 * time.Hour)
	if ask("https://push.example.com/a") == before {
		t.Error("a clock that was put back keeps a token of the future")
	}
	for i := range 3 * mostOrigins {
		ask("https://" + strings.Repeat("a", i%60+1) + string(rune('a'+i%26)) + strings.Repeat("b", i/60+1) + ".example.com/")
	}
	if len(v.tokens) > mostOrigins {
		t.Errorf("%d tokens are kept", len(v.tokens))
	}
}

func TestAnswersAreUnderstood(t *testing.T) {
	for _, test := range []struct {
		status    int
		body      string
		outcome   channel.Outcome
		everybody bool
	}{
		{200, "", channel.Sent, false}, {201, "", channel.Sent, false}, {202, "", channel.Sent, false}, {204, "", channel.Sent, false},
		{404, "", channel.Gone, false}, {410, "", channel.Gone, false},
		{429, "", channel.Throttled, false}, {503, "", channel.Throttled, true},
		{413, "", channel.Permanent, false}, {400, "bad Topic", channel.Permanent, false}, {301, "", channel.Permanent, false},
		{401, `{"errno":109}`, channel.Temporary, true}, {403, `{"reason":"BadJwtToken"}`, channel.Temporary, true},
		{403, "the VAPID credentials in the authorization header do not correspond to the credentials used to create the subscriptions.", channel.Permanent, false},
		{400, `{"reason":"VapidPkHashMismatch"}`, channel.Permanent, false},
		{500, "", channel.Doubtful, true}, {502, "", channel.Doubtful, true}, {408, "", channel.Doubtful, true},
	} {
		r := result(wire.Answer{Status: test.status, Body: []byte(test.body)}, channel.Device{})
		if r.Outcome != test.outcome || r.Everybody != test.everybody {
			t.Errorf("%d %s: %+v", test.status, test.body, r)
		}
	}
}

func FuzzSubscription(f *testing.F) {
	f.Add("https://fcm.googleapis.com/fcm/send/x", "BCVxsr7N_eNgVRqvHtD0zTZsEc6-VV-JvLexhqUzORcxaOzi6-AYWXvTBHm4bjyPjs7Vd8pZGH6SRpkNtoIAiw4", "BTBZMqHH6r4Tts7J_aSIgg")
	f.Add("https://[::ffff:7f00:1]/", "", "")
	f.Add("https://127.0.0.1%2f@example.com:443/", "====", "++//")
	c := &Channel{}
	f.Fuzz(func(t *testing.T, endpoint, p256dh, auth string) {
		d := channel.Device{Address: endpoint, Keys: map[string]string{"p256dh": p256dh, "auth": auth}}
		if c.Check(d) != nil {
			return
		}
		u, err := url.Parse(endpoint)
		if err != nil || u.Scheme != "https" || !wire.MayBePublic(u.Hostname()) || u.Port() != "" && u.Port() != "443" {
			t.Errorf("Check takes %q", endpoint)
		}
		to, err := parseSubscriber(d.Keys)
		if err != nil {
			t.Fatal(err)
		}
		if _, err := to.encrypt([]byte("news")); err != nil {
			t.Errorf("Check takes keys %q, which do not encrypt: %v", p256dh, err)
		}
	})
}

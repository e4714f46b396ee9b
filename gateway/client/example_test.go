package client_test

import (
	"context"
	"errors"
	"fmt"
	"log"
	"net/http"
	"net/http/httptest"
	"os"
	"os/signal"
	"strings"

	"github.com/gorilla/websocket"

	"newswire/gateway/client"
)

// A program that follows two tags until it is interrupted.
func Example() {
	ctx, stop := signal.NotifyContext(context.Background(), os.Interrupt)
	defer stop()
	gateway := exampleGateway()
	defer gateway.Close()

	news, err := client.New(client.Config{
		URL: gateway.URL,
		Token: func(context.Context) (string, error) { // read anew each time: somebody else renews it
			return strings.TrimSpace("the content of /run/newswire/token"), nil
		},
		Follow: []string{"tech", "sport"},
		OnMessage: func(_ context.Context, m *client.Message) error {
			var article struct{ Title string }
			if err := m.Decode(&article); err != nil {
				return err // not acknowledged: it comes again
			}
			fmt.Println(m.Action, article.Title)
			if article.Title == "the last" {
				stop()
			}
			return nil
		},
		OnState: func(change client.StateChange) {
			if change.State == client.Offline {
				log.Printf("offline for %s: %v", change.Retry, change.Err)
			}
		},
	})
	if err != nil {
		log.Fatal(err)
	}
	err = news.Run(ctx)
	var closed *client.CloseError
	if errors.As(err, &closed) && closed.Code == 4501 {
		log.Fatal("the token is not valid here")
	}
	// Output:
	// publish the first
	// publish the last
}

// exampleGateway says what a gateway would.
func exampleGateway() *httptest.Server {
	upgrader := websocket.Upgrader{Subprotocols: []string{"newswire.v1"}}
	return httptest.NewServer(http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
		conn, err := upgrader.Upgrade(w, r, nil)
		if err != nil {
			return
		}
		defer conn.Close()
		for _, f := range []string{
			`{"type":"welcome","reader":"u1","follow":["tech","sport"],"resume":"none","ping_ms":25000}`,
			`{"type":"message","id":"0001000000000196a3b000000000","action":"publish","tags":["tech"],"attempt":1,"data":{"title":"the first"}}`,
			`{"type":"message","id":"0001000000000196a3b100000000","action":"publish","tags":["sport"],"attempt":1,"data":{"title":"the last"}}`,
		} {
			_ = conn.WriteMessage(websocket.TextMessage, []byte(f))
		}
		for {
			if _, _, err := conn.ReadMessage(); err != nil {
				return
			}
		}
	}))
}

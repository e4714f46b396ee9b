package gateway

import (
	"encoding/json"
	"fmt"
	"slices"
	"strings"
	"testing"

	"newswire/gateway/gatewaytest"
)

// Who knows another reader's message ids can do nothing with them: not
// acknowledge, not read, not delete. What changes is its own alone.
func TestStolenIDsAreWorthNothing(t *testing.T) {
	t.Parallel()
	r := newRig(t)
	victim := r.join("victim", gatewaytest.Options{Follow: []string{"secret"}, Silent: true})
	thief := r.join("thief", gatewaytest.Options{Follow: []string{"other"}, Silent: true})
	ids := r.publish(5, "secret")
	victim.WaitMessages(5)
	last := ids[len(ids)-1]
	r.routed()

	thief.Send(map[string]any{"type": "ack", "id": ids[0]})
	thief.Send(map[string]any{"type": "ack", "ids": ids})
	thief.Send(map[string]any{"type": "ack", "upto": last})
	thief.Send([]byte(fmt.Sprintf(`{"ids":["%s"],"type":"ack","reader":"victim","sub":"victim"}`, ids[1])))
	thief.Sync()
	body, err := json.Marshal(map[string]any{"ids": ids, "upto": last, "reader": "victim"})
	if err != nil {
		t.Fatal(err)
	}
	for _, request := range [][3]string{
		{"POST", "/v1/ack?msg_id=" + ids[0] + "&msg_id=" + ids[1] + "&reader=victim", ""},
		{"POST", "/v1/ack", string(body)},
		{"POST", "/v1/ack", `{"upto":"` + last + `"}`},
		{"GET", "/v1/poll?reader=victim&sub=victim&after=" + ids[0], ""},
		{"PUT", "/v1/subscriptions?reader=victim", `{"follow":["mine"],"reader":"victim"}`},
		{"DELETE", "/v1/subscriptions?reader=victim", ""},
	} {
		got := r.ask("thief", request[0], request[1], request[2])
		if got.status != 204 && got.status != 200 {
			t.Errorf("%s %s: status %d %s", request[0], request[1], got.status, got.body)
		}
		for _, id := range ids {
			if strings.Contains(got.body, id) {
				t.Errorf("%s %s brings the victim's message %s", request[0], request[1], id)
			}
		}
	}
	// Coming back behind a stolen place brings nothing of it, either.
	again := r.join("thief", gatewaytest.Options{Follow: []string{"other"}, After: ids[0]})
	again.Sync()
	if got := again.Messages(); len(got) > 0 {
		t.Errorf("behind a stolen id the thief gets %s", got[0].Raw)
	}
	r.wantUnread("victim", ids)
	if _, sets, err := r.readers.Get("victim"); err != nil || !slices.Equal(sets.Follow, []string{"secret"}) {
		t.Errorf("the victim follows %v (%v)", sets.Follow, err)
	}
	victim.Send(map[string]any{"type": "ack", "upto": last})
	victim.Sync()
	r.wantUnread("victim", nil)
}

package offline

import (
	"context"
	"encoding/json"
	"fmt"
	"os"
	"os/exec"
	"path/filepath"
	"strings"
	"testing"
	"time"

	"github.com/segmentio/kafka-go"

	"newswire/ack"
	"newswire/ack/offline/kafkatest"
)

// apacheStart is what a Java program may take to serve on a busy machine.
const apacheStart = 2 * time.Minute

// apache is an Apache Kafka of one node, which is broker and controller.
type apache struct {
	t          *testing.T
	classpath  string
	dir, addr  string
	properties string
	broker     *exec.Cmd
}

// newApache formats a directory for a broker; the classpath is that of the
// server, which .ci/kafka fetches.
func newApache(t *testing.T, classpath string) *apache {
	t.Helper()
	a := &apache{t: t, classpath: classpath, dir: t.TempDir(), addr: freeAddr(t)}
	a.properties = filepath.Join(a.dir, "server.properties")
	controller := freeAddr(t)
	settings := []string{
		"process.roles=broker,controller", "node.id=1", "controller.quorum.voters=1@" + controller,
		"listeners=PLAINTEXT://" + a.addr + ",CONTROLLER://" + controller, "advertised.listeners=PLAINTEXT://" + a.addr,
		"controller.listener.names=CONTROLLER", "log.dirs=" + filepath.Join(a.dir, "logs"),
		"listener.security.protocol.map=PLAINTEXT:PLAINTEXT,CONTROLLER:PLAINTEXT",
		"auto.create.topics.enable=false", "offsets.topic.replication.factor=1", "group.initial.rebalance.delay.ms=0",
	}
	if err := os.WriteFile(a.properties, []byte(strings.Join(settings, "\n")+"\n"), 0o600); err != nil {
		t.Fatal(err)
	}
	out, err := a.java("kafka.tools.StorageTool", "format", "-t", "AAAAAAAAAAAAAAAAAAAAAQ", "-c", a.properties).CombinedOutput()
	if err != nil {
		t.Fatalf("format the directory of Apache Kafka: %v\n%s", err, out)
	}
	t.Cleanup(a.kill)
	return a
}

func (a *apache) java(class string, args ...string) *exec.Cmd {
	return exec.Command("java", append([]string{"-Xmx256m", "-XX:+UseSerialGC", "-XX:TieredStopAtLevel=1", "-cp", a.classpath, class}, args...)...)
}

// start runs the broker and waits until it answers.
func (a *apache) start() {
	a.t.Helper()
	output, err := os.Create(filepath.Join(a.dir, fmt.Sprintf("output-%d", time.Now().UnixNano())))
	if err != nil {
		a.t.Fatal(err)
	}
	defer output.Close() // the broker has its own
	a.broker = a.java("kafka.Kafka", a.properties)
	a.broker.Stdout, a.broker.Stderr = output, output
	if err := a.broker.Start(); err != nil {
		a.t.Fatal(err)
	}
	transport := new(kafka.Transport)
	defer transport.CloseIdleConnections()
	client := &kafka.Client{Addr: kafka.TCP(a.addr), Transport: transport, Timeout: 2 * time.Second}
	deadline, tick := time.After(apacheStart), time.NewTicker(100*time.Millisecond)
	defer tick.Stop()
	for {
		ctx, cancel := context.WithTimeout(a.t.Context(), 2*time.Second)
		found, err := client.Metadata(ctx, new(kafka.MetadataRequest))
		cancel()
		if err == nil && len(found.Brokers) == 1 {
			return
		}
		select {
		case <-tick.C:
		case <-deadline:
			text, _ := os.ReadFile(output.Name())
			a.t.Fatalf("Apache Kafka does not answer: %v\n%s", err, text)
		}
	}
}

// kill ends the broker as a power cut would end it.
func (a *apache) kill() {
	if a.broker == nil {
		return
	}
	_ = a.broker.Process.Kill()
	_ = a.broker.Wait()
	a.broker = nil
}

// TestApacheKafkaKeepsWhatItAcknowledged: hand-overs reach the real thing, one
// of them without its data, which is too large; the broker is killed, those that
// come meanwhile wait for it, and a consumer reads all of them in order.
func TestApacheKafkaKeepsWhatItAcknowledged(t *testing.T) {
	classpath := os.Getenv("NEWSWIRE_TEST_KAFKA_CLASSPATH")
	if classpath == "" {
		t.Skip("NOT TESTED: Apache Kafka itself; `make kafka` fetches it and runs this")
	}
	a := newApache(t, classpath)
	a.start()
	createTopic(t, []string{a.addr}, topic)
	createTopic(t, []string{a.addr}, CancelledTopic(topic))
	cfg := config([]string{a.addr})
	if found := CheckTopic(t.Context(), cfg); len(found) == 0 || !strings.Contains(strings.Join(found, "\n"), "single replica") {
		t.Errorf("CheckTopic found %q, want the single replica", found)
	}
	r := start(t, cfg)
	want := handOvers(4, 3)
	want[4].Message.Data = json.RawMessage(`{"body": "` + incompressible(2<<20) + `"}`)
	r.outbox.put(want[:6]...)
	r.outbox.putCancels(ack.Cancel{CeID: "abc:u1", Cause: ack.CauseRetracted})
	r.outbox.wait("the first", settled(6))
	r.outbox.wait("the cancellation", func(o *memOutbox) bool { return len(o.cancelled) == 1 && !o.inFlight })
	a.kill()
	r.outbox.put(want[6:]...)
	r.outbox.wait("a refusal", refused(1))
	a.start()
	r.outbox.wait("the rest", settled(len(want)))
	records := kafkatest.Collect(t, []string{a.addr}, topic, distinct(len(want)))
	wantOrder(t, records, want)
	truncated := 0
	for _, record := range records {
		if strings.Contains(string(record.Value), `"truncated":true`) {
			truncated++
		}
		if !json.Valid(record.Value) {
			t.Errorf("record %s is no JSON", record.Headers["ce_id"])
		}
	}
	if truncated != 1 {
		t.Errorf("%d records without their data, want 1", truncated)
	}
	if cancelled := kafkatest.Collect(t, []string{a.addr}, CancelledTopic(topic), kafkatest.Count(1)); cancelled[0].Key != "abc:u1" {
		t.Errorf("cancelled %+v", cancelled)
	}
}

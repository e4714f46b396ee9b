package fault

import (
	"errors"
	"os"
	"os/exec"
	"strings"
	"testing"
)

func TestKillsAtTheCountedPass(t *testing.T) {
	if spec := os.Getenv("FAULT_TEST_SPEC"); spec != "" {
		if err := Switch(spec); err != nil {
			t.Fatal(err)
		}
		if !On("way") || On("here") {
			os.Stdout.WriteString("pass\npass\npass\npass\n")
		}
		for range 5 {
			Point("other")
			os.Stdout.WriteString("pass\n")
			Point("here")
		}
		return
	}
	cmd := exec.Command(os.Args[0], "-test.run=^"+t.Name()+"$")
	cmd.Env = append(os.Environ(), "FAULT_TEST_SPEC=here=kill@3,elsewhere=kill@1,way=on,other=sleep@1ms")
	out, err := cmd.Output()
	var exit *exec.ExitError
	if !errors.As(err, &exit) || exit.Exited() {
		t.Fatalf("the process ended with %v, want it killed", err)
	}
	if n := strings.Count(string(out), "pass"); n != 3 {
		t.Errorf("passed %d times, want 3", n)
	}
}

func TestHookSeesPointsUntilUndone(t *testing.T) {
	var seen []string
	undo := Hook(func(point string) { seen = append(seen, point) })
	Point("a")
	undo()
	Point("b")
	if got := strings.Join(seen, " "); got != "a" {
		t.Errorf("saw %q, want a", got)
	}
}

func TestMalformedSpecIsRefused(t *testing.T) {
	for _, spec := range []string{"a", "a=kill", "a=kill@0", "=kill@1", "a=kill@1,", "a=stop@1", "a=sleep", "a=sleep@-1s", "=on", "a=off"} {
		if err := Switch(spec); err == nil {
			t.Errorf("Switch(%q) took it", spec)
		}
	}
	if hook.Load() != nil || On("a") {
		t.Error("a refused spec switched faults on")
	}
}

package browser_test

import (
	"bytes"
	"crypto/sha256"
	"encoding/hex"
	"encoding/json"
	"os"
	"os/exec"
	"path/filepath"
	"slices"
	"sync"
	"testing"
)

// tools are what the tests take from npm, by the lock file in testdata/npm.
const tools = "testdata/npm"

var installOnce sync.Mutex

// project gives a directory in which newswire-client is installed as npm packs
// it, beside the tools. Without node, npm or the registry the test is skipped
// loudly, and fails where CI promises them.
func project(t *testing.T) string {
	t.Helper()
	for _, program := range []string{"node", "npm", "tar"} {
		if _, err := exec.LookPath(program); err != nil {
			unavailable(t, program+" is not on PATH; install it (Debian: apt-get install nodejs npm)")
		}
	}
	modules := installTools(t)
	dir := t.TempDir()
	client := filepath.Join(dir, "node_modules", "newswire-client")
	if err := os.MkdirAll(client, 0o755); err != nil {
		t.Fatal(err)
	}
	here, err := filepath.Abs(".")
	if err != nil {
		t.Fatal(err)
	}
	tarball := lines(must(t, dir, "npm", "pack", "--silent", here))
	must(t, dir, "tar", "xzf", filepath.Join(dir, tarball[len(tarball)-1]), "-C", client, "--strip-components", "1")
	installed, err := os.ReadDir(modules)
	if err != nil {
		t.Fatal(err)
	}
	for _, entry := range installed {
		if err := os.Symlink(filepath.Join(modules, entry.Name()), filepath.Join(dir, "node_modules", entry.Name())); err != nil {
			t.Fatal(err)
		}
	}
	sources, err := filepath.Glob(tools + "/*")
	if err != nil {
		t.Fatal(err)
	}
	for _, source := range sources {
		text, err := os.ReadFile(source)
		if err == nil {
			err = os.WriteFile(filepath.Join(dir, filepath.Base(source)), text, 0o644)
		}
		if err != nil {
			t.Fatal(err)
		}
	}
	return dir
}

// installTools installs what the lock file says, once on a machine, and gives
// the directory.
func installTools(t *testing.T) string {
	t.Helper()
	installOnce.Lock()
	defer installOnce.Unlock()
	lock, err := os.ReadFile(tools + "/package-lock.json")
	if err != nil {
		t.Fatal(err)
	}
	sum := sha256.Sum256(lock)
	cache := os.Getenv("NEWSWIRE_TEST_CACHE")
	if cache == "" {
		cache = "/var/tmp"
	}
	dir := filepath.Join(cache, "newswire-npm-"+hex.EncodeToString(sum[:8]))
	if _, err := os.Stat(dir); err == nil {
		return filepath.Join(dir, "node_modules")
	}
	fresh, err := os.MkdirTemp(cache, "newswire-npm-installing-")
	if err != nil {
		t.Fatal(err)
	}
	defer os.RemoveAll(fresh) // gone already, unless this fails
	must(t, ".", "cp", tools+"/package.json", tools+"/package-lock.json", fresh)
	if out, err := run(fresh, "npm", "ci", "--ignore-scripts", "--no-audit", "--no-fund"); err != nil {
		unavailable(t, "npm ci: "+err.Error()+"\n"+out)
	}
	if err := os.Rename(fresh, dir); err != nil {
		if _, there := os.Stat(dir); there != nil { // another process was faster
			t.Fatal(err)
		}
	}
	return filepath.Join(dir, "node_modules")
}

func unavailable(t *testing.T, why string) {
	t.Helper()
	if os.Getenv("CI") == "true" {
		t.Fatal(why)
	}
	t.Skip("SKIPPED, NOTHING TESTED: " + why)
}

// tool is a program of the installed tools, run by node.
func tool(t *testing.T, dir, name string, args ...string) string {
	t.Helper()
	return must(t, dir, filepath.Join(dir, "node_modules", ".bin", name), args...)
}

// must gives what a program prints; it must succeed.
func must(t *testing.T, dir, program string, args ...string) string {
	t.Helper()
	out, err := run(dir, program, args...)
	if err != nil {
		t.Fatalf("%s %v: %v\n%s", program, args, err, out)
	}
	return out
}

func run(dir, program string, args ...string) (string, error) {
	cmd := exec.Command(program, args...)
	cmd.Dir = dir
	out, err := cmd.CombinedOutput()
	return string(out), err
}

func lines(text string) (all []string) {
	for line := range bytes.Lines([]byte(text)) {
		if line = bytes.TrimSpace(line); len(line) > 0 {
			all = append(all, string(line))
		}
	}
	return all
}

func TestThePackageIsSound(t *testing.T) {
	t.Parallel()
	dir := project(t)
	client := filepath.Join(dir, "node_modules", "newswire-client")
	tool(t, dir, "publint", "--strict", client)
	var manifest struct {
		Dependencies map[string]string
		Files        []string
	}
	text, err := os.ReadFile(filepath.Join(client, "package.json"))
	if err == nil {
		err = json.Unmarshal(text, &manifest)
	}
	if err != nil {
		t.Fatal(err)
	}
	if len(manifest.Dependencies) > 0 {
		t.Errorf("it depends on %v, want nothing", manifest.Dependencies)
	}
	packed, err := os.ReadDir(client)
	if err != nil {
		t.Fatal(err)
	}
	want := append([]string{"LICENSE", "README.md", "package.json"}, manifest.Files...)
	for _, entry := range packed {
		if !slices.Contains(want, entry.Name()) {
			t.Errorf("it brings %s", entry.Name())
		}
	}
	if len(packed) != len(want) {
		t.Errorf("it brings %d files, want %v", len(packed), want)
	}
	ours, err := os.ReadFile("../../LICENSE")
	if err != nil {
		t.Fatal(err)
	}
	if theirs, _ := os.ReadFile(filepath.Join(client, "LICENSE")); !bytes.Equal(ours, theirs) {
		t.Error("its LICENSE is not the project's")
	}
}

func TestTheTypesHoldInAStrictProject(t *testing.T) {
	t.Parallel()
	dir := project(t)
	tool(t, dir, "tsc", "--project", "tsconfig.json")
	tool(t, dir, "tsc", "--project", "tsconfig.source.json")
}

// The types are held against the code: one that promises what the code does not
// have is found.
func TestTypesThatTheCodeDoesNotHaveAreFound(t *testing.T) {
	t.Parallel()
	dir := project(t)
	path := filepath.Join(dir, "node_modules", "newswire-client", "newswire.d.ts")
	text, err := os.ReadFile(path)
	if err != nil {
		t.Fatal(err)
	}
	more := bytes.Replace(text, []byte("  close(): void;"), []byte("  close(): void;\n  pause(): void;"), 1)
	if bytes.Equal(more, text) {
		t.Fatal("newswire.d.ts has no close()")
	}
	if err := os.WriteFile(path, more, 0o644); err != nil {
		t.Fatal(err)
	}
	out, err := run(dir, filepath.Join(dir, "node_modules", ".bin", "tsc"), "--project", "tsconfig.source.json")
	if err == nil || !bytes.Contains([]byte(out), []byte("pause")) {
		t.Errorf("a method that does not exist: %v, %s", err, out)
	}
}

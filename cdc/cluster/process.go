package cluster

import (
	"errors"
	"fmt"
	"os"
	"os/exec"
	"os/user"
	"runtime"
	"slices"
	"strconv"
	"strings"
	"syscall"
)

// process is one run of a program of ours.
type process struct {
	os   *os.Process   // fixed by launch
	done chan struct{} // launch's goroutine closes it when the program has ended
	err  error         // how it ended; readable once done is closed
}

// launch starts a program and returns once it runs. The kernel ties the signal
// for a dead parent to the thread that forked, not to the process; so one
// thread forks, stays until the program has ended, and does nothing else.
func launch(cmd *exec.Cmd) (*process, error) {
	p := &process{done: make(chan struct{})}
	started := make(chan error, 1)
	go func() {
		runtime.LockOSThread()
		defer runtime.UnlockOSThread()
		if err := cmd.Start(); err != nil {
			started <- err
			return
		}
		p.os = cmd.Process
		started <- nil
		p.err = cmd.Wait()
		close(p.done)
	}()
	if err := <-started; err != nil {
		return nil, err
	}
	return p, nil
}

func (p *process) running() bool {
	select {
	case <-p.done:
		return false
	default:
		return true
	}
}

// signal tells the program to end; one that has ended already is none to tell.
func (p *process) signal(s syscall.Signal) error {
	if err := p.os.Signal(s); err != nil && !errors.Is(err, os.ErrProcessDone) {
		return fmt.Errorf("signal PostgreSQL (PID %d): %w", p.os.Pid, err)
	}
	return nil
}

// account is the OS user that the server runs as: PostgreSQL refuses root.
type account struct {
	name     string // "" when it is the user we are
	uid, gid int
}

// serverAccount is ourselves, or, for root, the user made for the purpose.
func serverAccount() (account, error) {
	if os.Geteuid() != 0 {
		return account{}, nil
	}
	for _, name := range []string{"postgres", "nobody"} {
		found, err := user.Lookup(name)
		if err != nil {
			continue
		}
		uid, uidErr := strconv.Atoi(found.Uid)
		gid, gidErr := strconv.Atoi(found.Gid)
		if uidErr == nil && gidErr == nil {
			return account{name: name, uid: uid, gid: gid}, nil
		}
	}
	return account{}, errors.New("PostgreSQL refuses to run as root and there is no OS user postgres or nobody to run it as: run as another user, or add one (useradd --system postgres)")
}

// own makes path the account's, when it is not ours to begin with.
func (a account) own(path string) error {
	if a.name == "" {
		return nil
	}
	return os.Chown(path, a.uid, a.gid)
}

// command prepares one of PostgreSQL's programs: as the account, in a process
// group of its own so that Ctrl-C reaches us alone, without PG… variables that
// would point it at another server.
func (c *Cluster) command(program string, args ...string) *exec.Cmd {
	cmd := exec.Command(c.bin+"/"+program, args...)
	cmd.Dir = c.dir
	cmd.SysProcAttr = attributes(c.account)
	cmd.Env = slices.DeleteFunc(os.Environ(), func(kv string) bool {
		return strings.HasPrefix(kv, "PG") || strings.HasPrefix(kv, "LC_") || strings.HasPrefix(kv, "LANG")
	})
	cmd.Env = append(cmd.Env, "LC_ALL=C") // messages in English: some are looked at below
	return cmd
}

// explain adds to a refused start what the OS user must be able to enter.
func (c *Cluster) explain(program string, err error) error {
	if c.account.name != "" && errors.Is(err, os.ErrPermission) {
		return fmt.Errorf("run %s as OS user %s: %w: that user must be able to enter %s and %s; choose directories open to it, such as under /tmp", program, c.account.name, err, c.dir, c.bin)
	}
	return fmt.Errorf("run %s: %w", program, err)
}

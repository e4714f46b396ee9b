// Command newswire delivers committed rows of a CMS database as news. This
// package is thin: it reads flags, configuration and environment, and hands
// over to the packages that do the work. main is the process; run is the
// program, which tests call with arguments of their own.
package main

import (
	"context"
	"fmt"
	"io"
	"os"
	"os/signal"
	"syscall"
)

func main() {
	ctx, stop := signal.NotifyContext(context.Background(), os.Interrupt, syscall.SIGTERM)
	// The first signal ends ctx, and with it the work in good order. From then
	// on signals act as they do by default, so that a second one ends at once.
	context.AfterFunc(ctx, stop)
	os.Exit(run(ctx, os.Args[1:], os.Environ(), os.Stdout, os.Stderr))
}

// The exit codes.
const (
	exitDone   = 0
	exitFailed = 1
	exitUsage  = 2 // wrong usage or configuration
)

// run does what args ask for and returns the exit code. What the command was
// asked for goes to stdout; faults go to stderr, one sentence a line.
func run(ctx context.Context, args, environ []string, stdout, stderr io.Writer) int {
	p := &program{environ: environ, stdout: stdout, stderr: stderr}
	root := p.command()
	root.SetArgs(args)
	root.SetOut(stdout)
	root.SetErr(stderr)
	err := root.ExecuteContext(ctx)
	if err == nil {
		return exitDone
	}
	for _, line := range sentences(err) {
		fmt.Fprintln(stderr, "newswire: "+line)
	}
	return exitCode(err)
}

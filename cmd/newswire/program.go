package main

import (
	"context"
	"errors"
	"fmt"
	"io"
	"log/slog"
	"os"
	"slices"
	"strings"

	"github.com/spf13/cobra"

	"newswire/cmd/newswire/internal/config"
	faultpoint "newswire/fanout/journal/fault"
)

// program is one run of newswire: what it was given, and what its commands share.
type program struct {
	environ    []string // as os.Environ gives it
	stdout     io.Writer
	stderr     io.Writer
	configPath string // of --config; empty when not given
}

// defaultConfig is read when it is there and nothing else is named.
const defaultConfig = "newswire.yaml"

// command builds the tree of commands.
func (p *program) command() *cobra.Command {
	root := &cobra.Command{
		Use:           "newswire",
		Short:         "Delivers committed rows of a CMS database as news",
		SilenceErrors: true,
		SilenceUsage:  true,

		DisableFlagsInUseLine: true,

		Args: nameCommand,
		RunE: func(*cobra.Command, []string) error { return nil }, // Args refuses whatever comes here

		PersistentPreRunE: func(*cobra.Command, []string) error {
			if err := faultpoint.Switch(p.getenv(config.EnvFaults)); err != nil {
				return usageError{fmt.Errorf("%s: %w", config.EnvFaults, err)}
			}
			return nil
		},
	}
	root.CompletionOptions.DisableDefaultCmd = true
	root.PersistentFlags().StringVar(&p.configPath, "config", "",
		"configuration `file`; default newswire.yaml where there is one, else the environment alone")
	root.SetFlagErrorFunc(func(cmd *cobra.Command, err error) error {
		return fmt.Errorf("%s: %w; `%s --help` lists what it takes", cmd.CommandPath(), err, cmd.CommandPath())
	})
	root.AddCommand(
		p.demo(), p.setup(), p.teardown(), p.doctor(), p.slot(), p.serve(), p.resync(), p.migrate(), p.compensate(), p.tail(), p.audit(), p.backup(), p.restore(), p.token(), p.revoke(), p.config(), p.bench(), p.version(),
	)
	return root
}

// nameCommand refuses a call without a command, or with one that is none.
func nameCommand(cmd *cobra.Command, args []string) error {
	cmd.SuggestionsMinimumDistance = 2 // letters; cobra sets it only where it refuses by itself
	var names []string
	for _, c := range cmd.Commands() {
		if c.IsAvailableCommand() && c.Name() != "help" {
			names = append(names, c.Name())
		}
	}
	if len(args) == 0 {
		return fmt.Errorf("name a command after %q: %s", cmd.CommandPath(), strings.Join(names, ", "))
	}
	if near := cmd.SuggestionsFor(args[0]); len(near) > 0 {
		return fmt.Errorf("unknown command %q; did you mean %q?", args[0], cmd.CommandPath()+" "+near[0])
	}
	return fmt.Errorf("unknown command %q; there are: %s", args[0], strings.Join(names, ", "))
}

// noArguments refuses what stands behind a command that takes only flags.
func noArguments(cmd *cobra.Command, args []string) error {
	if len(args) > 0 {
		return fmt.Errorf("%s takes no argument, but was given %q", cmd.CommandPath(), args[0])
	}
	return nil
}

// work makes do the body of a command. Its error is a failure, unless do calls
// it usageError; what cobra refuses by itself is wrong usage.
func work(do func(ctx context.Context) error) func(*cobra.Command, []string) error {
	return func(cmd *cobra.Command, _ []string) error {
		if err := do(cmd.Context()); err != nil {
			return failure{err}
		}
		return nil
	}
}

// failure is the error of a command that was called rightly.
type failure struct{ error }

func (f failure) Unwrap() error { return f.error }

// usageError is wrong usage, or a wrong configuration, that only the body of a
// command could see.
type usageError struct{ error }

func (u usageError) Unwrap() error { return u.error }

func exitCode(err error) int {
	var failed failure
	var usage usageError
	if errors.As(err, &failed) && !errors.As(err, &usage) {
		return exitFailed
	}
	return exitUsage
}

// sentences are the faults that err joins, each on one line.
func sentences(err error) []string {
	switch e := err.(type) {
	case failure:
		return sentences(e.error)
	case usageError:
		return sentences(e.error)
	case interface{ Unwrap() []error }:
		var all []string
		for _, part := range e.Unwrap() {
			all = append(all, sentences(part)...)
		}
		if joined := errors.Join(e.Unwrap()...); joined != nil && joined.Error() == err.Error() {
			return all
		}
	}
	var lines []string
	for line := range strings.Lines(err.Error()) {
		if line = strings.TrimSpace(line); line != "" {
			lines = append(lines, line)
		}
	}
	return []string{strings.Join(lines, "; ")}
}

// load reads the configuration, of which the command needs the given sections,
// or all when none is given.
func (p *program) load(sections ...string) (config.Config, error) {
	if p.configFile() == "" && !p.configuredByEnvironment() {
		return config.Config{}, usageError{errors.New("no configuration: there is no " + defaultConfig +
			" in this directory and no NEWSWIRE_ variable; name the file with --config")}
	}
	var cfg config.Config
	var err error
	if len(sections) == 0 {
		cfg, err = config.Load(p.configFile(), p.getenv)
	} else {
		cfg, err = config.LoadFor(p.configFile(), p.getenv, sections...)
	}
	if err = errors.Join(err, config.CheckEnv(p.environ)); err != nil {
		return config.Config{}, usageError{err}
	}
	return cfg, nil
}

// configFile is the file to read; empty for none.
func (p *program) configFile() string {
	if p.configPath != "" {
		return p.configPath
	}
	if path := p.getenv(config.EnvConfig); path != "" {
		return path
	}
	if _, err := os.Stat(defaultConfig); err != nil {
		return ""
	}
	return defaultConfig
}

func (p *program) configuredByEnvironment() bool {
	return slices.ContainsFunc(p.environ, func(variable string) bool { return strings.HasPrefix(variable, "NEWSWIRE_") })
}

// getenv is the value of a variable; the last one counts, as in a process.
func (p *program) getenv(name string) string {
	value := ""
	for _, variable := range p.environ {
		if n, v, _ := strings.Cut(variable, "="); n == name {
			value = v
		}
	}
	return value
}

// logger writes to stderr as the configuration says; Load has checked the words.
func (p *program) logger(c config.Log) *slog.Logger {
	var level slog.Level
	if err := level.UnmarshalText([]byte(c.Level)); err != nil {
		level = slog.LevelInfo
	}
	options := &slog.HandlerOptions{Level: level}
	if c.Format == "json" {
		return slog.New(slog.NewJSONHandler(p.stderr, options))
	}
	return slog.New(slog.NewTextHandler(p.stderr, options))
}

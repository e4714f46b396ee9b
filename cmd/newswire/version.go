package main

import (
	"context"
	"fmt"
	"runtime"
	"runtime/debug"

	"github.com/spf13/cobra"
)

// version prints what this binary was built from.
func (p *program) version() *cobra.Command {
	return &cobra.Command{
		Use:   "version",
		Short: "Print what this binary was built from",
		Args:  noArguments,
		RunE: work(func(context.Context) error {
			info, _ := debug.ReadBuildInfo()
			_, err := fmt.Fprintln(p.stdout, versionLine(info))
			return err
		}),
	}
}

func versionLine(info *debug.BuildInfo) string {
	version, revision := "(devel)", "revision unknown"
	if info != nil {
		if info.Main.Version != "" {
			version = info.Main.Version
		}
		modified := ""
		for _, s := range info.Settings {
			switch {
			case s.Key == "vcs.revision":
				revision = "revision " + s.Value
			case s.Key == "vcs.modified" && s.Value == "true":
				modified = ", modified"
			}
		}
		revision += modified
	}
	return fmt.Sprintf("newswire %s (%s) %s %s/%s", version, revision, runtime.Version(), runtime.GOOS, runtime.GOARCH)
}

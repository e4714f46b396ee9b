//go:build !linux

package main

import (
	"errors"

	"github.com/spf13/cobra"
)

// benchFanout needs epoll, and processes as Linux counts them.
func (p *program) benchFanout() *cobra.Command {
	return &cobra.Command{
		Use: "fanout", Short: "Send messages to thousands of readers; on Linux only", Args: noArguments,
		RunE: func(*cobra.Command, []string) error { return failure{errors.New("bench fanout: runs on Linux only")} },
	}
}

func (p *program) benchYard() *cobra.Command { return &cobra.Command{Use: "yard", Hidden: true} }

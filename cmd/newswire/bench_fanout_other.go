//go:build !linux

package main

import (
	"errors"

	"github.com/spf13/cobra"
)

// The load client needs epoll.
func (p *program) benchFanout() *cobra.Command {
	return linuxOnly("fanout", "Send messages to thousands of readers; on Linux only")
}

func (p *program) benchFlood() *cobra.Command {
	return linuxOnly("flood", "Time from the commit to the reader's socket while others flood the gateway; on Linux only")
}

func (p *program) benchLatency() *cobra.Command {
	return linuxOnly("latency", "Time from the commit to the reader's socket; on Linux only")
}

func linuxOnly(name, short string) *cobra.Command {
	return &cobra.Command{
		Use: name, Short: short, Args: noArguments,
		RunE: func(*cobra.Command, []string) error {
			return failure{errors.New("bench " + name + ": runs on Linux only")}
		},
	}
}

func (p *program) benchSiege() *cobra.Command { return &cobra.Command{Use: "siege", Hidden: true} }

func (p *program) benchYard() *cobra.Command { return &cobra.Command{Use: "yard", Hidden: true} }

package main

import (
	"context"

	"github.com/spf13/cobra"

	"newswire/cmd/newswire/internal/config"
	"newswire/cmd/newswire/internal/demo"
)

// demo runs the whole system on one machine. It reads no configuration: what
// it needs it makes itself.
func (p *program) demo() *cobra.Command {
	var o demo.Options
	var level string
	cmd := &cobra.Command{
		Use:   "demo",
		Short: "Run the whole system on this machine, with a page to try it on",
		Args:  noArguments,
		RunE: work(func(ctx context.Context) error {
			p.spareMemory()
			o.Stdout = p.stdout
			return demo.Run(ctx, o, p.logger(config.Log{Level: level}))
		}),
	}
	flags := cmd.Flags()
	flags.StringVar(&o.Dir, "dir", "", "`directory` that keeps database, journal and Kafka; default newswire-demo in the user's cache directory, for root in /var/lib")
	flags.StringVar(&o.Listen, "listen", "", "`address` of the page and the gateway; default 127.0.0.1:8080")
	flags.StringVar(&o.Admin, "admin", "", "`address` of health and metrics; default 127.0.0.1:8081")
	flags.StringVar(&o.KafkaListen, "kafka-listen", "", "`address` of the embedded Kafka; default 127.0.0.1:9092")
	flags.StringVar(&o.Devices, "devices", "", "`address` of the devices API; default 127.0.0.1:8090")
	flags.StringVar(&o.Compensate, "compensate-admin", "", "`address` of the compensation service's health and metrics; default 127.0.0.1:8091")
	flags.StringVar(&o.PGBin, "pg-bin", "", "`directory` of PostgreSQL's programs; default the newest there is")
	flags.DurationVar(&o.AckTimeout, "ack-timeout", 0, "`time` until an article that was not acknowledged is sent again; default 5s")
	flags.StringVar(&level, "log", "warn", "least `level` that is logged: debug, info, warn or error")
	return cmd
}

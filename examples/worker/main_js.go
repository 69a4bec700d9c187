package main

import (
	"context"
	"fmt"
	"log/slog"
	"os"
	"runtime/debug"
	"syscall/js"
	"time"

	"github.com/pdskit/pdskit/examples/worker/edge"
	"github.com/pdskit/pdskit/storage/cloudflare"
	"github.com/pdskit/pdskit/storage/memory"
)

func main() {
	debug.SetGCPercent(50) // the memory of WebAssembly never shrinks
	if err := run(); err != nil {
		fmt.Println("the server does not start:", err)
		os.Exit(1)
	}
}

func run() error {
	host, err := cloudflare.Here()
	if err != nil {
		return err
	}
	var names []string
	keys := js.Global().Get("Object").Call("keys", host.Value("env"))
	for i := range keys.Length() {
		names = append(names, keys.Index(i).String())
	}
	cfg, err := edge.ReadConfig(host.Env, names)
	if err != nil {
		return err
	}
	log := slog.New(slog.NewTextHandler(os.Stdout, nil))
	store := memory.New(memory.Config{})
	sockets := host.NewSockets(cloudflare.SocketsConfig{Events: store.Events})
	name := host.Value("ctx").Get("id").Get("name").String()
	server, err := edge.New(cfg, name, edge.Platform{
		Store: store, Alarm: func(at time.Time) error { host.SetAlarm(at); return nil },
		Subscribe: sockets, Subscribers: sockets.Len, Logger: log,
	})
	if err != nil {
		return err
	}
	started := false
	host.OnAlarm(func(ctx context.Context) (time.Time, error) {
		if !started {
			started = true
			return server.Due(ctx)
		}
		return server.Wake(ctx), nil
	})
	host.Serve(server)
	return nil
}

package main

import (
	"context"
	"errors"
	"fmt"
	"log/slog"
	"os"
	"runtime/debug"
	"syscall/js"
	"time"

	"github.com/pdskit/pdskit/examples/worker/edge"
	"github.com/pdskit/pdskit/storage"
	"github.com/pdskit/pdskit/storage/bucket"
	"github.com/pdskit/pdskit/storage/cloudflare"
	"github.com/pdskit/pdskit/storage/durable"
)

func main() {
	debug.SetGCPercent(50) // memory of WebAssembly never shrinks
	if err := run(context.Background()); err != nil {
		fmt.Println("the server does not start:", err)
		os.Exit(1)
	}
}

// run serves requests, as the server whose host name is the object's name.
func run(ctx context.Context) error {
	host, err := cloudflare.Here()
	if err != nil {
		return err
	}
	cfg, err := edge.ReadConfig(host.Env, keys(host.Value("env")))
	if err != nil {
		return err
	}
	store, err := openStore(ctx, host)
	if err != nil {
		return err
	}
	temp, err := host.Temp("temp")
	if err != nil {
		return err
	}
	log := slog.New(slog.NewTextHandler(os.Stdout, nil))
	var server *edge.Server
	sockets := host.NewSockets(cloudflare.SocketsConfig{
		Events: store.Events,
		Failed: func(err error) { log.Error("the event log cannot be read", "err", err) },
		Empty:  func() { server.Left(ctx) },
	})
	server, err = edge.New(cfg, host.Value("ctx").Get("id").Get("name").String(), edge.Platform{
		Store: store, Temp: temp, Alarm: func(at time.Time) error { host.SetAlarm(at); return nil },
		Subscribe: sockets, Subscribers: sockets.Len, Logger: log,
	})
	if err != nil {
		return err
	}
	started := false
	host.OnAlarm(func(ctx context.Context) (time.Time, error) {
		if started {
			return server.Wake(ctx), nil
		}
		started = true // requests wait for the start, and need not wait for what is due
		return server.Due(ctx)
	})
	host.Serve(server)
	return errors.New("the server has ended")
}

// openStore opens the store of the object: everything in its own SQLite, but for blobs, which are in
// R2.
func openStore(ctx context.Context, host *cloudflare.Host) (store storage.Store, err error) {
	solo, err := durable.OpenSolo(ctx, func(context.Context) (durable.Object, error) { return host.Object("kv") }, durable.SoloConfig{})
	if err != nil {
		return store, err
	}
	store = solo.Store()
	blobs, err := host.Bucket("BLOBS")
	if err != nil {
		return store, err
	}
	// The bucket is shared by all objects. Each has a folder of its own in it: package bucket names that
	// after the store.
	store.Blobs, err = bucket.Open(ctx, bucket.Config{KV: store.KV, Bucket: blobs})
	return store, err
}

// keys are the names of an object's members.
func keys(of js.Value) (list []string) {
	names := js.Global().Get("Object").Call("keys", of)
	for i := range names.Length() {
		list = append(list, names.Index(i).String())
	}
	return list
}

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
	temp, err := host.Temp("temp")
	if err != nil {
		return err
	}
	log := slog.New(slog.NewTextHandler(os.Stdout, &slog.HandlerOptions{Level: cfg.LogLevel}))
	platform := edge.Platform{Temp: temp, Alarm: func(at time.Time) error { host.SetAlarm(at); return nil }, Guard: host.Guard, Logger: log}
	var server *edge.Server
	// subscribed makes the object serve the event log of a store.
	subscribed := func(store storage.Store, p *edge.Platform) {
		sockets := host.NewSockets(cloudflare.SocketsConfig{
			Events: store.Events,
			Failed: func(err error) { log.Error("the event log cannot be read", "err", err) },
			Empty:  func() { server.Left(ctx) },
		})
		p.Subscribe, p.Subscribers = sockets, sockets.Len
	}
	name, err := nameOf(host)
	if err != nil {
		return err
	}
	if part, ok := edge.ParsePart(name); ok {
		server, err = openPart(ctx, host, cfg, part, platform, subscribed)
	} else if platform.Store, err = openStore(ctx, host); err == nil {
		subscribed(platform.Store, &platform)
		server, err = edge.New(cfg, name, platform)
	}
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

// nameOf is the name of the object. An object that an alarm starts is not told its name by the
// platform, so it keeps it.
func nameOf(host *cloudflare.Host) (string, error) {
	about, err := host.Object("about")
	if err != nil {
		return "", err
	}
	kept, err := about.Get("name")
	if err == nil {
		return string(kept), nil
	} else if !errors.Is(err, storage.ErrNotFound) {
		return "", err
	}
	name := host.Value("ctx").Get("id").Get("name")
	if name.Type() != js.TypeString {
		return "", errors.New("the object has no name: it must come from idFromName")
	}
	return name.String(), about.Transact(func() error { return about.Set("name", []byte(name.String())) })
}

// openPart starts the object as a part of a server with an object for each account.
func openPart(ctx context.Context, host *cloudflare.Host, cfg edge.Config, part edge.Part, p edge.Platform,
	subscribed func(storage.Store, *edge.Platform)) (*edge.Server, error) {
	if !cfg.AccountObjects {
		return nil, errors.New("PDS_ACCOUNT_OBJECTS is not set, and this is an object of such a server")
	}
	blobs, err := host.Bucket("BLOBS")
	if err != nil {
		return nil, err
	}
	at := edge.Place{
		Object: func(table string) (durable.Object, error) { return host.Object(table) },
		Bucket: blobs, Call: calls(host), Platform: p,
	}
	if part == edge.Directory {
		at.Open = subscribed
	}
	node, err := edge.OpenPart(ctx, cfg, part, at)
	if err != nil {
		return nil, err
	}
	host.OnCall(node.Answer)
	return node.Server, nil
}

// calls makes calls of other objects, by their names.
func calls(host *cloudflare.Host) func(edge.Part) cloudflare.Call {
	return func(name edge.Part) cloudflare.Call {
		return func(ctx context.Context, method string, body []byte) ([]byte, error) {
			s, err := host.Stub("SERVER", string(name))
			if err != nil {
				return nil, err
			}
			return s.Call(ctx, method, body)
		}
	}
}

// openStore opens the store of the object: everything in its own SQLite, but for blobs, which are
// in R2.
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
	// The bucket is shared by all objects. Each has a folder of its own in it: package bucket names
	// that after the store.
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

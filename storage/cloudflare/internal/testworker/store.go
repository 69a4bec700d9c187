//go:build js

package main

import (
	"context"
	"errors"
	"net/http"
	"runtime"
	"strings"
	"syscall/js"
	"time"

	"github.com/pdskit/pdskit/lexicon/syntax"
	"github.com/pdskit/pdskit/repo"
	"github.com/pdskit/pdskit/storage"
	"github.com/pdskit/pdskit/storage/bucket"
	"github.com/pdskit/pdskit/storage/cloudflare"
	"github.com/pdskit/pdskit/storage/cloudflare/internal/testpds"
	"github.com/pdskit/pdskit/storage/durable"
	"github.com/pdskit/pdskit/storage/memory"
)

// world is a PDS of one account, as far as tests need it.
type world struct {
	repos   *repo.Host
	sockets *cloudflare.Sockets
	faults  *faults
	alarms  []string
}

// newWorld opens the store of the object: a Solo, or, of an object whose name begins with
// "account", the account of a host whose directory is in the object "directory".
func newWorld(ctx context.Context, host *cloudflare.Host, mux *http.ServeMux) *world {
	w := &world{faults: &faults{host: host}}
	var store storage.Store
	if strings.HasPrefix(nameOf(host), "account") {
		store = w.account(ctx, host)
	} else {
		store = w.openSolo(ctx, host)
	}
	host.BucketTime = time.Duration(testpds.Number(host.Env("R2"))) * time.Millisecond
	host.IdleBody = host.BucketTime
	store.Blobs = memory.New(memory.Config{}).Blobs
	if b, err := host.Bucket("BLOBS"); err == nil {
		cfg := bucket.Config{KV: store.KV, Bucket: b}
		if host.Env("R2") != "" {
			cfg.OrphanAge = time.Millisecond
		}
		store.Blobs = must(bucket.Open(ctx, cfg))
	}
	w.repos = testpds.New(mux, repo.Config{Store: store, Temp: must(host.Temp("temp")), WaitForReaders: true})
	setting := func(name string) int { return testpds.Number(host.Env(name)) }
	w.sockets = host.NewSockets(cloudflare.SocketsConfig{
		Events: store.Events, Max: setting("SOCKETS"), MaxPerNetwork: setting("SOCKETS"), Rate: setting("RATE"),
		Unread: int64(setting("UNREAD")), TotalUnread: int64(setting("TOTAL")),
	})
	mux.Handle("/xrpc/com.atproto.sync.subscribeRepos", w.sockets)
	w.routes(host, mux, store)
	return w
}

// nameOf is the name of the object, which the platform does not tell one that an alarm starts.
func nameOf(host *cloudflare.Host) string {
	about := must(host.Object("about"))
	if kept, err := about.Get("name"); err == nil {
		return string(kept)
	}
	name := host.Value("ctx").Get("id").Get("name").String()
	if err := about.Transact(func() error { return about.Set("name", []byte(name)) }); err != nil {
		panic(err)
	}
	return name
}

// account opens the store of one account of many.
func (w *world) account(ctx context.Context, host *cloudflare.Host) storage.Store {
	shared := memory.New(memory.Config{}) // but for the directory, nothing is asked of it
	objects := must(host.Objects("kv"))
	db := must(durable.New(ctx, durable.Config{
		Shared: shared, Objects: faultyObjects{objects, objects.(durable.Marker), w.faults},
		Directory: faultyDirectory{must(host.Directory("ACCOUNT", "directory")), w.faults},
	}))
	host.GuardTime = time.Duration(testpds.Number(host.Env("GUARD"))) * time.Millisecond
	host.OnAlarm(func(ctx context.Context) (time.Time, error) {
		err := db.Store().Repos.View(ctx, testpds.Alice, func(storage.Reader) error { return nil })
		if errors.Is(err, storage.ErrNotFound) {
			err = nil
		}
		return time.Time{}, err
	})
	return db.Store()
}

// openSolo opens a store of its own, which is the directory of others too.
func (w *world) openSolo(ctx context.Context, host *cloudflare.Host) storage.Store {
	solo := must(durable.OpenSolo(ctx, func(context.Context) (durable.Object, error) {
		o, err := host.Object("kv")
		return faulty{o, w.faults}, err
	}, durable.SoloConfig{
		Schedule: func(at time.Time) error { host.SetAlarm(at); return nil },
		Alarms: durable.Alarms{Call: func(_ context.Context, did syntax.DID) error {
			w.alarms = append(w.alarms, string(did))
			return nil
		}},
	}))
	host.OnAlarm(solo.FireAlarms)
	host.OnCall(cloudflare.AnswerDirectory(durable.NewDirectory(solo.Store())))
	return solo.Store()
}

// routes are what a test asks of the store besides.
func (w *world) routes(host *cloudflare.Host, mux *http.ServeMux, store storage.Store) {
	testpds.Handle(mux, "events", func(r *http.Request) (any, error) {
		var list []int64
		for e, err := range store.Events.Since(r.Context(), 0) {
			if err != nil {
				return nil, err
			}
			list = append(list, e.Seq)
		}
		return list, nil
	})
	testpds.Handle(mux, "sockets", func(*http.Request) (any, error) { return w.sockets.Len(), nil })
	// Deletes blobs that no record has, of any age.
	testpds.Handle(mux, "collect", func(r *http.Request) (any, error) {
		at := time.Now().Add(time.Hour)
		n, err := store.Blobs.Collect(r.Context(), at)
		if err == nil {
			_, err = w.repos.SweepBlobs(r.Context(), testpds.Alice, at)
		}
		return n, err
	})
	testpds.Handle(mux, "trim", func(r *http.Request) (any, error) {
		return nil, store.Events.Trim(r.Context(), time.Now().Add(time.Hour))
	})
	// An alarm, in so many milliseconds.
	testpds.Handle(mux, "alarm", func(r *http.Request) (any, error) {
		at := time.Now().Add(time.Duration(testpds.Number(r.FormValue("ms"))) * time.Millisecond)
		head, err := store.Repos.Head(r.Context(), testpds.Alice)
		if err != nil {
			return nil, err
		}
		return store.Repos.Apply(r.Context(), testpds.Alice, &storage.Change{Prev: head, Head: head, KV: []storage.KVWrite{durable.SetAlarm(at)}})
	})
	// The platform's alarm of the object.
	testpds.Handle(mux, "guard", func(r *http.Request) (any, error) {
		at, err := host.Wait(r.Context(), host.Value("ctx").Get("storage").Call("getAlarm"))
		if err != nil || at.Type() != js.TypeNumber {
			return nil, err
		}
		return at.Float(), nil
	})
	testpds.Handle(mux, "alarms", func(*http.Request) (any, error) { return w.alarms, nil })
	// A change that is announced to all, and whose transaction has been carried out, but which is
	// not durable yet when the object is aborted.
	testpds.Handle(mux, "gate", func(r *http.Request) (any, error) {
		note, err := testpds.Note(w.repos, 10)
		if err == nil {
			_, err = w.repos.Apply(r.Context(), testpds.Alice, repo.Batch{Writes: []repo.Write{note}})
		}
		if err == nil {
			for range 100 { // until the frame is sent, as far as the object can send it
				runtime.Gosched()
			}
			w.faults.abort()
		}
		return nil, err
	})
	// A value that takes several rows.
	testpds.Handle(mux, "row", func(r *http.Request) (any, error) {
		return nil, store.KV.Write(r.Context(), func(tx storage.KVTx) error {
			return tx.Set(r.Context(), "test/row", make([]byte, testpds.Number(r.FormValue("n"))), time.Time{})
		})
	})
}

func must[T any](v T, err error) T {
	if err != nil {
		panic(err)
	}
	return v
}

//go:build js

package main

import (
	"context"
	"crypto/rand"
	"encoding/json"
	"net/http"
	"runtime"
	"strconv"
	"strings"
	"time"

	"github.com/pdskit/pdskit/crypto"
	"github.com/pdskit/pdskit/lexicon"
	"github.com/pdskit/pdskit/lexicon/data"
	"github.com/pdskit/pdskit/lexicon/syntax"
	"github.com/pdskit/pdskit/repo"
	"github.com/pdskit/pdskit/storage"
	"github.com/pdskit/pdskit/storage/bucket"
	"github.com/pdskit/pdskit/storage/cloudflare"
	"github.com/pdskit/pdskit/storage/durable"
	"github.com/pdskit/pdskit/storage/memory"
	"github.com/pdskit/pdskit/storage/storagetest"
	"github.com/pdskit/pdskit/xrpc"
	"github.com/pdskit/pdskit/xrpc/atproto"
	"github.com/pdskit/pdskit/xrpc/auth"
)

// alice is the account of all objects. Everybody may write as she.
const alice = syntax.DID("did:plc:ewvi7nxzyoun6zhxrhs64oiz")

type accounts struct{}

func (accounts) Account(_ context.Context, id syntax.AtIdentifier) (atproto.Account, error) {
	if id != syntax.AtIdentifier(alice) {
		return atproto.Account{}, atproto.ErrNoAccount
	}
	return atproto.Account{DID: alice, Handle: "alice.test", Created: time.Unix(1_800_000_000, 0)}, nil
}

func (a accounts) ListAccounts(ctx context.Context, _ time.Time, after syntax.DID, _ int) ([]atproto.Account, error) {
	if after != "" {
		return nil, nil
	}
	acc, err := a.Account(ctx, syntax.AtIdentifier(alice))
	return []atproto.Account{acc}, err
}

// world is a PDS of one account, as far as tests need it.
type world struct {
	host    *cloudflare.Host
	solo    *durable.Solo
	repos   *repo.Host
	key     *crypto.PrivateKey
	sockets *cloudflare.Sockets
	faults  *faults
	alarms  []string
}

// newWorld opens the store of the object.
func newWorld(ctx context.Context, host *cloudflare.Host, mux *http.ServeMux) *world {
	w := &world{host: host, faults: &faults{host: host}, key: must(crypto.ParsePrivateKey(crypto.K256, []byte(strings.Repeat("k", 32))))}
	w.solo = must(durable.OpenSolo(ctx, func(context.Context) (durable.Object, error) {
		o, err := host.Object("kv")
		return faulty{o, w.faults}, err
	}, durable.SoloConfig{
		Schedule: func(at time.Time) error { host.SetAlarm(at); return nil },
		Alarms: durable.Alarms{Call: func(_ context.Context, did syntax.DID) error {
			w.alarms = append(w.alarms, string(did))
			return nil
		}},
	}))
	host.OnAlarm(w.solo.FireAlarms)
	store := w.solo.Store()
	store.Blobs = memory.New(memory.Config{}).Blobs
	if b, err := host.Bucket("BLOBS"); err == nil {
		store.Blobs = must(bucket.Open(ctx, bucket.Config{KV: store.KV, Bucket: b}))
	}
	w.repos = repo.NewHost(repo.Config{
		Store:  store,
		Signer: func(context.Context, syntax.DID) (crypto.Signer, error) { return w.key, nil },
	})
	w.sockets = host.NewSockets(cloudflare.SocketsConfig{
		Events: store.Events, Max: number(host.Env("SOCKETS")), MaxPerNetwork: number(host.Env("SOCKETS")),
		Rate: number(host.Env("RATE")), Unread: int64(number(host.Env("UNREAD"))), TotalUnread: int64(number(host.Env("TOTAL"))),
	})
	schemas := lexicon.Builtin()
	methods := &xrpc.Server{Catalog: schemas}
	(&atproto.Service{
		Host: w.repos, Accounts: accounts{}, Schemas: schemas,
		Auth: atproto.Auth{User: func(*xrpc.Request) (auth.Principal, error) {
			return auth.Principal{Role: auth.User, DID: alice, Permissions: auth.Everything()}, nil
		}},
	}).Mount(methods)
	mux.Handle("/xrpc/", methods)
	mux.Handle("/xrpc/com.atproto.sync.subscribeRepos", w.sockets)
	w.routes(mux, store)
	return w
}

func number(s string) int {
	n, _ := strconv.Atoi(s)
	return n
}

// routes are what a test asks of the store besides.
func (w *world) routes(mux *http.ServeMux, store storage.Store) {
	handle := func(path string, fn func(r *http.Request) (any, error)) {
		mux.HandleFunc("/test/"+path, func(rw http.ResponseWriter, r *http.Request) {
			v, err := fn(r)
			if err != nil {
				http.Error(rw, err.Error(), http.StatusInternalServerError)
				return
			}
			_ = json.NewEncoder(rw).Encode(v)
		})
	}
	handle("create", func(r *http.Request) (any, error) { return w.repos.Create(r.Context(), alice, repo.Batch{}) })
	// Many records by one change.
	handle("fill", func(r *http.Request) (any, error) {
		var writes []repo.Write
		for range number(r.FormValue("n")) {
			record := must(recordOf(number(r.FormValue("size"))))
			writes = append(writes, repo.Write{Action: repo.Create, Collection: "com.example.note", RKey: w.repos.NextRecordKey(), Record: record})
		}
		return w.repos.Apply(r.Context(), alice, repo.Batch{Writes: writes})
	})
	handle("check", func(r *http.Request) (any, error) {
		return "ok", storagetest.CheckStore(r.Context(), storage.Store{Repos: store.Repos, Events: store.Events, KV: store.KV}, storagetest.Options{
			Key: func(syntax.DID) *crypto.PublicKey { return w.key.PublicKey() },
		})
	})
	handle("events", func(r *http.Request) (any, error) {
		var list []int64
		for e, err := range store.Events.Since(r.Context(), 0) {
			if err != nil {
				return nil, err
			}
			list = append(list, e.Seq)
		}
		return list, nil
	})
	handle("sockets", func(*http.Request) (any, error) { return w.sockets.Len(), nil })
	handle("trim", func(r *http.Request) (any, error) {
		return nil, store.Events.Trim(r.Context(), time.Now().Add(time.Hour))
	})
	// An alarm, in so many milliseconds.
	handle("alarm", func(r *http.Request) (any, error) {
		at := time.Now().Add(time.Duration(number(r.FormValue("ms"))) * time.Millisecond)
		head, err := store.Repos.Head(r.Context(), alice)
		if err != nil {
			return nil, err
		}
		return store.Repos.Apply(r.Context(), alice, &storage.Change{Prev: head, Head: head, KV: []storage.KVWrite{durable.SetAlarm(at)}})
	})
	handle("alarms", func(*http.Request) (any, error) { return w.alarms, nil })
	// A change that is announced to all, and whose transaction has been carried out, but which is not
	// durable yet when the object is aborted.
	handle("gate", func(r *http.Request) (any, error) {
		_, err := w.repos.Apply(r.Context(), alice, repo.Batch{Writes: []repo.Write{{
			Action: repo.Create, Collection: "com.example.note", RKey: w.repos.NextRecordKey(), Record: must(recordOf(10)),
		}}})
		if err == nil {
			for range 100 { // until the frame is sent, as far as the object can send it
				runtime.Gosched()
			}
			w.faults.abort()
		}
		return nil, err
	})
	// A row that is too large for a Durable Object, though not for workerd.
	handle("row", func(r *http.Request) (any, error) {
		return nil, w.solo.Store().KV.Write(r.Context(), func(tx storage.KVTx) error {
			return tx.Set(r.Context(), "test/row", make([]byte, number(r.FormValue("n"))), time.Time{})
		})
	})
}

func must[T any](v T, err error) T {
	if err != nil {
		panic(err)
	}
	return v
}

// recordOf is a record of its own.
func recordOf(size int) ([]byte, error) {
	return data.Encode(map[string]any{"$type": "com.example.note", "text": strings.Repeat(rand.Text(), size/26+1)})
}

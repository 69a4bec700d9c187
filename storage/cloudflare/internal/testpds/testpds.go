// Package testpds is a PDS with one account and no credentials, for tests and benchmarks of package
// cloudflare: the same inside a Durable Object and natively.
package testpds

import (
	"context"
	"crypto/rand"
	"encoding/json"
	"net/http"
	"strconv"
	"strings"
	"time"

	"github.com/pdskit/pdskit/crypto"
	"github.com/pdskit/pdskit/lexicon"
	"github.com/pdskit/pdskit/lexicon/data"
	"github.com/pdskit/pdskit/lexicon/syntax"
	"github.com/pdskit/pdskit/repo"
	"github.com/pdskit/pdskit/storage"
	"github.com/pdskit/pdskit/storage/storagetest"
	"github.com/pdskit/pdskit/xrpc"
	"github.com/pdskit/pdskit/xrpc/atproto"
	"github.com/pdskit/pdskit/xrpc/auth"
)

// Alice is the account. Everybody may write as she.
const Alice = syntax.DID("did:plc:ewvi7nxzyoun6zhxrhs64oiz")

// accounts are Alice.
type accounts struct{}

func (accounts) Account(_ context.Context, id syntax.AtIdentifier) (atproto.Account, error) {
	if id != syntax.AtIdentifier(Alice) {
		return atproto.Account{}, atproto.ErrNoAccount
	}
	return atproto.Account{DID: Alice, Handle: "alice.test", Created: time.Unix(1_800_000_000, 0)}, nil
}

func (a accounts) ListAccounts(ctx context.Context, _ time.Time, after syntax.DID, _ int) ([]atproto.Account, error) {
	if after != "" {
		return nil, nil
	}
	acc, err := a.Account(ctx, syntax.AtIdentifier(Alice))
	return []atproto.Account{acc}, err
}

// Key signs all commits.
func Key() *crypto.PrivateKey {
	key, err := crypto.ParsePrivateKey(crypto.K256, []byte(strings.Repeat("k", 32)))
	if err != nil {
		panic(err)
	}
	return key
}

// New makes a PDS. The configuration needs no Signer.
func New(mux *http.ServeMux, cfg repo.Config) *repo.Host {
	key := Key()
	cfg.Signer = func(context.Context, syntax.DID) (crypto.Signer, error) { return key, nil }
	host := repo.NewHost(cfg)
	schemas := lexicon.Builtin()
	methods := &xrpc.Server{Catalog: schemas}
	(&atproto.Service{
		Host: host, Accounts: accounts{}, Schemas: schemas,
		ImportKeys: func(context.Context, syntax.DID) ([]*crypto.PublicKey, error) {
			return []*crypto.PublicKey{key.PublicKey()}, nil
		},
		Auth: atproto.Auth{User: func(*xrpc.Request) (auth.Principal, error) {
			return auth.Principal{Role: auth.User, DID: Alice, Permissions: auth.Everything()}, nil
		}},
	}).Mount(methods)
	mux.Handle("/xrpc/", methods)
	Handle(mux, "create", func(r *http.Request) (any, error) { return host.Create(r.Context(), Alice, repo.Batch{}) })
	// Many records by one change.
	Handle(mux, "fill", func(r *http.Request) (any, error) {
		var writes []repo.Write
		for range Number(r.FormValue("n")) {
			w, err := Note(host, Number(r.FormValue("size")))
			if err != nil {
				return nil, err
			}
			writes = append(writes, w)
		}
		return host.Apply(r.Context(), Alice, repo.Batch{Writes: writes})
	})
	Handle(mux, "check", func(r *http.Request) (any, error) {
		store := storage.Store{Repos: cfg.Store.Repos, Events: cfg.Store.Events, KV: cfg.Store.KV}
		return "ok", storagetest.CheckStore(r.Context(), store, storagetest.Options{
			Key: func(syntax.DID) *crypto.PublicKey { return key.PublicKey() },
		})
	})
	return host
}

// Handle adds a route below /test/ that answers with JSON.
func Handle(mux *http.ServeMux, path string, fn func(r *http.Request) (any, error)) {
	mux.HandleFunc("/test/"+path, func(w http.ResponseWriter, r *http.Request) {
		v, err := fn(r)
		if err != nil {
			http.Error(w, err.Error(), http.StatusInternalServerError)
			return
		}
		_ = json.NewEncoder(w).Encode(v)
	})
}

// Number is a number, or 0.
func Number(s string) int {
	n, _ := strconv.Atoi(s)
	return n
}

// Note makes a record like no other.
func Note(host *repo.Host, size int) (repo.Write, error) {
	record, err := data.Encode(map[string]any{"$type": "com.example.note", "text": strings.Repeat(rand.Text(), size/26+1)})
	return repo.Write{Action: repo.Create, Collection: "com.example.note", RKey: host.NextRecordKey(), Record: record}, err
}

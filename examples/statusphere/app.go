package main

import (
	"context"
	"log/slog"
	"net/http"
	"path/filepath"
	"sync"
	"time"

	"github.com/pdskit/pdskit/examples/statusphere/internal/index"
	"github.com/pdskit/pdskit/examples/statusphere/internal/source"
	"github.com/pdskit/pdskit/examples/statusphere/internal/sqlstore"
	"github.com/pdskit/pdskit/examples/statusphere/internal/status"
	"github.com/pdskit/pdskit/examples/statusphere/internal/web"
	"github.com/pdskit/pdskit/identity"
	"github.com/pdskit/pdskit/storage/sealed"
	"github.com/pdskit/pdskit/xrpc/oauth/client"
)

// settings say what an app is put together from.
type settings struct {
	dir    string // for its databases
	url    string // its own origin
	secret []byte // 32 bytes
	// firehose is a PDS or relay, jetstream a Jetstream. One of them is set.
	firehose, jetstream string
	// loopback: it is on a person's own machine, and has no metadata that servers could fetch.
	loopback bool
	// keys authenticate it. None: it is a public client.
	keys []client.Key
	// logins are accounts to try.
	logins []string

	resolver                       *identity.Resolver
	strangers, downloads, operator *http.Client
	development                    bool // servers on this machine may be asked
	now                            func() time.Time
	log                            *slog.Logger

	fetchPause time.Duration // see index.Index
	maxLive    int           // see web.Config
}

// database is the file that has everything but the secrets.
const database = "statusphere.sqlite"

// app is the app without a listener.
type app struct {
	set     settings
	index   *index.Index
	network *source.Network
	web     *web.Server
}

// openApp puts an app together. It starts nothing.
func openApp(ctx context.Context, s settings) (a *app, err error) {
	a = &app{set: s}
	defer func() {
		if err != nil {
			a.close()
		}
	}()
	if a.index, err = index.Open(ctx, filepath.Join(s.dir, database)); err != nil {
		return nil, err
	}
	a.index.Now, a.index.FetchPause = s.now, s.fetchPause
	if _, err = a.index.SQL.ExecContext(ctx, sqlstore.Schema); err != nil {
		return nil, err
	}
	typ, err := status.New()
	if err != nil {
		return nil, err
	}
	a.network = &source.Network{
		Index: a.index, Type: typ, Resolver: s.resolver, Strangers: s.strangers, Downloads: s.downloads, Operator: s.operator, Now: s.now, Log: s.log,
	}
	oauth, err := a.oauth()
	if err != nil {
		return nil, err
	}
	unverified := ""
	if s.jetstream != "" {
		unverified = s.jetstream
	}
	a.web, err = web.New(web.Config{
		URL: s.url, Index: a.index, Type: typ, OAuth: oauth, Secret: s.secret, Logins: s.logins, Unverified: unverified, MaxLive: s.maxLive, Now: s.now, Log: s.log,
	})
	return a, err
}

// oauth returns the client by which people sign in. Its sessions are in the database too,
// encrypted.
func (a *app) oauth() (*client.Client, error) {
	s := &a.set
	box, err := sealed.New(s.secret)
	if err != nil {
		return nil, err
	}
	meta := client.Loopback(web.Scope, web.CallbackPath)
	if !s.loopback {
		meta = client.Metadata{ID: s.url + web.MetadataPath, Name: "Statusphere", URI: s.url, RedirectURIs: []string{s.url + web.CallbackPath}, Scope: web.Scope}
		if len(s.keys) > 0 {
			meta.KeysURI = s.url + web.KeysPath
		}
	}
	return client.New(client.Config{
		Metadata: meta, Keys: s.keys, Sessions: &sqlstore.Store{DB: a.index.SQL}, Seal: box,
		Discovery: &client.Discovery{Resolver: s.resolver, HTTP: s.strangers, Development: s.development, Now: s.now},
	})
}

// run follows the network and keeps open pages up to date, until the context ends.
func (a *app) run(ctx context.Context) {
	var running sync.WaitGroup
	running.Go(func() { a.web.Run(ctx) })
	running.Go(func() { a.network.Repair(ctx) })
	running.Go(func() {
		if a.set.jetstream != "" {
			a.network.Jetstream(ctx, a.set.jetstream)
		} else {
			a.network.Firehose(ctx, a.set.firehose)
		}
	})
	running.Wait()
}

// close closes the database.
func (a *app) close() error {
	if a.index == nil {
		return nil
	}
	return a.index.Close()
}

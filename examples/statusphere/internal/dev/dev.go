// Package dev is a small AT Protocol network in this process: a PDS with two accounts, and a
// did:plc directory that only this process can reach. It is for trying the app on one machine,
// without the Internet.
package dev

import (
	"context"
	"crypto/hkdf"
	"crypto/sha256"
	"encoding/base32"
	"errors"
	"fmt"
	"log/slog"
	"net"
	"net/http"
	"os"
	"path/filepath"
	"strings"
	"sync"

	"github.com/pdskit/pdskit/examples/statusphere/internal/status"
	"github.com/pdskit/pdskit/identity"
	"github.com/pdskit/pdskit/identity/plctest"
	"github.com/pdskit/pdskit/lexicon"
	"github.com/pdskit/pdskit/lexicon/data"
	"github.com/pdskit/pdskit/lexicon/syntax"
	"github.com/pdskit/pdskit/repo/account"
	"github.com/pdskit/pdskit/storage/sqlite"
	"github.com/pdskit/pdskit/xrpc"
	"github.com/pdskit/pdskit/xrpc/atproto/api"
	"github.com/pdskit/pdskit/xrpc/atproto/server"
	"github.com/pdskit/pdskit/xrpc/limit"
	"github.com/pdskit/pdskit/xrpc/pds"
)

// Login is an account to try.
type Login struct{ Handle, Password string }

// Network is the network. Make one with [Start].
type Network struct {
	URL    string // of the PDS
	Logins []Login

	db        *sqlite.DB
	directory *plctest.Directory
	pds       *pds.Server
	http      *http.Server
	stop      context.CancelFunc
	running   sync.WaitGroup
}

// Start serves the PDS at an address such as "localhost:2583", and keeps what it has in a folder.
// The address must stay the same, since the accounts' DID documents have it. The passwords are made
// of the secret, so they stay the same too.
func Start(ctx context.Context, address, dir string, secret []byte, log *slog.Logger) (n *Network, err error) {
	if _, port, err := net.SplitHostPort(address); err != nil || port == "0" {
		return nil, fmt.Errorf("the address of the PDS is a host and a port that stays the same, such as localhost:2583, and not %q", address)
	}
	l, err := net.Listen("tcp", address)
	if err != nil {
		return nil, fmt.Errorf("the PDS needs its port (-pds chooses another one): %w", err)
	}
	n = &Network{URL: "http://" + address, stop: func() {}}
	defer func(started *Network) {
		if err != nil {
			started.Close(ctx)
			l.Close()
		}
	}(n)
	if err := n.open(ctx, dir, log); err != nil {
		return nil, err
	}
	n.http = &http.Server{Handler: n.pds, ErrorLog: slog.NewLogLogger(log.Handler(), slog.LevelWarn)}
	limit.Harden(n.http)
	run, stop := context.WithCancel(context.WithoutCancel(ctx))
	n.stop = stop
	n.running.Go(func() { n.http.Serve(l) })
	n.running.Go(func() { n.pds.Run(run) })
	for _, name := range []string{"Alice", "Bob"} {
		login, err := n.account(ctx, name, secret)
		if err != nil {
			return nil, fmt.Errorf("the account of %s: %w", name, err)
		}
		n.Logins = append(n.Logins, login)
	}
	return n, nil
}

// open opens the PDS.
func (n *Network) open(ctx context.Context, dir string, log *slog.Logger) (err error) {
	if err := os.MkdirAll(dir, 0o700); err != nil {
		return err
	}
	if n.db, err = sqlite.Open(ctx, filepath.Join(dir, "pds.sqlite"), sqlite.Config{}); err != nil {
		return err
	}
	if n.directory, err = plctest.New(plctest.Config{File: filepath.Join(dir, "plc.jsonl"), NoRateLimits: true}); err != nil {
		return err
	}
	secrets, err := pds.ReadSecrets(filepath.Join(dir, "secrets.json"))
	if err != nil {
		return err
	}
	doc, err := status.Document()
	if err != nil {
		return err
	}
	catalog := lexicon.Builtin()
	catalog.Add(doc)
	n.pds, err = pds.New(pds.Config{
		URL: n.URL, Development: true, Store: n.db.Store(), Secrets: secrets, Directory: n.directory.Client(),
		Policy: server.Policy{Domains: []string{".test"}}, Catalog: catalog, Logger: log,
	})
	return err
}

// account makes an account, unless it is there, with a name in its profile.
func (n *Network) account(ctx context.Context, name string, secret []byte) (l Login, err error) {
	key, err := hkdf.Key(sha256.New, secret, nil, "statusphere password of "+name, 10)
	if err != nil {
		return l, err
	}
	l = Login{Handle: strings.ToLower(name) + ".test", Password: strings.ToLower(base32.StdEncoding.EncodeToString(key))}
	handle := syntax.Handle(l.Handle)
	if _, err := n.pds.Accounts.Account(ctx, syntax.AtIdentifier(handle)); !errors.Is(err, account.ErrNotFound) {
		return l, err
	}
	c := &xrpc.Client{Host: n.URL}
	out, err := api.ServerCreateAccount(ctx, c, api.ServerCreateAccountInput{Handle: handle, Email: l.Handle + "@example.com", Password: l.Password})
	if err != nil {
		return l, err
	}
	c.Authorize = xrpc.Bearer(out.AccessJWT)
	profile, err := data.MarshalJSON(map[string]any{"$type": "app.bsky.actor.profile", "displayName": name})
	if err != nil {
		return l, err
	}
	_, err = api.RepoPutRecord(ctx, c, api.RepoPutRecordInput{Repo: syntax.AtIdentifier(out.DID), Collection: "app.bsky.actor.profile", RKey: "self", Record: profile})
	return l, err
}

// Close ends the network, after the requests that are under way.
func (n *Network) Close(ctx context.Context) error {
	n.stop()
	var errs []error
	if n.http != nil {
		errs = append(errs, n.http.Shutdown(ctx), n.http.Close())
	}
	n.running.Wait()
	if n.pds != nil {
		errs = append(errs, n.pds.Close(ctx))
	}
	if n.directory != nil {
		errs = append(errs, n.directory.Close())
	}
	if n.db != nil {
		errs = append(errs, n.db.Close())
	}
	return errors.Join(errs...)
}

// Resolver returns a resolver of the network's accounts. Their handles are under ".test", which no
// DNS has: the PDS itself says whose they are.
func (n *Network) Resolver() *identity.Resolver {
	return &identity.Resolver{PLC: n.directory.Client(), DNS: names{n.pds}, Development: true}
}

// names are the handles of a PDS, in the form of DNS records.
type names struct{ pds *pds.Server }

func (d names) LookupTXT(ctx context.Context, name string) ([]string, error) {
	handle := strings.TrimSuffix(strings.TrimPrefix(name, "_atproto."), ".")
	a, err := d.pds.Accounts.Account(ctx, syntax.AtIdentifier(handle))
	if err != nil {
		return nil, &net.DNSError{Err: "no such host", Name: name, IsNotFound: errors.Is(err, account.ErrNotFound)}
	}
	return []string{"did=" + string(a.DID)}, nil
}

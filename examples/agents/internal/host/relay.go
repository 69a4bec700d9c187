package host

import (
	"context"
	"errors"

	"github.com/pdskit/pdskit/lexicon/syntax"
	"github.com/pdskit/pdskit/repo"
	"github.com/pdskit/pdskit/storage"
	"github.com/pdskit/pdskit/storage/sqlite"
	"github.com/pdskit/pdskit/xrpc/relay"
)

// Relay is how agents hear each other: it verifies every commit against the DID document of its
// author, and passes it on in one order. Here it reads one host, in the process; AddHost would
// bring in others, and nothing else would change.
type Relay struct {
	Relay *relay.Relay
	db    *sqlite.DB
	host  *Host
}

func openRelay(ctx context.Context, file string, h *Host) (*Relay, error) {
	db, err := sqlite.Open(ctx, file, sqlite.Config{})
	if err != nil {
		return nil, err
	}
	r := &relay.Relay{
		Store: db.Store(), Identity: h.Resolver(),
		Retention:     -1, // an agent may read again what it has missed
		Limits:        relay.Limits{Accounts: -1, Rate: -1, Burst: -1},
		Closed:        true,
		NoCollections: true, // nobody asks it for them
	}
	if err := r.AddLocal(ctx, Name, h.Store()); err != nil {
		return nil, errors.Join(err, db.Close())
	}
	return &Relay{r, db, h}, nil
}

// Log is what the relay has passed on.
func (r *Relay) Log() storage.Events { return r.db.Store().Events }

// Run relays until the context ends.
func (r *Relay) Run(ctx context.Context) error { return r.Relay.Run(ctx) }

// Close closes the relay.
func (r *Relay) Close() error { return r.db.Close() }

// Differ returns the accounts whose heads the relay and the host do not agree on.
func (r *Relay) Differ(ctx context.Context) (list []syntax.DID, err error) {
	for info, err := range r.host.Repos.Repos(ctx, "") {
		if err != nil {
			return nil, err
		}
		head, err := r.host.Repos.Head(ctx, info.DID)
		if err != nil && !errors.Is(err, repo.ErrRepoNotFound) {
			return nil, err
		}
		theirs, err := r.db.Store().Repos.Head(ctx, info.DID)
		if err != nil && !errors.Is(err, storage.ErrNotFound) {
			return nil, err
		}
		if theirs.Commit != head.Commit {
			list = append(list, info.DID)
		}
	}
	return list, nil
}

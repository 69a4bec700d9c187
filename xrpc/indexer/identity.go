package indexer

import (
	"context"
	"errors"
	"fmt"

	"github.com/pdskit/pdskit/commit"
	"github.com/pdskit/pdskit/identity"
	"github.com/pdskit/pdskit/lexicon/syntax"
)

// errForeign: an event comes from a host that is not the account's.
var errForeign = errors.New("it is not the account's host")

// errUnsure: that may be so, but was not looked up just now.
var errUnsure = errors.New("the document may be old")

// speaksFor returns an error if a source is a host, and not that of an account. Relays and local
// stores speak for all.
func (r *run) speaksFor(ctx context.Context, s *source, did syntax.DID) error {
	if s.Host == "" {
		return nil
	}
	doc, err := r.resolve(ctx, did)
	fresh := false
	if err == nil && !doc.HostedAt(s.url) {
		fresh = r.refetchDocument(did)
		doc, err = r.resolve(ctx, did)
	}
	if err != nil {
		return err
	}
	if !doc.HostedAt(s.url) {
		r.count.foreign.Add(1)
		if !fresh { // the account may have moved there just now
			return fmt.Errorf("%w: %s does not seem to be at %s", errUnsure, did, s.url)
		}
		return fmt.Errorf("%w: %s is not at %s", errForeign, did, s.url)
	}
	return nil
}

// passes reports whether an error of speaksFor is about the moment, and not about the account.
func passes(err error) bool {
	return errors.Is(err, identity.ErrUnavailable) || errors.Is(err, errUnsure)
}

// identity takes an #identity event.
func (r *run) identity(ctx context.Context, d *draft, m *commit.Identity) error {
	if d.a.Version == 0 || !r.scope.Load().wants(&d.a) {
		return nil
	}
	if r.trustsLocal() {
		return nil
	}
	if !r.refetchDocument(m.DID) { // what is cached is some seconds old
		d.due(r.Now().Add(checkPause)) // that looks it up again
	}
	if m.Handle != "" {
		r.Identity.Purge(syntax.AtIdentifier(m.Handle))
	}
	host := d.a.Host
	if _, err := r.lookUp(ctx, d); err != nil {
		return r.checkLater(ctx, d, err)
	}
	if d.a.Host != host || d.a.Tries > 0 { // what it wrote elsewhere, or where it could be read no more
		d.due(r.Now())
	}
	return nil
}

// trustsLocal reports whether identities are of no interest.
func (r *run) trustsLocal() bool {
	for _, s := range r.sources {
		if !s.Trusted {
			return false
		}
	}
	return !r.Handles
}

// lookUp puts host and handle of an account into a draft.
func (r *run) lookUp(ctx context.Context, d *draft) (*identity.Document, error) {
	handle := syntax.Handle("")
	var doc *identity.Document
	if r.Handles {
		var id *identity.Identity
		var err error
		r.lanes.withoutSlot(ctx, func() { id, err = r.Identity.Lookup(ctx, syntax.AtIdentifier(d.a.DID)) })
		if err != nil {
			return nil, err
		}
		handle, doc = id.Handle, id.Document
		if errors.Is(id.HandleErr, identity.ErrUnavailable) && d.a.Handle != "" {
			handle = d.a.Handle // what is not known now need not be wrong
		}
	} else {
		var err error
		if doc, err = r.resolve(ctx, d.a.DID); err != nil {
			return nil, err
		}
	}
	host, _ := doc.PDS()
	if d.a.Host != host || d.a.Handle != handle {
		d.a.Host, d.a.Handle = host, handle
		d.notify, d.changed = true, true
	}
	return doc, nil
}

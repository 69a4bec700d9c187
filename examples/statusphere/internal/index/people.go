package index

import (
	"context"
	"time"

	"github.com/pdskit/pdskit/lexicon/syntax"
)

// When handles and names are looked up: at once for a new account and after an event that says so;
// again when somebody writes after lookupWait; and after lookupEach in any case.
const (
	lookupWait = time.Hour
	lookupEach = 7 * 24 * time.Hour
	lookupFail = 30 * time.Second // doubled for each failure, up to lookupEach
)

// Person is what an account is called.
type Person struct {
	DID    syntax.DID
	Handle syntax.Handle // verified; empty: not known, or not valid
	Name   string        // from the profile; empty: none
}

// ToLookUp returns accounts whose handles and names are to be looked up now, and counts them as
// tried.
func (x *Index) ToLookUp(ctx context.Context, most int) ([]syntax.DID, error) {
	return x.take(ctx, most, "lookup", func(t *tx, did syntax.DID) error {
		return t.exec("UPDATE account SET lookup = ?2 + min(?3 << min(lookups, 20), ?4), lookups = lookups + 1 WHERE did = ?1",
			string(did), t.now, lookupFail.Milliseconds(), lookupEach.Milliseconds())
	})
}

// LookedUp stores what was found. Accounts that the index does not have are left out.
func (x *Index) LookedUp(ctx context.Context, p Person, pds string) error {
	return x.update(ctx, func(t *tx) error {
		if err := t.rename(p.DID, string(p.Handle), p.Name); err != nil {
			return err
		}
		return t.exec("UPDATE account SET pds = ?2, lookup = ?3, lookups = 0 WHERE did = ?1", string(p.DID), pds, t.now+lookupEach.Milliseconds())
	})
}

// Add adds an account, as that of somebody who signs in.
func (x *Index) Add(ctx context.Context, did syntax.DID) error {
	return x.update(ctx, func(t *tx) error {
		_, err := t.account(did)
		return err
	})
}

// Person returns what an account is called. Of one that the index does not have, only the DID is
// known.
func (x *Index) Person(ctx context.Context, did syntax.DID) (p Person, err error) {
	p.DID = did
	_, err = one(x.SQL.QueryRowContext(ctx, "SELECT handle, name FROM account WHERE did = ?", string(did)), &p.Handle, &p.Name)
	return p, err
}

// Renamed stores a handle and a name that were found, when more is to be looked up later.
func (x *Index) Renamed(ctx context.Context, p Person) error {
	return x.update(ctx, func(t *tx) error { return t.rename(p.DID, string(p.Handle), p.Name) })
}

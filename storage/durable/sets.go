package durable

import (
	"fmt"
	"slices"
	"strconv"

	"github.com/pdskit/pdskit/lexicon/syntax"
)

// sets is what is known of the sets of an account that are not in use: see rows.go.
type sets struct {
	loose   []uint64        // not, or no longer, the account's; noted in the object
	staging map[uint64]bool // of those, the ones that a Replace of this process is filling
}

// Limits on what one transaction of Replace, or of a sweep, writes or deletes. A batch is kept in
// memory.
const (
	batchRecords = 2000
	batchBytes   = 4 << 20
)

// nextSet returns a number for a set that there is not.
func (a *account) nextSet() uint64 {
	n := max(a.state.set, a.state.keys)
	for _, set := range a.loose {
		n = max(n, set)
	}
	for set := range a.staging {
		n = max(n, set)
	}
	return n + 1
}

func (a *account) isLoose(set uint64) bool { return slices.Contains(a.loose, set) }

func (a *account) looseKey(set uint64) string { return a.place.loose + setName(set) }

// loosen notes that a set is not the account's. It is part of a transaction.
func (a *account) loosen(set uint64) error {
	a.loose = append(slices.Clip(a.loose), set)
	return a.setHidden(a.looseKey(set), nil)
}

// tighten undoes loosen.
func (a *account) tighten(set uint64) error {
	a.loose = slices.DeleteFunc(slices.Clone(a.loose), func(s uint64) bool { return s == set })
	key := a.looseKey(set)
	return a.deleteHidden(key, key+"\x00")
}

// exchange makes a set of records that of the repository, and the one that it has a loose one. base
// is the revision of its records. It is part of a change, which writes the state.
func (a *account) exchange(set uint64, base syntax.TID) error {
	if a.isLoose(set) {
		if err := a.tighten(set); err != nil {
			return err
		}
	}
	if err := a.loosen(a.state.set); err != nil {
		return err
	}
	a.state.set, a.state.base = set, base
	return nil
}

// parseSet reads the number of a set.
func parseSet(name string) (uint64, error) {
	set, err := strconv.ParseUint(name, 16, 64)
	if err != nil || setName(set) != name {
		return 0, corrupt("set", errRow)
	}
	return set, nil
}

// looseSets reads which sets are loose, and whether values have pieces.
func (a *account) looseSets() error {
	a.loose = nil
	list, _, err := a.pairs(Scan{From: a.place.loose, To: keyPiece, MaxValue: KeysOnly}, 0)
	if err != nil {
		return err
	}
	for _, p := range list {
		set, err := parseSet(p.key[len(a.place.loose):])
		if err != nil {
			return err
		}
		a.loose = append(a.loose, set)
	}
	return a.findPieces()
}

// findPieces finds out whether values have pieces.
func (c *core) findPieces() (err error) {
	c.mu.Lock()
	defer c.mu.Unlock()
	c.store.pieces, err = c.store.any(keyPiece)
	return err
}

// sweepable returns a set that can be deleted; nil if there is none. The caller has the turn, so
// that no view begins.
func (a *account) sweepable() *uint64 {
	a.mu.Lock()
	defer a.mu.Unlock()
	for _, set := range a.loose {
		used := a.staging[set]
		for v := range a.views {
			used = used || v.did == a.did && (v.state.set == set || v.state.keys == set)
		}
		if !used {
			return &set
		}
	}
	return nil
}

// sweepSome deletes some keys of a loose set, or, when there are none left, the note that it is
// loose. It reports whether it did, and is part of a transaction.
func (a *account) sweepSome() (did bool, err error) {
	set := a.sweepable()
	if set == nil {
		return false, nil
	}
	var kinds []string
	if *set != a.state.set {
		kinds = append(kinds, prefixRecord, prefixCID, prefixBlob)
	}
	if *set != a.state.keys {
		kinds = append(kinds, prefixKV, prefixExpiry)
	}
	for _, kind := range kinds {
		prefix := a.in(*set, kind)
		last, n, size := "", 0, 0
		a.mu.Lock()
		err := a.store.Scan(Scan{From: prefix, To: end(prefix), Rows: batchRecords}, func(key string, value []byte) bool {
			last = key
			n++
			size += len(key) + len(value)
			return size < batchBytes
		})
		a.mu.Unlock()
		if err != nil {
			return false, fmt.Errorf("durable: object of %s: %w", a.did, err)
		}
		if n > 0 {
			return true, a.deleteHidden(prefix, last+"\x00")
		}
	}
	return true, a.tighten(*set)
}

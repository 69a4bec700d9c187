package account

import (
	"context"
	"encoding/json"
	"errors"

	"github.com/pdskit/pdskit/lexicon/data"
	"github.com/pdskit/pdskit/lexicon/syntax"
	"github.com/pdskit/pdskit/storage"
)

const preferencesKey = "preferences"

// Preference is one of an account's settings: an object with a $type.
type Preference map[string]json.RawMessage

// Type returns the preference's $type; empty if it has none.
func (p Preference) Type() (t string) {
	data.UnmarshalPlainJSON(p["$type"], &t)
	return t
}

// Preferences returns an account's preferences, in their order.
func (s *Store) Preferences(ctx context.Context, did syntax.DID) (list []Preference, err error) {
	err = s.store.Repos.View(ctx, did, func(r storage.Reader) error {
		list, _, err = readPreferences(ctx, r)
		return err
	})
	if errors.Is(err, storage.ErrNotFound) {
		err = ErrNotFound
	}
	return list, err
}

// SetPreferences replaces an account's preferences by what fn makes of them. It may be
// called more than once.
func (s *Store) SetPreferences(ctx context.Context, who Caller, fn func([]Preference) ([]Preference, error)) error {
	return s.change(ctx, who, func(_ *Account, r storage.Reader, c *storage.Change) error {
		old, doc, err := readPreferences(ctx, r)
		if err != nil {
			return err
		}
		list, err := fn(old)
		if err != nil {
			return err
		}
		next, err := json.Marshal(list)
		if err != nil {
			return err
		}
		c.Checks = append(c.Checks, storage.KVCheck{Key: preferencesKey, Value: doc})
		c.KV = append(c.KV, storage.KVWrite{Key: preferencesKey, Value: next})
		return nil
	})
}

func readPreferences(ctx context.Context, r storage.Reader) (list []Preference, doc []byte, err error) {
	doc, err = r.Get(ctx, preferencesKey)
	if errors.Is(err, storage.ErrNotFound) {
		return nil, nil, nil
	} else if err != nil {
		return nil, nil, err
	}
	return list, doc, data.UnmarshalPlainJSON(doc, &list)
}

package account

import (
	"context"
	"encoding/json"
	"errors"
	"time"

	"github.com/pdskit/pdskit/lexicon/data"
	"github.com/pdskit/pdskit/lexicon/syntax"
	"github.com/pdskit/pdskit/repo"
	"github.com/pdskit/pdskit/storage"
)

const preferencesKey = "preferences"

// Preference is one setting of an account: an object with a $type.
type Preference map[string]json.RawMessage

// Type returns the preference's $type, or "".
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
	return list, notFound(err)
}

// SetPreferences replaces an account's preferences with what fn returns for the present ones. fn
// may be called more than once.
func (s *Store) SetPreferences(ctx context.Context, who Caller, fn func([]Preference) ([]Preference, error)) error {
	_, err := s.Update(ctx, who, func(_ *Account, step *repo.Step) error {
		old, doc, err := readPreferences(ctx, step)
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
		step.Expect(preferencesKey, doc)
		step.Set(preferencesKey, next, time.Time{})
		return nil
	})
	return err
}

func readPreferences(ctx context.Context, r storage.KVReader) (list []Preference, doc []byte, err error) {
	doc, err = r.Get(ctx, preferencesKey)
	if errors.Is(err, storage.ErrNotFound) {
		return nil, nil, nil
	} else if err != nil {
		return nil, nil, err
	}
	return list, doc, data.UnmarshalPlainJSON(doc, &list)
}

package account

import (
	"context"
	"errors"
	"fmt"
	"slices"
	"strings"
	"time"

	"github.com/pdskit/pdskit/crypto"
	"github.com/pdskit/pdskit/internal/sleep"
	"github.com/pdskit/pdskit/lexicon/syntax"
	"github.com/pdskit/pdskit/repo/check"
	"github.com/pdskit/pdskit/storage"
)

// Checker returns a check of the whole store, including the accounts. It reads keys from the store,
// never from memory.
func (s *Store) Checker() check.Checker {
	stored := NewKeys(KeysConfig{Store: s.store, Box: s.keys.box, Now: s.now})
	return check.Checker{
		Store: s.store, Now: s.now,
		Key: func(ctx context.Context, did syntax.DID) (*crypto.PublicKey, error) {
			key, err := stored.Signer(ctx, did)
			if err != nil {
				return nil, err
			}
			return key.PublicKey(), nil
		},
		// One that is being moved here is not active yet.
		Incomplete: func(ctx context.Context, did syntax.DID) (bool, error) {
			a, err := s.ByDID(ctx, did)
			if errors.Is(err, ErrNotFound) {
				return false, nil
			}
			return err == nil && a.Status() == Deactivated, err
		},
		Others: func(ctx context.Context, wrong func(syntax.DID, string)) error {
			problems, err := s.Check(ctx)
			for _, p := range problems {
				wrong(p.DID, p.What)
			}
			return err
		},
	}
}

// maxDoubtful bounds how many accounts and keys Check looks at again, and lists.
const maxDoubtful = 10_000

// Check compares accounts with the keys by which they are found, and returns the first few thousand
// problems. It may run while the host is in use. A pending operation excuses what it will still
// repair. Anything else that looks wrong is checked again for some seconds, and reported only if it
// stays wrong.
func (s *Store) Check(ctx context.Context) ([]check.Problem, error) {
	problems, doubtful, err := s.checkAll(ctx)
	for pause := 10 * time.Millisecond; pause < 2*time.Second && len(doubtful) > 0 && err == nil; pause *= 2 {
		if err := sleep.For(ctx, pause); err != nil {
			return nil, err
		}
		retry := doubtful
		problems, doubtful = nil, nil
		for _, d := range retry {
			var found []check.Problem
			if found, err = s.checkOne(ctx, d); err != nil {
				return nil, err
			}
			if len(found) > 0 {
				problems, doubtful = append(problems, found...), append(doubtful, d)
			}
		}
	}
	slices.SortStableFunc(problems, func(a, b check.Problem) int { return strings.Compare(string(a.DID), string(b.DID)) })
	return problems, err
}

// checkAll looks at all accounts and keys once, and returns what looks wrong and what that is
// about.
func (s *Store) checkAll(ctx context.Context) (problems []check.Problem, doubtful []suspect, err error) {
	examine := func(d suspect) error {
		found, err := s.checkOne(ctx, d)
		if len(found) > 0 && len(doubtful) < maxDoubtful {
			problems, doubtful = append(problems, found...), append(doubtful, d)
		}
		return err
	}
	for info, err := range s.store.Repos.List(ctx, "") {
		if err == nil && info.Head != (storage.Head{}) {
			err = examine(suspect{did: info.DID})
		}
		if err != nil {
			return nil, nil, err
		}
	}
	for _, prefix := range indexPrefixes {
		if err := s.eachKey(ctx, prefix, func(key string) error { return examine(suspect{key: key}) }); err != nil {
			return nil, nil, err
		}
	}
	return problems, doubtful, examine(suspect{})
}

// suspect is an account, or a key that accounts are found by, that may be wrong; the zero suspect
// is how many accounts there are.
type suspect struct {
	did syntax.DID
	key string
}

func problem(did syntax.DID, format string, args ...any) []check.Problem {
	return []check.Problem{{Kind: check.BadAccount, DID: did, What: fmt.Sprintf(format, args...)}}
}

func (s *Store) checkOne(ctx context.Context, d suspect) ([]check.Problem, error) {
	switch {
	case d.key != "":
		return s.checkKey(ctx, d.key)
	case d.did != "":
		return s.checkAccount(ctx, d.did)
	}
	return s.checkCount(ctx)
}

// checkAccount compares an account with its keys.
func (s *Store) checkAccount(ctx context.Context, did syntax.DID) (problems []check.Problem, err error) {
	a, err := s.ByDID(ctx, did)
	if errors.Is(err, ErrNotFound) {
		if _, err := s.store.Repos.Head(ctx, did); errors.Is(err, storage.ErrNotFound) {
			return nil, nil // deleted meanwhile
		}
		return problem(did, "there is a repository, but no account"), nil
	} else if err != nil {
		return problem(did, "the account cannot be read: %v", err), ctx.Err()
	}
	var found []check.Problem
	err = s.store.KV.Read(ctx, func(r storage.KVReader) error {
		l, err := readLayout(ctx, r)
		if err != nil {
			return err
		}
		for _, key := range a.indexKeys() {
			switch owner, err := ownerOf(ctx, r, key); {
			case err != nil:
				return err
			case owner == "" && l.Version == 0 && strings.HasPrefix(key, deleteAfterPrefix):
			case owner == "":
				found = append(found, problem(did, "the name %s is not kept for it", key)...)
			case owner != did:
				found = append(found, problem(did, "the name %s belongs to %s", key, owner)...)
			}
		}
		return nil
	})
	if a.DID != did {
		problems = problem(did, "the account says that it is %s", a.DID)
	}
	return append(problems, found...), err
}

// checkKey compares a key with the account that it belongs to.
func (s *Store) checkKey(ctx context.Context, key string) ([]check.Problem, error) {
	var did syntax.DID
	excused := false
	err := s.store.KV.Read(ctx, func(r storage.KVReader) (err error) {
		if did, err = ownerOf(ctx, r, key); err != nil || did == "" {
			return err
		}
		pending, err := notes(ctx, r, did)
		excused = anyNote(pending, func(n note) bool { return slices.Contains(n.Keys, key) })
		return err
	})
	// An account without an address had the key of none in the earlier layout.
	if err != nil || did == "" || excused || key == emailPrefix {
		return nil, err
	}
	switch a, err := s.ByDID(ctx, did); {
	case errors.Is(err, ErrNotFound), err == nil && !slices.Contains(a.indexKeys(), key):
		return problem(did, "the name %s is kept for it, but it has another or is gone", key), nil
	case err != nil:
		return nil, ctx.Err() // that is a problem of the account
	}
	return nil, nil
}

// checkCount compares how many accounts were counted with how many there are. Operations that have
// not ended excuse a difference.
func (s *Store) checkCount(ctx context.Context) ([]check.Problem, error) {
	n := 0
	for info, err := range s.store.Repos.List(ctx, "") {
		if err != nil {
			return nil, err
		}
		if info.Head != (storage.Head{}) {
			n++
		}
	}
	var l layout
	err := s.store.KV.Read(ctx, func(r storage.KVReader) (err error) {
		for _, err := range r.Keys(ctx, storage.Prefix(pendingPrefix)) {
			return err // l.Version stays 0
		}
		l, err = readLayout(ctx, r)
		return err
	})
	if err != nil || l.Version == 0 || l.Count == n {
		return nil, err
	}
	return problem("", "there are %d repositories, but %d accounts were counted", n, l.Count), nil
}

// ownerOf returns whose a key is for good, or nobody. Names that were reserved in the earlier
// layout expire.
func ownerOf(ctx context.Context, r storage.KVReader, key string) (did syntax.DID, err error) {
	for pair, err := range r.Keys(ctx, storage.Range{From: key, To: key + "\x00"}) {
		if err != nil {
			return "", err
		}
		if pair.Expires.IsZero() {
			did = syntax.DID(pair.Value)
		}
	}
	return did, nil
}

// eachKey calls fn with the keys that have a prefix, a thousand to a snapshot.
func (s *Store) eachKey(ctx context.Context, prefix string, fn func(key string) error) error {
	within := storage.Prefix(prefix)
	within.KeysOnly = true
	for {
		var keys []string
		err := s.store.KV.Read(ctx, func(r storage.KVReader) error {
			for pair, err := range r.Keys(ctx, within) {
				if err != nil {
					return err
				}
				if keys = append(keys, pair.Key); len(keys) == 1000 {
					break
				}
			}
			return nil
		})
		if err != nil || len(keys) == 0 {
			return err
		}
		for _, key := range keys {
			if err := fn(key); err != nil {
				return err
			}
		}
		within.From = keys[len(keys)-1] + "\x00"
	}
}

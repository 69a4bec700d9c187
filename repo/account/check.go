package account

import (
	"context"
	"errors"
	"fmt"
	"slices"
	"strings"
	"time"

	"github.com/pdskit/pdskit/lexicon/syntax"
	"github.com/pdskit/pdskit/storage"
)

// Check compares all accounts with the keys that they are found by, and returns what is wrong, one
// sentence each. It may run while the host is used: an operation that has not ended excuses what
// it will still put right, and what looks wrong otherwise is looked at again for some seconds. Only
// what stays wrong is reported.
func (s *Store) Check(ctx context.Context) (problems []string, err error) {
	problems, err = s.checkOnce(ctx)
	for pause := 10 * time.Millisecond; pause < 2*time.Second && len(problems) > 0 && err == nil; pause *= 2 {
		select {
		case <-time.After(pause):
		case <-ctx.Done():
			return nil, ctx.Err()
		}
		var again []string
		again, err = s.checkOnce(ctx)
		problems = slices.DeleteFunc(problems, func(p string) bool { return !slices.Contains(again, p) })
	}
	return problems, err
}

func (s *Store) checkOnce(ctx context.Context) (problems []string, err error) {
	wrong := func(format string, args ...any) { problems = append(problems, fmt.Sprintf(format, args...)) }
	var l layout
	var keys map[string]string // that no account has claimed yet
	pending := make(map[syntax.DID][]note)
	err = s.store.KV.Read(ctx, func(r storage.KVReader) (err error) {
		if l, err = readLayout(ctx, r); err != nil {
			return err
		}
		keys = make(map[string]string)
		for _, prefix := range indexPrefixes {
			for pair, err := range r.Keys(ctx, storage.Prefix(prefix)) {
				if err != nil {
					return err
				}
				if pair.Expires.IsZero() && pair.Key != emailPrefix { // both are of the earlier layout
					keys[pair.Key] = string(pair.Value)
				}
			}
		}
		for doc, err := range documents[note](ctx, r, pendingPrefix) {
			if err != nil {
				return err
			}
			did, _, _ := cutLast(strings.TrimPrefix(doc.key, pendingPrefix))
			pending[syntax.DID(did)] = append(pending[syntax.DID(did)], doc.value)
		}
		return nil
	})
	if err != nil {
		return nil, err
	}
	excused := func(did syntax.DID, key string) bool {
		return slices.ContainsFunc(pending[did], func(n note) bool { return slices.Contains(n.Keys, key) })
	}
	count := 0
	for info, err := range s.store.Repos.List(ctx, "") {
		if err != nil {
			return nil, err
		}
		a, err := s.ByDID(ctx, info.DID)
		if errors.Is(err, ErrNotFound) {
			if _, err := s.store.Repos.Head(ctx, info.DID); err == nil {
				count++ // that was said
				wrong("%s: there is a repository, but no account", info.DID)
			}
			continue
		} else if err != nil {
			return nil, err
		}
		count++
		if a.DID != info.DID {
			wrong("%s: the account says that it is %s", info.DID, a.DID)
		}
		for _, key := range a.indexKeys() {
			switch owner, ok := keys[key]; {
			case !ok && l.Version == 0 && strings.HasPrefix(key, deleteAfterPrefix):
			case !ok:
				wrong("%s: the name %s is not kept for it", info.DID, key)
			case owner != string(info.DID):
				wrong("%s: the name %s belongs to %s", info.DID, key, owner)
			}
			delete(keys, key)
		}
	}
	for key, did := range keys {
		if !excused(syntax.DID(did), key) {
			wrong("%s: the name %s is kept for it, but it has another or is gone", did, key)
		}
	}
	if len(pending) == 0 && l.Version > 0 && count != l.Count {
		wrong("there are %d accounts, but %d were counted", count, l.Count)
	}
	slices.Sort(problems)
	return problems, nil
}

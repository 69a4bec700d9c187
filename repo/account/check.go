package account

import (
	"context"
	"errors"
	"fmt"
	"slices"
	"time"

	"github.com/pdskit/pdskit/storage"
)

// Check compares accounts with the names that are kept for them, and returns what
// is wrong. An account that is being made or deleted meanwhile has its names before
// or after its repository, so what looks wrong is looked at again for some seconds, and
// only what stays wrong is reported.
func (s *Store) Check(ctx context.Context) (problems []string, err error) {
	problems, err = s.checkNames(ctx)
	for pause := 10 * time.Millisecond; pause < 2*time.Second && len(problems) > 0 && err == nil; pause *= 2 {
		select {
		case <-time.After(pause):
		case <-ctx.Done():
			return nil, ctx.Err()
		}
		var again []string
		again, err = s.checkNames(ctx)
		problems = slices.DeleteFunc(problems, func(p string) bool { return !slices.Contains(again, p) })
	}
	return problems, err
}

func (s *Store) checkNames(ctx context.Context) (problems []string, err error) {
	wrong := func(format string, args ...any) { problems = append(problems, fmt.Sprintf(format, args...)) }
	names := make(map[string]string) // that nobody has claimed yet
	err = s.store.KV.Read(ctx, func(r storage.KVReader) error {
		for _, prefix := range []string{handlePrefix, emailPrefix, createdPrefix} {
			for pair, err := range r.Keys(ctx, storage.Prefix(prefix)) {
				if err != nil {
					return err
				}
				if pair.Expires.IsZero() {
					names[pair.Key] = string(pair.Value)
				}
			}
		}
		return nil
	})
	if err != nil {
		return nil, err
	}
	for info, err := range s.store.Repos.List(ctx, "") {
		if err != nil {
			return nil, err
		}
		a, err := s.ByDID(ctx, info.DID)
		if errors.Is(err, ErrNotFound) {
			wrong("%s: there is a repository, but no account", info.DID)
			continue
		} else if err != nil {
			return nil, err
		}
		if a.DID != info.DID {
			wrong("%s: the account says that it is %s", info.DID, a.DID)
		}
		for _, key := range a.names() {
			switch owner, ok := names[key]; {
			case !ok:
				wrong("%s: the name %s is not kept for it", info.DID, key)
			case owner != string(info.DID):
				wrong("%s: the name %s belongs to %s", info.DID, key, owner)
			}
			delete(names, key)
		}
	}
	for key, did := range names {
		wrong("%s: the name %s is kept for it, but it has another or is gone", did, key)
	}
	slices.Sort(problems)
	return problems, nil
}

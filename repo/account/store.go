package account

import (
	"context"
	"encoding/json"
	"errors"
	"iter"
	"strings"
	"sync"
	"sync/atomic"
	"time"

	"github.com/pdskit/pdskit/internal/memo"
	"github.com/pdskit/pdskit/lexicon/syntax"
	"github.com/pdskit/pdskit/repo"
	"github.com/pdskit/pdskit/storage"
	"github.com/pdskit/pdskit/storage/sealed"
)

// Config configures a Store. Host and Keys are required.
type Config struct {
	// Host has the accounts' repositories. Its store must have Repos, Events and KV.
	Host *repo.Host
	// Keys are the keys with which the host signs: the Signer and Stale of the host's configuration
	// must be the methods Signer and Forget of Keys.
	Keys *Keys
	// Now is the clock. Nil means time.Now.
	Now func() time.Time
}

// Store manages accounts. It is safe for concurrent use. Several processes may have Stores over the
// same storage.
type Store struct {
	host  *repo.Host
	store storage.Store
	keys  *Keys
	now   func() time.Time
	// raised are told when a counter is raised: see OnRaise.
	raised []func(context.Context, Account, *repo.Step, Kept) error
	// parsed has accounts by the JSON that they are stored as, so that they can be neither wrong
	// nor out of date: to parse that takes longer than to read it.
	parsed *memo.Texts[Account]
	// migrated: the store is known to have the present layout.
	migrated atomic.Bool

	mu         sync.Mutex
	unfinished map[string]bool // the notes of operations that are over, but could not be finished
}

// How much is remembered, at some 800 bytes an account.
const (
	maxParsed = 5000
	// maxParsedBytes is the length in bytes of the longest JSON that is remembered.
	maxParsedBytes = 4 << 10
)

// New returns the accounts of a host. It panics if Host, its store's KV, or Keys is missing. Call
// [Store.Repair] before the Store is used, and then from time to time.
func New(cfg Config) *Store {
	switch {
	case cfg.Host == nil:
		panic("account: Config.Host is missing: make a repo.Host whose Signer is that of the Keys")
	case cfg.Keys == nil:
		panic("account: Config.Keys is missing: make them with account.NewKeys, and give their Signer to the repo.Host")
	case cfg.Host.Store().KV == nil:
		panic("account: the host's store has no KV, where names are reserved: set repo.Config.Store.KV")
	}
	s := &Store{
		host: cfg.Host, store: cfg.Host.Store(), keys: cfg.Keys, now: cfg.Now,
		unfinished: make(map[string]bool),
		parsed:     memo.NewTexts[Account](maxParsed, maxParsedBytes),
	}
	if s.now == nil {
		s.now = time.Now
	}
	return s
}

// Host returns the host that the Store was made with.
func (s *Store) Host() *repo.Host { return s.host }

// Keys returns the keys that the Store was made with.
func (s *Store) Keys() *Keys { return s.keys }

// present is the time as accounts have it.
func (s *Store) present() time.Time { return s.now().UTC().Truncate(time.Millisecond) }

// notFound is ErrNotFound for an error that says that there is no repository, or no account in it.
func notFound(err error) error {
	if errors.Is(err, storage.ErrNotFound) || errors.Is(err, repo.ErrRepoNotFound) {
		return ErrNotFound
	}
	return err
}

// ByDID returns an account by its DID, or ErrNotFound.
func (s *Store) ByDID(ctx context.Context, did syntax.DID) (a Account, err error) {
	err = s.store.Repos.View(ctx, did, func(r storage.Reader) error {
		a, err = s.AccountIn(ctx, r)
		return err
	})
	return a, notFound(err)
}

// AccountIn returns the account of a snapshot, or [ErrNotFound]. It reads nothing else.
func (s *Store) AccountIn(ctx context.Context, r storage.KVReader) (Account, error) {
	doc, err := r.Get(ctx, accountKey)
	if err != nil {
		return Account{}, notFound(err)
	}
	return s.parse(doc)
}

// parse reads the JSON of an account.
func (s *Store) parse(doc []byte) (Account, error) {
	return s.parsed.Of(doc, func(doc []byte) (a Account, err error) {
		err = json.Unmarshal(doc, &a)
		return a, err
	})
}

// Find returns an account by DID, handle or e-mail address, or ErrNotFound. Handles and addresses
// are compared in lower case.
func (s *Store) Find(ctx context.Context, id string) (Account, error) {
	if strings.HasPrefix(id, "did:") {
		return s.ByDID(ctx, syntax.DID(id)) // upper and lower case differ
	}
	id = strings.ToLower(id)
	key := handlePrefix + id
	if strings.Contains(id, "@") {
		key = emailPrefix + id
	}
	var did syntax.DID
	err := s.store.KV.Read(ctx, func(r storage.KVReader) error {
		v, err := r.Get(ctx, key)
		did = syntax.DID(v)
		return err
	})
	if err != nil {
		return Account{}, notFound(err)
	}
	a, err := s.ByDID(ctx, did)
	if err == nil && strings.ToLower(string(a.Handle)) != id && strings.ToLower(a.Email) != id {
		return Account{}, ErrNotFound // it is about to get the name, or to give it up
	}
	return a, err
}

// Account returns an account by DID or handle, or ErrNotFound.
func (s *Store) Account(ctx context.Context, id syntax.AtIdentifier) (Account, error) {
	if strings.Contains(string(id), "@") {
		return Account{}, ErrNotFound
	}
	return s.Find(ctx, string(id))
}

// All yields all accounts in DID order. It reads every account, so it is for tools and not for
// requests.
func (s *Store) All(ctx context.Context) iter.Seq2[Account, error] {
	return s.after(ctx, "")
}

// after yields the accounts with a greater DID.
func (s *Store) after(ctx context.Context, did syntax.DID) iter.Seq2[Account, error] {
	return func(yield func(Account, error) bool) {
		for info, err := range s.store.Repos.List(ctx, did) {
			var a Account
			if err == nil {
				a, err = s.ByDID(ctx, info.DID)
			}
			if errors.Is(err, ErrNotFound) {
				continue
			}
			if !yield(a, err) || err != nil {
				return
			}
		}
	}
}

// ListAccounts returns up to limit accounts, ordered by creation time and DID, that follow the
// given position. An empty afterDID means the first position.
func (s *Store) ListAccounts(ctx context.Context, after time.Time, afterDID syntax.DID, limit int) ([]Account, error) {
	rng := storage.Prefix(createdPrefix)
	if afterDID != "" {
		rng.From = timeKey(createdPrefix, after, afterDID) + "\x00"
	}
	list, _, err := s.page(ctx, rng, limit)
	return list, err
}

// DeletionsDue returns up to limit deactivated accounts whose DeleteAfter has passed, earliest
// first. Accounts that are taken down are left out. The protocol lets the host decide about them.
// To delete one, call [Store.Delete] with [Trusted].
func (s *Store) DeletionsDue(ctx context.Context, limit int) (due []Account, err error) {
	rng := storage.Prefix(deleteAfterPrefix)
	rng.To = timeKey(deleteAfterPrefix, s.now().Add(time.Millisecond), "")
	for {
		list, last, err := s.page(ctx, rng, limit)
		if err != nil || last == "" {
			return due, err
		}
		for _, a := range list {
			// The index may be ahead of the account.
			if a.Status() == Deactivated && !a.DeleteAfter.IsZero() && !a.DeleteAfter.After(s.now()) && len(due) < limit {
				due = append(due, a)
			}
		}
		if len(due) == limit {
			return due, nil
		}
		rng.From = last + "\x00"
	}
}

// page returns the accounts that up to limit keys of a range name, and the last of those keys;
// empty if there is none.
func (s *Store) page(ctx context.Context, rng storage.Range, limit int) (list []Account, last string, err error) {
	list, last, _, err = s.pageOf(ctx, rng, limit)
	return list, last, err
}

// pageOf is page that also returns how many keys there were.
func (s *Store) pageOf(ctx context.Context, rng storage.Range, limit int) (list []Account, last string, n int, err error) {
	var dids []syntax.DID
	err = s.store.KV.Read(ctx, func(r storage.KVReader) error {
		for pair, err := range r.Keys(ctx, rng) {
			if err != nil {
				return err
			}
			if len(dids) == limit {
				break
			}
			dids, last = append(dids, syntax.DID(pair.Value)), pair.Key
		}
		return nil
	})
	if err != nil {
		return nil, "", 0, err
	}
	list = make([]Account, 0, len(dids))
	for _, did := range dids {
		a, err := s.ByDID(ctx, did)
		if errors.Is(err, ErrNotFound) {
			continue
		} else if err != nil {
			return nil, "", 0, err
		}
		list = append(list, a)
	}
	return list, last, len(dids), nil
}

// Open makes the keys, the host and the accounts of a store at once. The host's Signer is that of
// the keys, and all three share the host's clock. See [Store.Host] and [Store.Keys] for the parts.
// It panics as [NewKeys], [repo.NewHost] and [New] do.
func Open(host repo.Config, box *sealed.Box) *Store {
	keys := NewKeys(KeysConfig{Store: host.Store, Box: box, Now: host.Now})
	host.Signer, host.Stale = keys.Signer, keys.Forget
	return New(Config{Host: repo.NewHost(host), Keys: keys, Now: host.Now})
}

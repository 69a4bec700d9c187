// Package account keeps the accounts of the reference server: who there is,
// their passwords, their sessions and their signing keys.
//
// An account's own state lies in its repository's key-value namespace, so that
// a step that changes both (creation, deactivation) is one transaction. Names that must
// be unique on the host (handle, e-mail address) and the order of creation lie
// in the global namespace. A name is first reserved, with an expiry; then the
// step is taken that needs it; then the reservation is confirmed. A crash
// between the two leaves a reservation that expires, or an account whose names
// Repair confirms at the next start.
//
// # Credentials
//
// Each account has one counter, Account.Credentials. A change or reset of the password, a
// takedown, a deactivation and the deletion raise it. Sessions, tokens and app passwords carry
// the value that they were made under, and are void under any other. So what was under way when
// the counter was raised does not survive, and no list of sessions has to be complete. Two things
// are carried over by the change itself: the session that deactivates its account, and app
// passwords, which only a new password makes void.
//
// Whatever is checked at the start of a request is checked again in the transaction that
// relies on it: see [Caller] and [Proof]. Sessions, app passwords and accounts that were stored
// before there was a counter count as of value 0.
package account

import (
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"iter"
	"strings"
	"time"

	"github.com/pdskit/pdskit/crypto"
	"github.com/pdskit/pdskit/internal/memo"
	"github.com/pdskit/pdskit/lexicon/syntax"
	"github.com/pdskit/pdskit/repo"
	"github.com/pdskit/pdskit/storage"
	"github.com/pdskit/pdskit/storage/sealed"
)

// Errors that callers branch on.
var (
	ErrNotFound      = errors.New("account: no such account")
	ErrHandleTaken   = errors.New("account: handle already taken")
	ErrEmailTaken    = errors.New("account: e-mail address already taken")
	ErrWrongPassword = errors.New("account: invalid identifier or password")
	// ErrTokenRevoked: a session has ended, or its account's credentials have changed.
	ErrTokenRevoked = errors.New("account: token has been revoked")
	// ErrTakenDown: the account was taken down.
	ErrTakenDown = errors.New("account: the account has been taken down")
)

// Account is an account as it is stored.
type Account struct {
	DID              syntax.DID    `json:"did"`
	Handle           syntax.Handle `json:"handle"`
	Email            string        `json:"email"` // as given; compared in lower case
	EmailConfirmedAt time.Time     `json:"emailConfirmedAt,omitzero"`
	Created          time.Time     `json:"created"`
	Password         string        `json:"password"`         // in PHC string format
	Invite           string        `json:"invite,omitempty"` // the code it was made with
	InvitesDisabled  bool          `json:"invitesDisabled,omitempty"`
	TakedownRef      string        `json:"takedownRef,omitempty"` // not empty: taken down
	DeactivatedAt    time.Time     `json:"deactivatedAt,omitzero"`
	DeleteAfter      time.Time     `json:"deleteAfter,omitzero"` // a wish, while deactivated
	// Credentials is the value that sessions, tokens and app passwords must carry, and
	// CredentialsAt when it was raised to that.
	Credentials   int64     `json:"credentials,omitempty"`
	CredentialsAt time.Time `json:"credentialsAt,omitzero"`
	// TakedownCredentials is the value that the takedown raised Credentials to.
	TakedownCredentials int64 `json:"takedownCredentials,omitempty"`
	// Moderated is set once a record or blob of the account was taken down, so that
	// others need not look for takedowns.
	Moderated bool `json:"moderated,omitempty"`
}

// Status is the hosting status of an account, in the words of #account events.
type Status string

// The statuses. The zero value is an active account.
const (
	Active      Status = ""
	TakenDown   Status = "takendown"
	Deactivated Status = "deactivated"
)

// Status is the account's hosting status.
func (a Account) Status() Status {
	switch {
	case a.TakedownRef != "":
		return TakenDown
	case !a.DeactivatedAt.IsZero():
		return Deactivated
	}
	return Active
}

// Store keeps accounts. It is safe for concurrent use.
type Store struct {
	store storage.Store
	box   *sealed.Box
	now   func() time.Time
	names locks // of accounts whose names change
	// keys are opened signing keys: to unseal one for every commit would cost more than to
	// sign with it.
	keys *memo.Map[syntax.DID, *crypto.PrivateKey]
	// parsed has accounts by the JSON that they are stored as, and terms has those of sessions, so
	// that they can be neither wrong nor out of date: to parse that takes longer than to read it.
	parsed *memo.Texts[Account]
	terms  *memo.Texts[term]
}

// How much is remembered, at some 300 bytes a key, 800 an account and 400 a session.
const (
	maxKeys   = 10_000
	maxParsed = 5000 // accounts, and as many sessions
	// maxParsedBytes is the length in bytes of the longest JSON that is remembered.
	maxParsedBytes = 4 << 10
)

// New returns the accounts of a store, whose secrets are sealed in box.
func New(store storage.Store, box *sealed.Box) *Store {
	return &Store{
		store: store, box: box, now: time.Now, keys: memo.New[syntax.DID, *crypto.PrivateKey](maxKeys),
		parsed: memo.NewTexts[Account](maxParsed, maxParsedBytes), terms: memo.NewTexts[term](maxParsed, maxParsedBytes),
	}
}

// SetClock sets the clock, before the Store is used; by default it is the system's.
func (s *Store) SetClock(now func() time.Time) { s.now = now }

// Keys of the account's own namespace and of the global one.
const (
	accountKey    = "account"
	signingKey    = "key/signing"
	handlePrefix  = "handle/"
	emailPrefix   = "email/"
	createdPrefix = "created/"
)

// createdKey sorts by time of creation and DID.
func createdKey(t time.Time, did syntax.DID) string {
	return fmt.Sprintf("%s%015d/%s", createdPrefix, t.UnixMilli(), did)
}

// Create makes a reserved account with its repository, in the order of events
// that the network expects: identity, account, commit, sync. If the host has a repository
// of the DID, the error is repo.ErrRepoExists.
func (s *Store) Create(ctx context.Context, host *repo.Host, a Account, key *crypto.PrivateKey, batch repo.Batch) (repo.Result, error) {
	doc, err := json.Marshal(a)
	if err != nil {
		return repo.Result{}, err
	}
	secret := s.box.Seal(string(a.DID)+"/"+signingKey, key.Bytes())
	batch.KV = append(batch.KV, storage.KVWrite{Key: accountKey, Value: doc}, storage.KVWrite{Key: signingKey, Value: secret})
	unlock, err := s.names.lock(ctx, a.DID)
	if err != nil {
		return repo.Result{}, err
	}
	defer unlock()
	// Before the key is put where signers look: that of an account that is there must stay.
	if _, err := s.store.Repos.Head(ctx, a.DID); err == nil {
		return repo.Result{}, repo.ErrRepoExists
	} else if !errors.Is(err, storage.ErrNotFound) {
		return repo.Result{}, err
	}
	s.keys.Put(a.DID, key)
	res, err := host.Create(ctx, a.DID, batch)
	if err != nil {
		s.keys.Drop(a.DID)
		return res, err
	}
	return res, s.settle(ctx, a.DID, a.names())
}

// ByDID returns an account by its DID.
func (s *Store) ByDID(ctx context.Context, did syntax.DID) (a Account, err error) {
	err = s.store.Repos.View(ctx, did, func(r storage.Reader) error {
		a, err = s.read(ctx, r)
		return err
	})
	if errors.Is(err, storage.ErrNotFound) {
		err = ErrNotFound
	}
	return a, err
}

// read returns the account of a snapshot's repository, or storage.ErrNotFound.
func (s *Store) read(ctx context.Context, r storage.Reader) (a Account, err error) {
	doc, err := r.Get(ctx, accountKey)
	if err != nil {
		return a, err
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

// All yields all accounts, in the order of their DIDs.
func (s *Store) All(ctx context.Context) iter.Seq2[Account, error] {
	return func(yield func(Account, error) bool) {
		for info, err := range s.store.Repos.List(ctx, "") {
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

// document is a stored JSON document.
type document[T any] struct {
	key   string
	value T
}

// documents yields the JSON documents whose keys have a prefix.
func documents[T any](ctx context.Context, r storage.KVReader, prefix string) iter.Seq2[document[T], error] {
	return func(yield func(document[T], error) bool) {
		for pair, err := range r.Keys(ctx, storage.Prefix(prefix)) {
			doc := document[T]{key: pair.Key}
			if err == nil {
				err = json.Unmarshal(pair.Value, &doc.value)
			}
			if !yield(doc, err) || err != nil {
				return
			}
		}
	}
}

// Find returns an account by DID, handle or e-mail address.
func (s *Store) Find(ctx context.Context, id string) (Account, error) {
	if strings.HasPrefix(id, "did:") {
		return s.ByDID(ctx, syntax.DID(id)) // upper and lower case differ
	}
	id = strings.ToLower(id)
	var key string
	switch {
	case strings.Contains(id, "@"):
		key = emailPrefix + id
	default:
		key = handlePrefix + id
	}
	var did syntax.DID
	err := s.store.KV.Read(ctx, func(r storage.KVReader) error {
		v, err := r.Get(ctx, key)
		did = syntax.DID(v)
		return err
	})
	if errors.Is(err, storage.ErrNotFound) {
		return Account{}, ErrNotFound
	} else if err != nil {
		return Account{}, err
	}
	return s.ByDID(ctx, did)
}

// Account returns an account by DID or handle, or ErrNotFound.
func (s *Store) Account(ctx context.Context, id syntax.AtIdentifier) (Account, error) {
	if strings.Contains(string(id), "@") {
		return Account{}, ErrNotFound
	}
	return s.Find(ctx, string(id))
}

// AccountIn returns the account of a snapshot's repository, or ErrNotFound. It reads nothing but
// the snapshot.
func (s *Store) AccountIn(ctx context.Context, r storage.Reader) (Account, error) {
	a, err := s.read(ctx, r)
	if errors.Is(err, storage.ErrNotFound) {
		err = ErrNotFound
	}
	return a, err
}

// ListAccounts returns up to limit accounts in the order of creation time and DID, after the given
// position. With an empty afterDID it starts from the first account.
func (s *Store) ListAccounts(ctx context.Context, after time.Time, afterDID syntax.DID, limit int) ([]Account, error) {
	rng := storage.Prefix(createdPrefix)
	if afterDID != "" {
		rng.From = createdKey(after, afterDID) + "\x00"
	}
	var dids []syntax.DID
	err := s.store.KV.Read(ctx, func(r storage.KVReader) error {
		for pair, err := range r.Keys(ctx, rng) {
			if err != nil {
				return err
			}
			if len(dids) == limit {
				break
			}
			dids = append(dids, syntax.DID(pair.Value))
		}
		return nil
	})
	if err != nil {
		return nil, err
	}
	list := make([]Account, 0, len(dids))
	for _, did := range dids {
		a, err := s.ByDID(ctx, did)
		if errors.Is(err, ErrNotFound) {
			continue
		} else if err != nil {
			return nil, err
		}
		list = append(list, a)
	}
	return list, nil
}

package serviceauth

import (
	"context"
	"errors"
	"sync"
	"time"
	"weak"

	"github.com/pdskit/pdskit/crypto"
	"github.com/pdskit/pdskit/identity"
	"github.com/pdskit/pdskit/lexicon/syntax"
)

// Resolver is the part of an identity.Resolver that DocumentKeys uses.
type Resolver interface {
	ResolveDID(ctx context.Context, did syntax.DID) (*identity.Document, error)
	Purge(id syntax.AtIdentifier)
}

// DocumentKeys finds keys in DID documents and caches parsed keys. It is safe for concurrent use.
type DocumentKeys struct {
	Resolver Resolver
	// RefreshEvery is the minimum time between repeated fetches of a document because of invalid
	// signatures, which anybody can send. 0: 30 seconds.
	RefreshEvery time.Duration
	// Now is the clock. Nil: time.Now.
	Now func() time.Time

	mu      sync.Mutex
	keys    map[keyName]parsedKey
	refresh map[digest]time.Time // when it was last
}

// keyName is a DID and the fragment of one of its keys. Strangers choose both, at any length.
type keyName struct{ did, fragment digest }

// parsedKey is good as long as the resolver gives the same document, which it does not keep alive:
// how much of documents is kept is for the resolver to say.
type parsedKey struct {
	of  weak.Pointer[identity.Document]
	key *crypto.PublicKey
}

// maxKeys bounds how many keys, and how many refreshes, are kept.
const maxKeys = 10_000

// Key implements Keys.
func (k *DocumentKeys) Key(ctx context.Context, did syntax.DID, fragment string, refresh bool) (*crypto.PublicKey, error) {
	if k.Resolver == nil {
		return nil, errors.New("serviceauth: DocumentKeys.Resolver is missing")
	}
	if refresh && k.mayRefresh(did) {
		k.Resolver.Purge(syntax.AtIdentifier(did))
	}
	doc, err := k.Resolver.ResolveDID(ctx, did)
	if err != nil {
		return nil, err
	}
	name, same := keyName{digestOf(string(did)), digestOf(fragment)}, weak.Make(doc)
	k.mu.Lock()
	have := k.keys[name]
	k.mu.Unlock()
	if have.key != nil && have.of == same {
		return have.key, nil
	}
	key, err := doc.Key(fragment)
	if err != nil {
		return nil, err
	}
	k.mu.Lock()
	defer k.mu.Unlock()
	if k.keys == nil || len(k.keys) >= maxKeys {
		k.keys = make(map[keyName]parsedKey)
	}
	k.keys[name] = parsedKey{same, key}
	return key, nil
}

// mayRefresh reports whether it is time to fetch a document again.
func (k *DocumentKeys) mayRefresh(did syntax.DID) bool {
	now, every := time.Now, k.RefreshEvery
	if k.Now != nil {
		now = k.Now
	}
	if every == 0 {
		every = 30 * time.Second
	}
	t := now()
	k.mu.Lock()
	defer k.mu.Unlock()
	name := digestOf(string(did))
	// A time in the future is of a clock that has gone back since.
	if last, ok := k.refresh[name]; ok && !last.After(t) && t.Sub(last) < every {
		return false
	}
	if k.refresh == nil {
		k.refresh = make(map[digest]time.Time)
	}
	if len(k.refresh) >= maxKeys {
		for name, last := range k.refresh {
			if last.After(t) || t.Sub(last) >= every {
				delete(k.refresh, name)
			}
		}
		if len(k.refresh) >= maxKeys {
			return false
		}
	}
	k.refresh[name] = t
	return true
}

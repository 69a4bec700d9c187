package serviceauth

import (
	"context"
	"sync"
	"time"

	"github.com/pdskit/pdskit/crypto"
	"github.com/pdskit/pdskit/identity"
	"github.com/pdskit/pdskit/lexicon/syntax"
)

// Resolver is what DocumentKeys needs of an identity.Resolver.
type Resolver interface {
	ResolveDID(ctx context.Context, did syntax.DID) (*identity.Document, error)
	Purge(id syntax.AtIdentifier)
}

// DocumentKeys finds keys in DID documents, and keeps those it has parsed. It is safe for
// concurrent use.
type DocumentKeys struct {
	Resolver Resolver
	// RefreshEvery is how often a document may be fetched again because a signature
	// does not fit, which anybody can bring about. 0: 30 seconds.
	RefreshEvery time.Duration
	// Now is the clock. Nil: time.Now.
	Now func() time.Time

	mu      sync.Mutex
	keys    map[keyName]parsedKey
	refresh map[syntax.DID]time.Time // when it was last
}

type keyName struct {
	did      syntax.DID
	fragment string
}

// parsedKey is good as long as the resolver gives the same document.
type parsedKey struct {
	of  *identity.Document
	key *crypto.PublicKey
}

// maxKeys bounds how many keys, and how many refreshes, are kept.
const maxKeys = 10_000

// Key implements Keys.
func (k *DocumentKeys) Key(ctx context.Context, did syntax.DID, fragment string, refresh bool) (*crypto.PublicKey, error) {
	if refresh && k.mayRefresh(did) {
		k.Resolver.Purge(syntax.AtIdentifier(did))
	}
	doc, err := k.Resolver.ResolveDID(ctx, did)
	if err != nil {
		return nil, err
	}
	name := keyName{did, fragment}
	k.mu.Lock()
	have := k.keys[name]
	k.mu.Unlock()
	if have.of == doc {
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
	k.keys[name] = parsedKey{doc, key}
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
	if last, ok := k.refresh[did]; ok && t.Sub(last) < every {
		return false
	}
	if k.refresh == nil {
		k.refresh = make(map[syntax.DID]time.Time)
	}
	if len(k.refresh) >= maxKeys {
		for did, last := range k.refresh {
			if t.Sub(last) >= every {
				delete(k.refresh, did)
			}
		}
		if len(k.refresh) >= maxKeys {
			return false
		}
	}
	k.refresh[did] = t
	return true
}

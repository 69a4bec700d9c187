package serviceauth

import (
	"context"
	"sync"

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

	mu   sync.Mutex
	keys map[keyName]parsedKey
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

// maxKeys bounds how many keys are kept.
const maxKeys = 10_000

// Key implements Keys.
func (k *DocumentKeys) Key(ctx context.Context, did syntax.DID, fragment string, refresh bool) (*crypto.PublicKey, error) {
	if fragment == "" {
		fragment = identity.SigningKeyID
	}
	if refresh {
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

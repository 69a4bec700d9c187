package testpds

import (
	"context"
	"slices"
	"sync"
	"testing"

	"github.com/pdskit/pdskit/crypto"
	"github.com/pdskit/pdskit/identity"
	"github.com/pdskit/pdskit/lexicon/syntax"
	"github.com/pdskit/pdskit/xrpc/serviceauth"
	"github.com/pdskit/pdskit/xrpc/session"
)

// Moderator is a moderation service that servers know.
type Moderator struct {
	*identity.Resolver
	DID syntax.DID
	key *crypto.PrivateKey

	mu    sync.Mutex
	asked []syntax.DID
}

// NewModerator returns a moderation service.
func NewModerator(t *testing.T) *Moderator {
	t.Helper()
	key, err := crypto.GenerateKey(crypto.K256)
	if err != nil {
		t.Fatal(err)
	}
	return &Moderator{DID: "did:web:mod.example.com", key: key}
}

// Configure makes a server know the service. It is for New.
func (m *Moderator) Configure(c *session.Config) {
	m.Resolver = c.Resolver.(*identity.Resolver)
	c.Moderator, c.Resolver = m.DID, m
}

// ResolveDID resolves the DID of the service besides all others.
func (m *Moderator) ResolveDID(ctx context.Context, did syntax.DID) (*identity.Document, error) {
	m.mu.Lock()
	m.asked = append(m.asked, did)
	m.mu.Unlock()
	if did != m.DID {
		return m.Resolver.ResolveDID(ctx, did)
	}
	return &identity.Document{
		ID: did, VerificationMethods: []identity.VerificationMethod{identity.NewVerificationMethod(did, "atproto_label", m.key.PublicKey())},
	}, nil
}

// Asked reports whether a DID was resolved.
func (m *Moderator) Asked(did syntax.DID) bool {
	m.mu.Lock()
	defer m.mu.Unlock()
	return slices.Contains(m.asked, did)
}

// Token is an Authorization header of the service.
func (m *Moderator) Token(t *testing.T, token serviceauth.Token) string {
	t.Helper()
	text, err := serviceauth.Sign(t.Context(), m.key, token)
	if err != nil {
		t.Fatal(err)
	}
	return "Bearer " + text
}

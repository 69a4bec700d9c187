package client

import (
	"context"
	"crypto/rand"
	"fmt"
	"iter"
	"strings"
	"time"

	"github.com/pdskit/pdskit/lexicon/syntax"
)

// SessionID identifies a session: the account's DID, a slash, and a random part that cannot be
// guessed. An account may have several sessions.
type SessionID string

func newSessionID(did syntax.DID) SessionID { return SessionID(string(did) + "/" + rand.Text()) }

// ParseSessionID parses the string form of a SessionID.
func ParseSessionID(s string) (SessionID, error) {
	did, random, ok := strings.Cut(s, "/")
	if _, err := syntax.ParseDID(did); err != nil || !ok || random == "" || len(random) > 64 || strings.Contains(random, "/") {
		return "", fmt.Errorf("oauth client: %.100q is no session ID", s)
	}
	return SessionID(s), nil
}

// DID returns the account of the session.
func (id SessionID) DID() syntax.DID {
	did, _, _ := strings.Cut(string(id), "/")
	return syntax.DID(did)
}

// SessionStore stores sessions. Values are secrets of less than 64 KiB; Config.Seal encrypts them.
// It must be safe for concurrent use. Writes are durable when a method returns nil. Package
// clienttest tests this contract.
type SessionStore interface {
	// Get returns the value of a session, or ErrNotFound.
	Get(ctx context.Context, id SessionID) ([]byte, error)
	// CompareAndSwap replaces the value old with new. If old is nil, it creates the session. If the
	// session has another value, already exists, or does not exist, nothing changes, and the error
	// is ErrConflict. In SQL it is one statement whose affected rows are counted:
	//
	//	UPDATE session SET value = ? WHERE id = ? AND value = ?
	CompareAndSwap(ctx context.Context, id SessionID, old, new []byte) error
	// Delete removes a session if its value is old, or any value if old is nil. If it has another
	// value, the error is ErrConflict. A missing session is not an error.
	Delete(ctx context.Context, id SessionID, old []byte) error
	// List yields the sessions of an account, or of all accounts if did is empty. It ends with the
	// first error.
	List(ctx context.Context, did syntax.DID) iter.Seq2[SessionID, error]
}

// StateStore stores pending logins. It must be safe for concurrent use.
type StateStore interface {
	// Put stores a value of less than 64 KiB under a new key until it expires.
	Put(ctx context.Context, key string, value []byte, expires time.Time) error
	// Take atomically returns and removes a value. Of concurrent calls, one gets it. All others,
	// and calls after the expiry, get ErrNotFound.
	Take(ctx context.Context, key string) ([]byte, error)
}

// Locker prevents concurrent renewals of the same session, in all processes that share the
// sessions. Without it, a refresh token may be used twice, and the server may then end the session.
type Locker interface {
	// Lock waits for the lock of a name (at most 3000 bytes) or until ctx ends. The holder finishes
	// within ttl. After that, or earlier if the holder is known to be gone, another caller may get
	// the lock. unlock releases it, and may be called more than once.
	Lock(ctx context.Context, name string, ttl time.Duration) (unlock func(), err error)
}

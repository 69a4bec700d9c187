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

// SessionID names a session: the account's DID, a slash, and a random part that cannot be guessed.
// An account may have several sessions.
type SessionID string

func newSessionID(did syntax.DID) SessionID { return SessionID(string(did) + "/" + rand.Text()) }

// ParseSessionID reads what a SessionID was written as.
func ParseSessionID(s string) (SessionID, error) {
	did, random, ok := strings.Cut(s, "/")
	if _, err := syntax.ParseDID(did); err != nil || !ok || random == "" || len(random) > 64 || strings.Contains(random, "/") {
		return "", fmt.Errorf("oauth client: %.100q is no session ID", s)
	}
	return SessionID(s), nil
}

// DID is the account of the session.
func (id SessionID) DID() syntax.DID {
	did, _, _ := strings.Cut(string(id), "/")
	return syntax.DID(did)
}

// SessionStore keeps sessions. Values are secrets, of less than 64 KiB; Config.Seal encrypts them.
// It must be safe for concurrent use. What a method has written is durable when it returns nil. The
// tests of package clienttest say what is demanded.
type SessionStore interface {
	// Get returns the value of a session, or ErrNotFound.
	Get(ctx context.Context, id SessionID) ([]byte, error)
	// CompareAndSwap replaces the value old by another one, or makes it if old is nil. If the
	// session has another value, or is there, or is not, nothing changes and the error is
	// ErrConflict. In SQL it is one statement, whose affected rows are counted:
	//
	//	UPDATE session SET value = ? WHERE id = ? AND value = ?
	CompareAndSwap(ctx context.Context, id SessionID, old, new []byte) error
	// Delete removes a session that has the value old; nil: whatever it has. The error is
	// ErrConflict if it has another one. A session that is not there is no error.
	Delete(ctx context.Context, id SessionID, old []byte) error
	// List yields the sessions of an account; those of all if did is empty. It ends with the first
	// error.
	List(ctx context.Context, did syntax.DID) iter.Seq2[SessionID, error]
}

// StateStore keeps logins that are under way. It must be safe for concurrent use.
type StateStore interface {
	// Put stores a value of less than 64 KiB under a new key until it expires.
	Put(ctx context.Context, key string, value []byte, expires time.Time) error
	// Take returns a value and removes it, as one atomic change: of calls at the same time, one
	// gets it. The others, and those that come too late, get ErrNotFound.
	Take(ctx context.Context, key string) ([]byte, error)
}

// Locker keeps others from renewing the same session at the same time, in all processes that share
// the sessions. Without it a server may end a session, since its refresh token is used twice.
type Locker interface {
	// Lock waits until nobody else has the lock of a name, of at most 3000 bytes, or ctx ends. The
	// holder is done within ttl. After that, or earlier if it is known that the holder has gone,
	// somebody else may get it. unlock gives it back; it may be called more than once.
	Lock(ctx context.Context, name string, ttl time.Duration) (unlock func(), err error)
}

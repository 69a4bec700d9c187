package records

import (
	"errors"
	"fmt"
	"io/fs"

	"github.com/pdskit/pdskit/lexicon/syntax"
)

// Errors that callers branch on. An *Error wraps one of these.
var (
	// ErrNotFound: the account does not exist, or it does not have the record.
	ErrNotFound = errors.New("not found")
	// ErrUnavailable: it is unknown whether there is a record; a later attempt may succeed.
	ErrUnavailable = errors.New("unavailable")
	// ErrInvalid: the account's document cannot be used, or the response proves nothing.
	ErrInvalid = errors.New("invalid")
)

// Error says why a record was not read.
type Error struct {
	URI  syntax.ATURI // of the record
	Kind error        // one of the errors above
	Step string       // what was being done: "DID", "request" or "proof"
	// Err is the detail. It wraps commit.ErrNoRecord if it is proven that there is no record.
	// Otherwise ErrNotFound is only the server's claim.
	Err error
}

func (e *Error) Error() string {
	return fmt.Sprintf("records: %s: %v: %s: %v", e.URI, e.Kind, e.Step, e.Err)
}

// Is reports whether target is e.Kind. For ErrNotFound, fs.ErrNotExist matches too.
func (e *Error) Is(target error) bool {
	return target == e.Kind || target == fs.ErrNotExist && e.Kind == ErrNotFound
}

// Unwrap returns e.Err.
func (e *Error) Unwrap() error { return e.Err }

// Temporary reports whether a later attempt may succeed.
func (e *Error) Temporary() bool { return e.Kind == ErrUnavailable }

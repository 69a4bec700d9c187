package resolve

import (
	"errors"
	"fmt"

	"github.com/pdskit/pdskit/lexicon"
	"github.com/pdskit/pdskit/lexicon/syntax"
)

// Errors that callers branch on. An *Error wraps one of these.
var (
	// ErrNotFound: no schema is published under the NSID.
	ErrNotFound = errors.New("not published")
	// ErrUnavailable: it is unknown whether there is a schema; a later attempt may succeed.
	ErrUnavailable = errors.New("unavailable")
	// ErrInvalid: what was found is not a valid schema, or not proven to be the owner's.
	ErrInvalid = errors.New("invalid")
	// ErrOffline: the resolver must not use the network.
	ErrOffline = errors.New("offline")
)

// Error says why a schema was not resolved. For validation it means an unknown schema: it matches
// lexicon.ErrUnknownSchema too.
type Error struct {
	ID   syntax.NSID
	Kind error  // one of the errors above
	Step string // what was being done: "DNS", "record" or "schema"; empty: nothing yet
	Err  error  // what went wrong there, or nil
}

func (e *Error) Error() string {
	msg := fmt.Sprintf("resolve: schema %s: %v", e.ID, e.Kind)
	if e.Step != "" {
		msg += ": " + e.Step
	}
	if e.Err != nil {
		msg += ": " + e.Err.Error()
	}
	return msg
}

// Is reports true for e.Kind and lexicon.ErrUnknownSchema.
func (e *Error) Is(target error) bool { return target == e.Kind || target == lexicon.ErrUnknownSchema }

// Unwrap returns e.Err.
func (e *Error) Unwrap() error { return e.Err }

package identity

import (
	"errors"

	"github.com/pdskit/pdskit/identity/safehttp"
)

// Errors that callers branch on. Errors of this package wrap one of these.
var (
	// ErrInvalid: the identifier is not one that may be resolved: its syntax, its
	// reserved top-level domain, or a did:web with a path or port.
	ErrInvalid = errors.New("identity: invalid identifier")
	// ErrMethod: the DID is of a method other than plc and web.
	ErrMethod = errors.New("identity: unsupported DID method")
	// ErrNotFound: the identifier is known not to exist.
	ErrNotFound = errors.New("identity: not found")
	// ErrTombstoned: the did:plc was deactivated by its owner.
	ErrTombstoned = errors.New("identity: tombstoned")
	// ErrMismatch: a document is of another DID, or an account's document does not claim the handle
	// that points at it.
	ErrMismatch = errors.New("identity: mismatch")
	// ErrAmbiguous: a handle has several DNS records.
	ErrAmbiguous = errors.New("identity: more than one record")
	// ErrUnavailable: the answer could not be had now; a later attempt may succeed.
	ErrUnavailable = errors.New("identity: unavailable")
	// ErrDocument: a DID document, or another answer of a directory, is malformed or
	// lacks what was asked for.
	ErrDocument = errors.New("identity: malformed document")
	// ErrTooLarge: an answer or a log is larger than its limit.
	ErrTooLarge = safehttp.ErrTooLarge
	// ErrAddress: the HTTP client refused a request for where it went.
	ErrAddress = safehttp.ErrAddress
)

// Errors of did:plc operations and logs.
var (
	// ErrOperation: an operation is malformed or beyond a limit.
	ErrOperation = errors.New("identity: malformed PLC operation")
	// ErrSignature: no rotation key that has the authority signed an operation, or
	// its signature is not encoded in the one permitted way.
	ErrSignature = errors.New("identity: invalid signature of a PLC operation")
	// ErrOrder: an operation does not follow from the operations before it.
	ErrOrder = errors.New("identity: PLC operation out of order")
	// ErrLateRecovery: an operation would nullify another after the recovery window.
	ErrLateRecovery = errors.New("identity: PLC recovery after 72 hours")
	// ErrGenesis: a DID is not the hash of its first operation.
	ErrGenesis = errors.New("identity: DID is not the hash of the genesis operation")
	// ErrLog: an audit log contradicts itself: its CIDs, times or nullified marks.
	ErrLog = errors.New("identity: inconsistent PLC log")
)

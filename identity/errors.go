package identity

import (
	"errors"

	"github.com/pdskit/pdskit/identity/safehttp"
)

// Errors that callers branch on. Errors of this package wrap one of these.
var (
	// ErrInvalid: the identifier must not be resolved: its syntax is wrong, its top-level domain is
	// reserved, or it is a did:web with a path or port.
	ErrInvalid = errors.New("identity: invalid identifier")
	// ErrMethod: the DID is of a method other than plc and web.
	ErrMethod = errors.New("identity: unsupported DID method")
	// ErrNotFound: the identifier definitely does not exist.
	ErrNotFound = errors.New("identity: not found")
	// ErrTombstoned: the did:plc was deactivated by its owner.
	ErrTombstoned = errors.New("identity: tombstoned")
	// ErrMismatch: a document is that of another DID, or an account's document does not claim the
	// handle that points to it.
	ErrMismatch = errors.New("identity: mismatch")
	// ErrAmbiguous: a handle has several DNS records.
	ErrAmbiguous = errors.New("identity: more than one record")
	// ErrUnavailable: there is no answer at the moment; a later attempt may succeed.
	ErrUnavailable = errors.New("identity: unavailable")
	// ErrDocument: a DID document, or another response of a directory, is malformed or incomplete.
	ErrDocument = errors.New("identity: malformed document")
	// ErrTooLarge: a response or a log is larger than its limit.
	ErrTooLarge = safehttp.ErrTooLarge
	// ErrAddress: the HTTP client refused the address of a request.
	ErrAddress = safehttp.ErrAddress
)

// Errors of did:plc operations and logs.
var (
	// ErrOperation: an operation is malformed or exceeds a limit.
	ErrOperation = errors.New("identity: malformed PLC operation")
	// ErrSignature: no rotation key with sufficient authority signed an operation, or its signature
	// does not have the only permitted encoding.
	ErrSignature = errors.New("identity: invalid signature of a PLC operation")
	// ErrOrder: an operation does not follow the operations before it.
	ErrOrder = errors.New("identity: PLC operation out of order")
	// ErrLateRecovery: an operation would nullify another one after the recovery window.
	ErrLateRecovery = errors.New("identity: PLC recovery after 72 hours")
	// ErrGenesis: a DID is not the hash of its first operation.
	ErrGenesis = errors.New("identity: DID is not the hash of the genesis operation")
	// ErrLog: the CIDs, times or nullified marks of an audit log contradict each other.
	ErrLog = errors.New("identity: inconsistent PLC log")
)

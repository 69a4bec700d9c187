package plctest

import (
	"errors"
	"fmt"
	"net/http"
	"strings"
	"time"

	"github.com/mr-tron/base58"

	"github.com/pdskit/pdskit/crypto"
	"github.com/pdskit/pdskit/identity"
)

// Limits of the public directory on new operations; those that it accepted in the past may exceed
// them.
const (
	maxOperation   = 4000 // bytes of DAG-CBOR
	maxEntries     = 10   // of each list
	maxAlias       = 258  // bytes
	maxID          = 32   // bytes of a service's or verification method's name
	maxType        = 256  // bytes of a service's type
	maxEndpoint    = 512  // bytes
	maxDIDKey      = 256  // bytes
	opsEveryHour   = 10
	opsEveryDay    = 30
	opsEveryWeek   = 100
	didKeyMultikey = "did:key:z"
)

// Refusal is the error of a refused operation.
type Refusal struct {
	Status  int    // HTTP status
	Message string // for the client
	Err     error  // of package identity; may be nil
}

// Error implements error.
func (r *Refusal) Error() string { return "plctest: refused: " + r.Message }

// Unwrap returns r.Err.
func (r *Refusal) Unwrap() error { return r.Err }

func refuse(format string, args ...any) error {
	return &Refusal{http.StatusBadRequest, fmt.Sprintf(format, args...), identity.ErrOperation}
}

// refusal turns an error of a log into one with the public directory's message.
func refusal(err error) error {
	message := err.Error()
	for _, m := range []struct {
		err  error
		text string
	}{
		{identity.ErrOrder, "Operations not correctly ordered"},
		{identity.ErrSignature, "Invalid signature on op"},
		{identity.ErrLateRecovery, "Recovery operation occurred outside of the allowed 72 hr recovery window"},
		{identity.ErrGenesis, "Hash of genesis operation does not match DID identifier"},
		{identity.ErrOperation, "Not a valid operation"},
	} {
		if errors.Is(err, m.err) {
			message = m.text
		}
	}
	return &Refusal{http.StatusBadRequest, message, err}
}

// checkIncoming applies the limits on operations that come in.
func checkIncoming(op *identity.PLCOperation) error {
	b, err := op.Bytes()
	if err != nil {
		return refusal(err)
	}
	if len(b) > maxOperation {
		return refuse("Operation too large (%d bytes maximum in cbor encoding)", maxOperation)
	}
	switch op.Type {
	case identity.PLCTombstone:
		return nil
	case identity.PLCCreate:
		return refuse("Not a valid operation: the legacy form is no longer accepted")
	}
	for _, l := range []struct {
		name string
		n    int
	}{{"alsoKnownAs", len(op.AlsoKnownAs)}, {"rotationKey", len(op.RotationKeys)}, {"service", len(op.Services)}, {"Verification Method", len(op.VerificationMethods)}} {
		if l.n > maxEntries {
			return refuse("Too many %s entries (max %d)", l.name, maxEntries)
		}
	}
	seen := map[string]bool{}
	for _, alias := range op.AlsoKnownAs {
		if len(alias) > maxAlias {
			return refuse("alsoKnownAs entry too long (max %d)", maxAlias)
		}
		if seen[alias] {
			return refuse("duplicate alsoKnownAs entry: %s", alias)
		}
		seen[alias] = true
	}
	for _, key := range op.RotationKeys {
		if _, err := crypto.ParseDIDKey(key); err != nil {
			return refuse("Invalid rotationKey: %s", key)
		}
	}
	for id, s := range op.Services {
		if len(id) > maxID || len(s.Type) > maxType || len(s.Endpoint) > maxEndpoint {
			return refuse("Service id, type or endpoint too long (max %d, %d, %d)", maxID, maxType, maxEndpoint)
		}
	}
	for id, key := range op.VerificationMethods {
		if len(id) > maxID || len(key) > maxDIDKey {
			return refuse("Verification Method id or key too long (max %d, %d)", maxID, maxDIDKey)
		}
		// Any type of key will do, as long as it is a did:key.
		encoded, ok := strings.CutPrefix(key, didKeyMultikey)
		if b, err := base58.Decode(encoded); !ok || err != nil || len(b) == 0 {
			return refuse("Invalid verificationMethod key: %s", key)
		}
	}
	return nil
}

// checkRate applies the limits on how often a DID may change, to a log whose last
// operation is new. Nullified operations do not count.
func checkRate(log *identity.PLCLog, now time.Time) error {
	for _, l := range []struct {
		name  string
		span  time.Duration
		limit int
	}{{"week", 7 * 24 * time.Hour, opsEveryWeek}, {"day", 24 * time.Hour, opsEveryDay}, {"hour", time.Hour, opsEveryHour}} {
		n := 0
		for _, e := range log.Entries() {
			if !e.Nullified && e.CreatedAt.After(now.Add(-l.span)) {
				n++
			}
		}
		if n > l.limit {
			return &Refusal{http.StatusBadRequest, fmt.Sprintf("Too many operations within last %s (max %d)", l.name, l.limit), nil}
		}
	}
	return nil
}

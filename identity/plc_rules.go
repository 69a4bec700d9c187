package identity

import (
	"fmt"
	"net/url"
	"strings"

	"github.com/mr-tron/base58"

	"github.com/pdskit/pdskit/crypto"
	"github.com/pdskit/pdskit/lexicon/syntax"
)

// Limits on new operations: those of the specification or of the public directory, whichever is
// stricter. Operations that a directory accepted in the past may exceed them.
const (
	newPLCBytes        = 4000 // of DAG-CBOR, with the signature
	newPLCRotationKeys = 5
	newPLCEntries      = 10  // of each other list
	newPLCAlias        = 256 // bytes
	newPLCID           = 32  // bytes of a service's or verification method's name
	newPLCType         = 256 // bytes of a service's type
	newPLCEndpoint     = 512 // bytes
	newPLCKey          = 256 // bytes of a did:key

	// plcSigBytes is what a signature adds to the encoding: the key "sig", and 86 characters.
	plcSigBytes = 4 + 2 + 86
)

// Validate checks that a directory would accept the operation's content in a new operation: 1 to 5
// distinct rotation keys of types that can sign; verification methods that are did:keys, with a
// supported type for the account's signing key; well-formed handles and service endpoints; sizes.
// The operation may be unsigned. Validate does not check the signature, or whether the operation
// follows the one before it: [PLCLog] does. The error is ErrOperation with the reason.
func (op *PLCOperation) Validate() error {
	bad := func(format string, args ...any) error {
		return fmt.Errorf("%w: %s", ErrOperation, fmt.Sprintf(format, args...))
	}
	b, err := op.encode(op.Sig != "")
	if err != nil {
		return err
	}
	size := len(b)
	if op.Sig == "" {
		size += plcSigBytes
	}
	if size > newPLCBytes {
		return bad("%d bytes, more than %d", size, newPLCBytes)
	}
	switch op.Type {
	case PLCTombstone:
		return nil
	case PLCCreate:
		return bad("the legacy form is no longer accepted")
	}
	if n := len(op.RotationKeys); n < 1 || n > newPLCRotationKeys {
		return bad("%d rotation keys: there must be 1 to %d", n, newPLCRotationKeys)
	}
	seen := make(map[string]bool)
	for _, key := range op.RotationKeys {
		if _, err := crypto.ParseDIDKey(key); err != nil {
			return bad("rotation key %.80q is not a did:key of a supported type", key)
		}
		if seen[key] {
			return bad("rotation key %.80q is there twice", key)
		}
		seen[key] = true
	}
	for _, list := range []struct {
		name string
		n    int
	}{{"alsoKnownAs", len(op.AlsoKnownAs)}, {"verificationMethods", len(op.VerificationMethods)}, {"services", len(op.Services)}} {
		if list.n > newPLCEntries {
			return bad("%d entries of %s, more than %d", list.n, list.name, newPLCEntries)
		}
	}
	for _, uri := range op.AlsoKnownAs {
		if !validAlias(uri) {
			return bad("alsoKnownAs %.80q is not a URI of a handle or of something else", uri)
		}
		if seen[uri] {
			return bad("alsoKnownAs %.80q is there twice", uri)
		}
		seen[uri] = true
	}
	for id, key := range op.VerificationMethods {
		if !validPLCKey(id, key) {
			return bad("verification method %.40q has no valid did:key: %.80q", id, key)
		}
	}
	for id, s := range op.Services {
		if !validPLCService(id, s) {
			return bad("service %.40q is not valid: type %.80q, endpoint %.80q", id, s.Type, s.Endpoint)
		}
	}
	return nil
}

// validAlias reports whether a text is the URI of a handle, or another absolute URI.
func validAlias(s string) bool {
	if len(s) > newPLCAlias {
		return false
	}
	if handle, ok := strings.CutPrefix(s, "at://"); ok {
		_, err := syntax.ParseHandle(handle)
		return err == nil
	}
	u, err := url.Parse(s)
	return err == nil && u.Scheme != "" && (u.Host != "" || u.Opaque != "")
}

// validPLCKey reports whether a verification method is a did:key: of a supported type if it is the
// key that signs the repository.
func validPLCKey(id, key string) bool {
	encoded, ok := strings.CutPrefix(key, "did:key:z")
	if !ok || id == "" || len(id) > newPLCID || len(key) > newPLCKey {
		return false
	}
	if id == SigningKeyID {
		_, err := crypto.ParseDIDKey(key)
		return err == nil
	}
	_, err := base58.Decode(encoded)
	return err == nil
}

// validPLCService reports whether a service can be asked for: an absolute URI, and for the
// account's server the address of a server.
func validPLCService(id string, s PLCService) bool {
	if id == "" || len(id) > newPLCID || s.Type == "" || len(s.Type) > newPLCType || len(s.Endpoint) > newPLCEndpoint {
		return false
	}
	if id == PDSID && s.Type == PDSType {
		doc := Document{Services: []Service{{ID: "#" + id, Type: s.Type, Endpoint: s.Endpoint}}}
		_, ok := doc.PDS()
		return ok
	}
	u, err := url.Parse(s.Endpoint)
	return err == nil && u.Scheme != "" && (u.Host != "" || u.Opaque != "")
}

package identity

import (
	"context"
	"encoding/base64"
	"fmt"
	"maps"
	"slices"
	"strings"

	"github.com/pdskit/pdskit/crypto"
	"github.com/pdskit/pdskit/internal/dag"
	"github.com/pdskit/pdskit/lexicon/syntax"
)

// Types of did:plc operations.
const (
	PLCUpdate    = "plc_operation" // a creation or an update
	PLCTombstone = "plc_tombstone" // a deactivation
	PLCCreate    = "create"        // a creation, in the legacy form
)

// PLCOperation is one operation of a did:plc: the complete new state of the DID, a reference to the
// previous operation, and a signature by one of the rotation keys of the previous state.
// Specification: did:plc, Operation Serialization, Signing, and Validation.
//
// Type determines which fields are used. Operations are signed and hashed in DAG-CBOR, which has
// one encoding for each value. So operations that are read from JSON keep their CIDs.
type PLCOperation struct {
	Type string // PLCUpdate, PLCTombstone or PLCCreate
	Prev string // CID of the operation before; empty in a genesis operation
	Sig  string // base64url, without padding; empty: not signed yet

	// Fields of PLCUpdate.
	RotationKeys        []string          // did:keys that may sign the next operation, in descending authority
	VerificationMethods map[string]string // fragment, such as SigningKeyID, to did:key
	AlsoKnownAs         []string          // URIs: "at://" and the handle
	Services            map[string]PLCService

	// Legacy has the fields of PLCCreate; nil otherwise.
	Legacy *PLCLegacy
}

// PLCService is an entry of PLCOperation.Services, whose keys are fragments such as PDSID.
type PLCService struct {
	Type     string `json:"type"`
	Endpoint string `json:"endpoint"`
}

// PLCLegacy has the fields of an operation of type PLCCreate.
type PLCLegacy struct {
	SigningKey  string // did:key; also the rotation key of lower authority
	RecoveryKey string // did:key; the rotation key of higher authority
	Handle      string
	Service     string // URL or host name of the PDS
}

// NewPLCOperation returns an unsigned genesis operation for an AT Protocol account. The rotation
// keys are in descending authority; one of them must sign it.
func NewPLCOperation(handle syntax.Handle, pds string, signingKey *crypto.PublicKey, rotationKeys ...*crypto.PublicKey) *PLCOperation {
	op := &PLCOperation{Type: PLCUpdate}
	for _, key := range rotationKeys {
		op.RotationKeys = append(op.RotationKeys, key.DIDKey())
	}
	op.SetHandle(handle)
	op.SetPDS(pds)
	op.SetSigningKey(signingKey)
	return op
}

// SetHandle replaces the first handle of the operation, or inserts one.
func (op *PLCOperation) SetHandle(h syntax.Handle) {
	uri := "at://" + string(h.Normalize())
	i := slices.IndexFunc(op.AlsoKnownAs, func(s string) bool { return strings.HasPrefix(s, "at://") })
	if i < 0 {
		op.AlsoKnownAs = slices.Insert(op.AlsoKnownAs, 0, uri)
	} else {
		op.AlsoKnownAs[i] = uri
	}
}

// SetPDS sets the URL of the account's server, such as "https://pds.example.com".
func (op *PLCOperation) SetPDS(url string) {
	if op.Services == nil {
		op.Services = map[string]PLCService{}
	}
	op.Services[PDSID] = PLCService{Type: PDSType, Endpoint: url}
}

// SetSigningKey sets the key that signs the account's repository.
func (op *PLCOperation) SetSigningKey(key *crypto.PublicKey) {
	if op.VerificationMethods == nil {
		op.VerificationMethods = map[string]string{}
	}
	op.VerificationMethods[SigningKeyID] = key.DIDKey()
}

// Next returns an unsigned operation that follows op, with the same state, ready to be changed and
// signed. After a legacy operation it has the present form. Nothing can follow a tombstone: the
// error is ErrOrder and ErrTombstoned.
func (op *PLCOperation) Next() (*PLCOperation, error) {
	if op.Type == PLCTombstone {
		return nil, fmt.Errorf("%w: nothing follows it (%w)", ErrTombstoned, ErrOrder)
	}
	prev, err := op.CID()
	if err != nil {
		return nil, err
	}
	next := op.normalized()
	next.Prev, next.Sig = prev, ""
	next.RotationKeys, next.AlsoKnownAs = slices.Clone(next.RotationKeys), slices.Clone(next.AlsoKnownAs)
	next.VerificationMethods, next.Services = maps.Clone(next.VerificationMethods), maps.Clone(next.Services)
	return &next, nil
}

// Tombstone returns an unsigned operation that follows op and deactivates the DID.
func (op *PLCOperation) Tombstone() (*PLCOperation, error) {
	if op.Type == PLCTombstone {
		return nil, fmt.Errorf("%w: nothing follows it (%w)", ErrTombstoned, ErrOrder)
	}
	prev, err := op.CID()
	if err != nil {
		return nil, err
	}
	return &PLCOperation{Type: PLCTombstone, Prev: prev}, nil
}

// normalized returns the operation in the present form, sharing its slices and maps.
func (op *PLCOperation) normalized() PLCOperation {
	if op.Type != PLCCreate || op.Legacy == nil {
		return *op
	}
	old := op.Legacy
	handle, service := old.Handle, old.Service
	if !strings.HasPrefix(handle, "at://") {
		handle = "at://" + strings.TrimPrefix(strings.TrimPrefix(handle, "http://"), "https://")
	}
	if !strings.HasPrefix(service, "http://") && !strings.HasPrefix(service, "https://") {
		service = "https://" + service
	}
	return PLCOperation{
		Type: PLCUpdate, Prev: op.Prev, Sig: op.Sig,
		RotationKeys:        []string{old.RecoveryKey, old.SigningKey},
		VerificationMethods: map[string]string{SigningKeyID: old.SigningKey},
		AlsoKnownAs:         []string{handle},
		Services:            map[string]PLCService{PDSID: {Type: PDSType, Endpoint: service}},
	}
}

// Data returns the state of a DID after the operation. For a tombstone, the error is ErrTombstoned.
func (op *PLCOperation) Data(did syntax.DID) (*PLCData, error) {
	if op.Type == PLCTombstone {
		return nil, fmt.Errorf("%w: %s", ErrTombstoned, did)
	}
	if op.Type != PLCUpdate && (op.Type != PLCCreate || op.Legacy == nil) {
		return nil, fmt.Errorf("%w: type %.40q", ErrOperation, op.Type)
	}
	n := op.normalized()
	return &PLCData{DID: did, RotationKeys: n.RotationKeys, VerificationMethods: n.VerificationMethods,
		AlsoKnownAs: n.AlsoKnownAs, Services: n.Services}, nil
}

// Sign signs the operation. The signer's key must be a rotation key of the previous operation, or
// of op itself if it is a genesis operation.
func (op *PLCOperation) Sign(ctx context.Context, signer crypto.Signer) error {
	if signer == nil {
		return fmt.Errorf("%w: there is no signer", ErrOperation)
	}
	msg, err := op.encode(false)
	if err != nil {
		return err
	}
	sig, err := signer.Sign(ctx, msg)
	if err != nil {
		return fmt.Errorf("identity: signing a PLC operation: %w", err)
	}
	op.Sig = base64.RawURLEncoding.EncodeToString(sig)
	return nil
}

// Verify checks the operation's signature, and returns the index of the first of the rotation keys
// that made it. Keys of unsupported types never match. Errors are ErrSignature and ErrOperation.
func (op *PLCOperation) Verify(rotationKeys []string) (int, error) {
	return op.verify(rotationKeys, crypto.ParseDIDKey)
}

func (op *PLCOperation) verify(keys []string, parse func(string) (*crypto.PublicKey, error)) (int, error) {
	msg, err := op.encode(false)
	if err != nil {
		return 0, err
	}
	sig, err := decodeSig(op.Sig)
	if err != nil {
		return 0, err
	}
	for i, s := range keys {
		if key, err := parse(s); err == nil && key.Verify(msg, sig) == nil {
			return i, nil
		}
	}
	return 0, fmt.Errorf("%w: by none of %d keys", ErrSignature, len(keys))
}

// decodeSig accepts one spelling of a signature only: 86 characters of base64url
// whose unused bits are zero. With any other, a stranger could give an operation a
// second CID.
func decodeSig(s string) ([]byte, error) {
	sig, err := base64.RawURLEncoding.DecodeString(s)
	if err != nil || len(sig) != crypto.SignatureLen || base64.RawURLEncoding.EncodeToString(sig) != s {
		return nil, fmt.Errorf("%w: not canonical base64url of %d bytes", ErrSignature, crypto.SignatureLen)
	}
	return sig, nil
}

// DID returns the DID that a signed genesis operation creates.
func (op *PLCOperation) DID() (syntax.DID, error) {
	if op.Prev != "" || op.Type == PLCTombstone {
		return "", fmt.Errorf("%w: not a genesis operation", ErrOrder)
	}
	digest, err := op.digest()
	if err != nil {
		return "", err
	}
	return syntax.DID("did:plc:" + dag.Base32.EncodeToString(digest[:15])), nil
}

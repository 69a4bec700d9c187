package identity

import (
	"encoding/json"
	"fmt"
	"maps"
	"slices"
	"strings"
	"time"

	"github.com/pdskit/pdskit/crypto"
	"github.com/pdskit/pdskit/internal/exactjson"
	"github.com/pdskit/pdskit/lexicon/syntax"
)

const (
	// PLCRecoveryWindow is how long after an operation a rotation key of higher
	// authority may nullify it. Specification: did:plc, Key Rotation & Account Recovery.
	PLCRecoveryWindow = 72 * time.Hour
	// MaxPLCLog is the maximum number of operations in a log, including nullified ones.
	MaxPLCLog = 4096
)

// PLCData is the state of a did:plc, in the form that directories serve.
type PLCData struct {
	DID                 syntax.DID            `json:"did"`
	RotationKeys        []string              `json:"rotationKeys"`
	VerificationMethods map[string]string     `json:"verificationMethods"`
	AlsoKnownAs         []string              `json:"alsoKnownAs"`
	Services            map[string]PLCService `json:"services"`
}

// Document returns the DID document of the state. Entries are in the order of DAG-CBOR: by the
// length of their fragments, then by bytes.
func (d *PLCData) Document() *Document {
	doc := &Document{ID: d.DID, AlsoKnownAs: slices.Clone(d.AlsoKnownAs)}
	for _, id := range canonicalKeys(d.VerificationMethods) {
		multikey := strings.TrimPrefix(d.VerificationMethods[id], "did:key:")
		doc.VerificationMethods = append(doc.VerificationMethods, VerificationMethod{
			ID: string(d.DID) + "#" + id, Type: keyMultikey, Controller: string(d.DID), PublicKeyMultibase: multikey})
	}
	for _, id := range canonicalKeys(d.Services) {
		s := d.Services[id]
		doc.Services = append(doc.Services, Service{ID: "#" + id, Type: s.Type, Endpoint: s.Endpoint})
	}
	return doc
}

// PLCLogEntry is an operation with a directory's metadata.
type PLCLogEntry struct {
	DID       syntax.DID
	Operation *PLCOperation
	CID       string
	Nullified bool      // a later recovery made it void
	CreatedAt time.Time // when the directory accepted it; milliseconds in JSON
}

type entryJSON struct {
	DID       syntax.DID      `json:"did"`
	Operation *PLCOperation   `json:"operation"`
	CID       string          `json:"cid"`
	Nullified bool            `json:"nullified"`
	CreatedAt syntax.Datetime `json:"createdAt"`
}

// MarshalJSON implements json.Marshaler.
func (e PLCLogEntry) MarshalJSON() ([]byte, error) {
	return json.Marshal(entryJSON{e.DID, e.Operation, e.CID, e.Nullified, syntax.NewDatetime(e.CreatedAt)})
}

// UnmarshalJSON implements json.Unmarshaler.
func (e *PLCLogEntry) UnmarshalJSON(b []byte) error {
	var in entryJSON
	if err := exactjson.Unmarshal(b, &in); err != nil {
		return err
	}
	if in.Operation == nil || in.DID == "" || in.CID == "" || in.CreatedAt == "" {
		return fmt.Errorf("%w: entry lacks a member", ErrLog)
	}
	*e = PLCLogEntry{in.DID, in.Operation, in.CID, in.Nullified, in.CreatedAt.Time()}
	return nil
}

// PLCLog is the history of one did:plc. It starts empty and accepts exactly the operations that the
// method permits. Directories and verifiers use the same code. It is not safe for concurrent use.
type PLCLog struct {
	did     syntax.DID
	entries []PLCLogEntry
	// signers holds, for each entry, the index of its signer among the rotation keys
	// of the entry before it.
	signers []int
	// valid holds the indices of the entries that are not nullified; each follows
	// from the one before it.
	valid []int
	keys  map[string]*crypto.PublicKey // parsed rotation keys; nil: cannot be parsed
}

// NewPLCLog returns the empty log of a DID.
func NewPLCLog(did syntax.DID) *PLCLog { return &PLCLog{did: did} }

// ValidatePLCLog checks a whole audit log, oldest entry first: the DID is the hash of the first
// operation; every operation follows an earlier one and is signed with sufficient authority;
// recoveries came in time; CIDs, times and nullified marks are consistent. Only two things remain
// on trust from the directory: the times, and that no operations are missing at the end. A log has
// at most MaxPLCLog entries.
func ValidatePLCLog(did syntax.DID, entries []PLCLogEntry) (*PLCLog, error) {
	if len(entries) == 0 {
		return nil, fmt.Errorf("%w: %s: no operations", ErrLog, did)
	}
	log := NewPLCLog(did)
	for i, e := range entries {
		if e.DID != did {
			return nil, fmt.Errorf("%w: operation %d is of %s, not of %s", ErrLog, i, e.DID, did)
		}
		if _, err := log.Append(e.Operation, e.CreatedAt); err != nil {
			return nil, fmt.Errorf("%s: operation %d: %w", did, i, err)
		}
		if cid := log.entries[i].CID; cid != e.CID {
			return nil, fmt.Errorf("%w: %s: operation %d is said to have the CID %s and has %s", ErrLog, did, i, e.CID, cid)
		}
	}
	for i, e := range entries {
		if e.Nullified != log.entries[i].Nullified {
			return nil, fmt.Errorf("%w: %s: operation %d: nullified is %t and must be %t", ErrLog, did, i, e.Nullified, !e.Nullified)
		}
	}
	return log, nil
}

// Append adds an operation that arrived at a given time, if it is permitted, and returns the CIDs
// of the operations that it nullifies. After an error the log is unchanged. The log keeps the
// operation, so do not change it afterwards.
//
// Errors are ErrOperation, ErrSignature, ErrOrder, ErrLateRecovery, ErrGenesis and ErrTooLarge.
func (l *PLCLog) Append(op *PLCOperation, at time.Time) (nullified []string, err error) {
	if len(l.entries) >= MaxPLCLog {
		return nil, fmt.Errorf("%w: PLC log of more than %d operations", ErrTooLarge, MaxPLCLog)
	}
	if op == nil {
		return nil, fmt.Errorf("%w: none", ErrOperation)
	}
	cid, err := op.CID()
	if err != nil {
		return nil, err
	}
	keep, signer := 0, 0 // how many valid operations stay
	if len(l.entries) == 0 {
		signer, err = l.checkGenesis(op)
	} else {
		keep, signer, err = l.checkNext(op, at)
	}
	if err != nil {
		return nil, err
	}
	for _, i := range l.valid[keep:] {
		l.entries[i].Nullified = true
		nullified = append(nullified, l.entries[i].CID)
	}
	l.valid = append(l.valid[:keep], len(l.entries))
	l.entries = append(l.entries, PLCLogEntry{DID: l.did, Operation: op, CID: cid, CreatedAt: at})
	l.signers = append(l.signers, signer)
	return nullified, nil
}

func (l *PLCLog) checkGenesis(op *PLCOperation) (signer int, err error) {
	did, err := op.DID()
	if err != nil {
		return 0, err
	}
	if signer, err = op.verify(op.normalized().RotationKeys, l.parseKey); err != nil {
		return 0, err
	}
	if did != l.did {
		return 0, fmt.Errorf("%w: it makes %s, not %s", ErrGenesis, did, l.did)
	}
	return signer, nil
}

// checkNext checks an operation other than the first. It returns how many of the
// valid operations stay, and the index of the key that signed.
func (l *PLCLog) checkNext(op *PLCOperation, at time.Time) (keep, signer int, err error) {
	if op.Type == PLCCreate || op.Prev == "" {
		return 0, 0, fmt.Errorf("%w: a second genesis operation", ErrOrder)
	}
	i := slices.IndexFunc(l.valid, func(i int) bool { return l.entries[i].CID == op.Prev })
	if i < 0 {
		return 0, 0, fmt.Errorf("%w: prev is not a valid operation of the log", ErrOrder)
	}
	prev := l.entries[l.valid[i]].Operation
	if prev.Type == PLCTombstone {
		return 0, 0, fmt.Errorf("%w: nothing follows a tombstone", ErrOrder)
	}
	if at.Before(l.entries[len(l.entries)-1].CreatedAt) {
		return 0, 0, fmt.Errorf("%w: earlier than the operation before it", ErrOrder)
	}
	keys, keep := prev.normalized().RotationKeys, i+1
	if keep == len(l.valid) {
		signer, err = op.verify(keys, l.parseKey)
		return keep, signer, err
	}
	// A recovery: only keys of higher authority than the one that signed the first
	// operation to be nullified count, and only for a time.
	disputed := l.valid[keep]
	if signer, err = op.verify(keys[:l.signers[disputed]], l.parseKey); err != nil {
		return 0, 0, err
	}
	if !at.After(l.entries[len(l.entries)-1].CreatedAt) {
		return 0, 0, fmt.Errorf("%w: a recovery at the time of the operation before it", ErrOrder)
	}
	if late := at.Sub(l.entries[disputed].CreatedAt); late > PLCRecoveryWindow {
		return 0, 0, fmt.Errorf("%w: %v after the operation", ErrLateRecovery, late)
	}
	return keep, signer, nil
}

// parseKey is crypto.ParseDIDKey with a memory: the operations of a DID are mostly
// signed with the same few keys.
func (l *PLCLog) parseKey(s string) (*crypto.PublicKey, error) {
	key, ok := l.keys[s]
	if !ok {
		key, _ = crypto.ParseDIDKey(s)
		if l.keys == nil {
			l.keys = map[string]*crypto.PublicKey{}
		}
		l.keys[s] = key
	}
	if key == nil {
		return nil, crypto.ErrKey
	}
	return key, nil
}

// Clone returns a copy that shares the operations.
func (l *PLCLog) Clone() *PLCLog {
	return &PLCLog{did: l.did, entries: slices.Clone(l.entries), signers: slices.Clone(l.signers),
		valid: slices.Clone(l.valid), keys: maps.Clone(l.keys)}
}

// Len returns the number of operations, including nullified ones.
func (l *PLCLog) Len() int { return len(l.entries) }

// Entry returns the i-th operation, from 0, oldest first.
func (l *PLCLog) Entry(i int) PLCLogEntry { return l.entries[i] }

// DID returns the DID whose log this is.
func (l *PLCLog) DID() syntax.DID { return l.did }

// Entries returns all operations, oldest first, including nullified ones.
func (l *PLCLog) Entries() []PLCLogEntry { return slices.Clone(l.entries) }

// Operations returns the operations that are valid at present, oldest first.
func (l *PLCLog) Operations() []*PLCOperation {
	list := make([]*PLCOperation, 0, len(l.valid))
	for _, i := range l.valid {
		list = append(list, l.entries[i].Operation)
	}
	return list
}

// Last returns the last valid operation, or nil if the log is empty.
func (l *PLCLog) Last() *PLCOperation {
	if len(l.valid) == 0 {
		return nil
	}
	return l.entries[l.valid[len(l.valid)-1]].Operation
}

// Data returns the present state. The error is ErrTombstoned, or ErrNotFound if the log is empty.
func (l *PLCLog) Data() (*PLCData, error) {
	last := l.Last()
	if last == nil {
		return nil, fmt.Errorf("%w: %s", ErrNotFound, l.did)
	}
	return last.Data(l.did)
}

// Document returns the present DID document. Its errors are those of Data.
func (l *PLCLog) Document() (*Document, error) {
	d, err := l.Data()
	if err != nil {
		return nil, err
	}
	return d.Document(), nil
}

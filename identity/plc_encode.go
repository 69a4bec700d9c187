package identity

import (
	"crypto/sha256"
	"encoding/json"
	"fmt"
	"maps"
	"slices"
	"unicode/utf8"

	"github.com/pdskit/pdskit/internal/cbor"
	"github.com/pdskit/pdskit/internal/dag"
	"github.com/pdskit/pdskit/lexicon/data"
)

// Limits on operations that are read. A directory may accept less.
const (
	// MaxPLCOperation is the maximum size of an operation in DAG-CBOR, in bytes. Specification:
	// did:plc, Operation Serialization, Signing, and Validation.
	MaxPLCOperation = 7500
	// MaxPLCRotationKeys is the maximum number of rotation keys of an operation. Some have none; no
	// operation can follow them.
	MaxPLCRotationKeys = 32
)

// Bytes returns the signed operation in DAG-CBOR. Its error is ErrOperation.
func (op *PLCOperation) Bytes() ([]byte, error) {
	if op.Sig == "" {
		return nil, fmt.Errorf("%w: not signed", ErrOperation)
	}
	return op.encode(true)
}

// CID returns the CID of the signed operation. The next operation has it as Prev.
func (op *PLCOperation) CID() (string, error) {
	digest, err := op.digest()
	if err != nil {
		return "", err
	}
	return dag.CID(dag.CBOR, &digest).String(), nil
}

func (op *PLCOperation) digest() (dag.Digest, error) {
	b, err := op.Bytes()
	if err != nil {
		return dag.Digest{}, err
	}
	return sha256.Sum256(b), nil
}

// encode returns the operation in DAG-CBOR, with its signature or without.
// Map keys are in canonical order: by length, then bytes.
func (op *PLCOperation) encode(signed bool) ([]byte, error) {
	fields := map[string]int{PLCUpdate: 6, PLCTombstone: 2, PLCCreate: 6}[op.Type]
	if fields == 0 || (op.Type == PLCCreate) != (op.Legacy != nil) {
		return nil, fmt.Errorf("%w: type %.64q", ErrOperation, op.Type)
	}
	if op.Type == PLCTombstone && op.Prev == "" || op.Type == PLCCreate && op.Prev != "" {
		return nil, fmt.Errorf("%w: prev of a %s", ErrOperation, op.Type)
	}
	if len(op.RotationKeys) > MaxPLCRotationKeys {
		return nil, fmt.Errorf("%w: %d rotation keys", ErrOperation, len(op.RotationKeys))
	}
	e := plcEncoder{b: make([]byte, 0, 1024), valid: true}
	if signed {
		e.b = cbor.AppendMap(e.b, fields+1)
		e.text("sig", op.Sig)
	} else {
		e.b = cbor.AppendMap(e.b, fields)
	}
	e.text("prev")
	if op.Prev == "" {
		e.b = cbor.AppendNull(e.b)
	} else {
		e.text(op.Prev)
	}
	e.text("type", op.Type)
	switch op.Type {
	case PLCCreate:
		e.text("handle", op.Legacy.Handle, "service", op.Legacy.Service,
			"signingKey", op.Legacy.SigningKey, "recoveryKey", op.Legacy.RecoveryKey)
	case PLCUpdate:
		e.text("services")
		e.b = cbor.AppendMap(e.b, len(op.Services))
		for _, id := range canonicalKeys(op.Services) {
			e.text(id)
			e.b = cbor.AppendMap(e.b, 2)
			e.text("type", op.Services[id].Type, "endpoint", op.Services[id].Endpoint)
		}
		e.text("alsoKnownAs")
		e.list(op.AlsoKnownAs)
		e.text("rotationKeys")
		e.list(op.RotationKeys)
		e.text("verificationMethods")
		e.b = cbor.AppendMap(e.b, len(op.VerificationMethods))
		for _, id := range canonicalKeys(op.VerificationMethods) {
			e.text(id, op.VerificationMethods[id])
		}
	}
	if !e.valid {
		return nil, fmt.Errorf("%w: text that is not Unicode", ErrOperation)
	}
	if len(e.b) > MaxPLCOperation {
		return nil, fmt.Errorf("%w: longer than %d bytes", ErrOperation, MaxPLCOperation)
	}
	return e.b, nil
}

type plcEncoder struct {
	b     []byte
	valid bool // all text so far is UTF-8
}

func (e *plcEncoder) text(list ...string) {
	for _, s := range list {
		e.valid = e.valid && utf8.ValidString(s)
		e.b = cbor.AppendText(e.b, s)
	}
}

func (e *plcEncoder) list(list []string) {
	e.b = cbor.AppendArray(e.b, len(list))
	e.text(list...)
}

// canonicalKeys returns the keys of a map in the order of DAG-CBOR.
func canonicalKeys[V any](m map[string]V) []string {
	return slices.SortedFunc(maps.Keys(m), cbor.CompareKeys)
}

// MarshalJSON implements json.Marshaler. An operation that has no signature has no
// member "sig".
func (op PLCOperation) MarshalJSON() ([]byte, error) {
	if _, err := op.encode(false); err != nil {
		return nil, err
	}
	m := map[string]any{"type": op.Type, "prev": nil}
	if op.Prev != "" {
		m["prev"] = op.Prev
	}
	if op.Sig != "" {
		m["sig"] = op.Sig
	}
	switch op.Type {
	case PLCCreate:
		m["signingKey"], m["recoveryKey"] = op.Legacy.SigningKey, op.Legacy.RecoveryKey
		m["handle"], m["service"] = op.Legacy.Handle, op.Legacy.Service
	case PLCUpdate:
		m["rotationKeys"], m["alsoKnownAs"] = notNil(op.RotationKeys), notNil(op.AlsoKnownAs)
		m["verificationMethods"], m["services"] = notNilMap(op.VerificationMethods), notNilMap(op.Services)
	}
	return json.Marshal(m)
}

// UnmarshalJSON implements json.Unmarshaler, as ParsePLCOperation does.
func (op *PLCOperation) UnmarshalJSON(b []byte) error {
	parsed, err := ParsePLCOperation(b)
	if err == nil {
		*op = *parsed
	}
	return err
}

// ParsePLCOperation reads an operation from JSON. It must have exactly the members of its type,
// each once. Only "sig" may be missing, in an unsigned operation. The error is ErrOperation.
func ParsePLCOperation(b []byte) (*PLCOperation, error) {
	v, err := data.FromJSON(b, data.Limits{Bytes: 8 * MaxPLCOperation, Depth: 4, Items: MaxPLCOperation})
	if err != nil {
		return nil, fmt.Errorf("%w: %w", ErrOperation, err)
	}
	m, ok := v.(map[string]any)
	if !ok {
		return nil, fmt.Errorf("%w: not an object", ErrOperation)
	}
	p := plcParser{m: m}
	op := &PLCOperation{Type: p.text("type")}
	if v, ok := m["prev"]; ok && v == nil {
		delete(m, "prev")
	} else {
		op.Prev = p.text("prev")
		p.bad = p.bad || op.Prev == ""
	}
	if _, ok := m["sig"]; ok {
		op.Sig = p.text("sig")
		p.bad = p.bad || op.Sig == ""
	}
	switch op.Type {
	case PLCCreate:
		op.Legacy = &PLCLegacy{SigningKey: p.text("signingKey"), RecoveryKey: p.text("recoveryKey"),
			Handle: p.text("handle"), Service: p.text("service")}
	case PLCUpdate:
		op.RotationKeys, op.AlsoKnownAs = p.list("rotationKeys"), p.list("alsoKnownAs")
		op.VerificationMethods = map[string]string{}
		methods := plcParser{m: p.object("verificationMethods")}
		for id := range methods.m {
			op.VerificationMethods[id] = methods.text(id)
		}
		op.Services = map[string]PLCService{}
		services := plcParser{m: p.object("services")}
		for id := range services.m {
			s := plcParser{m: services.object(id)}
			op.Services[id] = PLCService{Type: s.text("type"), Endpoint: s.text("endpoint")}
			services.bad = services.bad || s.bad || len(s.m) > 0
		}
		p.bad = p.bad || methods.bad || services.bad
	}
	if p.bad || len(m) > 0 {
		return nil, fmt.Errorf("%w: members missing, unknown or of a wrong type", ErrOperation)
	}
	if _, err := op.encode(op.Sig != ""); err != nil {
		return nil, err
	}
	return op, nil
}

// plcParser takes members out of an object; bad: one was missing or of another type.
type plcParser struct {
	m   map[string]any
	bad bool
}

func take[T any](p *plcParser, name string) T {
	v, ok := p.m[name].(T)
	p.bad = p.bad || !ok
	delete(p.m, name)
	return v
}

func (p *plcParser) text(name string) string           { return take[string](p, name) }
func (p *plcParser) object(name string) map[string]any { return take[map[string]any](p, name) }

func (p *plcParser) list(name string) []string {
	items := take[[]any](p, name)
	list := make([]string, 0, len(items))
	for _, v := range items {
		s, ok := v.(string)
		p.bad = p.bad || !ok
		list = append(list, s)
	}
	return list
}

// notNil and notNilMap make JSON of nil values "[]" and "{}".
func notNil(list []string) []string {
	if list == nil {
		return []string{}
	}
	return list
}

func notNilMap[V any](m map[string]V) map[string]V {
	if m == nil {
		return map[string]V{}
	}
	return m
}

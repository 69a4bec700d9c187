package lexicon

import (
	"slices"
	"strconv"
	"strings"

	"github.com/pdskit/pdskit/lexicon/syntax"
)

// Validator validates values with the schemas of a catalog. Its fields are options. The methods of
// Catalog with similar names use none of them.
//
// Errors are *Error or Errors (they match ErrInvalid) if the value does not conform, or
// *UnknownSchemaError (it matches ErrUnknownSchema) if a document is missing, so that the value
// cannot be validated.
type Validator struct {
	Catalog *Catalog
	// AllErrors reports all faults of a value, at most 64, as Errors. Without it, only the first
	// one is reported.
	AllErrors bool
	// LegacyBlobs accepts legacy references to blobs, which old records have and new records must
	// not have. They have no size to check.
	LegacyBlobs bool
}

const maxErrors = 64

// Record validates a record and its key: the key must have the collection's key type, "$type" must
// be the collection, and the record must conform to the schema.
func (v Validator) Record(collection syntax.NSID, rkey syntax.RecordKey, record any) error {
	r := v.Catalog.root(collection)
	if r == nil || r.record == nil {
		return &UnknownSchemaError{Name: string(collection), Want: "record"}
	}
	w := v.walk()
	if err := r.key.Check(rkey); err != nil {
		w.errs = append(w.errs, err.(*Error))
	}
	if len(w.errs) == 0 || w.all {
		w.run(r.record, pathRecord, record)
	}
	for _, e := range w.errs {
		e.Schema = string(collection)
	}
	return w.result()
}

// Input validates the decoded body of a procedure's request. If the schema describes no body, any
// is accepted.
func (v Validator) Input(method syntax.NSID, value any) error {
	r, err := v.Catalog.methodRoot(method)
	if err != nil {
		return err
	}
	return v.one(r.input, pathInput, value)
}

// Output validates the decoded body of a response.
func (v Validator) Output(method syntax.NSID, value any) error {
	r, err := v.Catalog.methodRoot(method)
	if err != nil {
		return err
	}
	return v.one(r.output, pathOutput, value)
}

// Message validates a message of a subscription. typ is the type in the frame's header, "#name" or
// a full name. It selects the variant of the message union, as "$type" does elsewhere. Types that
// an open union does not list are accepted.
func (v Validator) Message(method syntax.NSID, typ string, value any) error {
	r, err := v.Catalog.methodRoot(method)
	if err != nil {
		return err
	}
	if r.message == nil {
		return &UnknownSchemaError{Name: string(method), Want: "subscription"}
	}
	if strings.HasPrefix(typ, "#") {
		typ = string(method) + typ
	}
	w := v.walk()
	if n, ok := r.message.variants[typ]; ok {
		w.run(n, pathMessage, value)
	} else if r.message.closed {
		w.run(r.message, pathMessage, map[string]any{"$type": typ}) // which says what is wrong
	}
	return w.result()
}

// Value validates a value against any definition, by its full name.
func (v Validator) Value(name string, value any) error {
	return v.one(v.Catalog.node(name), pathValue, value)
}

func (v Validator) one(n node, path string, value any) error {
	if n == nil {
		return nil
	}
	w := v.walk()
	w.run(n, path, value)
	return w.result()
}

// ValidateRecord is [Validator.Record] without options.
func (c *Catalog) ValidateRecord(collection syntax.NSID, rkey syntax.RecordKey, record any) error {
	return Validator{Catalog: c}.Record(collection, rkey, record)
}

// ValidateInput is [Validator.Input] without options.
func (c *Catalog) ValidateInput(method syntax.NSID, value any) error {
	return Validator{Catalog: c}.Input(method, value)
}

// ValidateOutput is [Validator.Output] without options.
func (c *Catalog) ValidateOutput(method syntax.NSID, value any) error {
	return Validator{Catalog: c}.Output(method, value)
}

// ValidateMessage is [Validator.Message] without options.
func (c *Catalog) ValidateMessage(method syntax.NSID, typ string, value any) error {
	return Validator{Catalog: c}.Message(method, typ, value)
}

// walk is one validation.
type walk struct {
	all, legacy bool
	errs        []*Error
	unknown     *UnknownSchemaError
}

func (v Validator) walk() *walk { return &walk{all: v.AllErrors, legacy: v.LegacyBlobs} }

// run checks v and completes the paths of its errors.
func (w *walk) run(n node, path string, v any) {
	from := len(w.errs)
	n.check(w, v)
	for _, e := range w.errs[from:] {
		e.rev = append(e.rev, path)
		slices.Reverse(e.rev)
		e.Path, e.rev = strings.Join(e.rev, "/"), nil
	}
}

func (w *walk) result() error {
	switch {
	case w.unknown != nil:
		return w.unknown
	case len(w.errs) == 0:
		return nil
	case w.all:
		return Errors(w.errs)
	}
	return w.errs[0]
}

// fail notes a fault of the value that is being checked. It returns false.
func (w *walk) fail(rule, reason string) bool { return w.failWith(rule, reason, nil) }

func (w *walk) failWith(rule, reason string, err error) bool {
	w.errs = append(w.errs, &Error{Rule: rule, Reason: reason, Err: err})
	return false
}

// done reports whether the walk need not go on after a fault.
func (w *walk) done() bool { return !w.all || w.unknown != nil || len(w.errs) >= maxErrors }

// below adds a path element to the errors from the given one on. It is called on the way up, so
// that a walk without faults keeps no path.
func (w *walk) below(from int, elem string) {
	for _, e := range w.errs[from:] {
		e.rev = append(e.rev, elem)
	}
}

func (w *walk) belowIndex(from, i int) { w.below(from, strconv.Itoa(i)) }

// missingNode stands for a definition that the catalog does not have.
type missingNode struct{ name string }

func (n missingNode) check(w *walk, _ any) bool {
	w.unknown = &UnknownSchemaError{Name: n.name}
	return false
}

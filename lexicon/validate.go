package lexicon

import (
	"slices"
	"strconv"
	"strings"

	"github.com/pdskit/pdskit/lexicon/syntax"
)

// Validator validates values with the schemas of a catalog. Its fields say how;
// methods of Catalog by similar names use one with none of them set.
//
// Every error is one of *Error or Errors (errors.Is ErrInvalid): the value does not conform;
// or *UnknownSchemaError (errors.Is ErrUnknownSchema): a document is missing, and so the value
// cannot be judged.
type Validator struct {
	Catalog *Catalog
	// AllErrors asks for all faults of a value, as Errors, instead of the
	// first one. At most 64 are reported.
	AllErrors bool
	// LegacyBlobs accepts references to blobs in their legacy form, which
	// old records have and new ones must not. They have no size to check.
	LegacyBlobs bool
}

const maxErrors = 64

// Record validates a record and its key: that the key is of the collection's key type,
// that "$type" is the collection, and all that the schema says.
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

// Input validates the decoded body of a request to a procedure. A procedure whose schema
// does not describe the body accepts any.
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

// Message validates a message of a subscription. What a union's "$type" says elsewhere, the
// header of the frame says here: typ is "#name" or a full name. Types that an open union does not
// list are accepted.
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

// Value validates a value against any definition, given by its full name.
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

// ValidateRecord is Validator.Record for the first error.
func (c *Catalog) ValidateRecord(collection syntax.NSID, rkey syntax.RecordKey, record any) error {
	return Validator{Catalog: c}.Record(collection, rkey, record)
}

// ValidateInput is Validator.Input for the first error.
func (c *Catalog) ValidateInput(method syntax.NSID, value any) error {
	return Validator{Catalog: c}.Input(method, value)
}

// ValidateOutput is Validator.Output for the first error.
func (c *Catalog) ValidateOutput(method syntax.NSID, value any) error {
	return Validator{Catalog: c}.Output(method, value)
}

// ValidateMessage is Validator.Message for the first error.
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

package lexicon

import (
	"errors"
	"strings"
)

var (
	// ErrInvalid is matched by all errors about a value that does not conform to its schema.
	ErrInvalid = errors.New("does not conform to its schema")
	// ErrUnknownSchema is matched by all errors about a value that cannot be validated because a
	// document is missing. See UnknownSchemaError.
	ErrUnknownSchema = errors.New("unknown schema")
	// ErrSchema is matched by all errors about a document that is not a valid Lexicon schema. See
	// SchemaError.
	ErrSchema = errors.New("not a valid lexicon schema")
)

// First parts of paths.
const (
	pathRecord  = "Record"
	pathKey     = "Record key"
	pathParams  = "Params"
	pathInput   = "Input"
	pathOutput  = "Output"
	pathMessage = "Message"
	pathValue   = "Value"
)

// Error describes a fault of a value. Its message is meant for the sender of the value.
type Error struct {
	// Schema is the collection of a record, otherwise empty.
	Schema string
	// Path is the path to the value: what was validated, then property names and indexes, such as
	// "Record/embed/images/0/alt". It begins with Record, "Record key", Params, Input, Output,
	// Message or Value.
	Path string
	// Rule is the schema keyword that the value violates ("maxLength", "format", "required", …),
	// "type" for a value of another type, "$type", or "key".
	Rule   string
	Reason string // continues the path to a sentence: "must be …"
	Err    error  // of the string format or record key; else nil

	rev []string // the path, backwards, while the walk goes up
}

func (e *Error) Error() string {
	msg := cut(e.Path, 256) + " " + e.Reason
	if e.Err != nil {
		msg += ": " + e.Err.Error()
	}
	switch {
	case e.Schema == "":
		return msg
	case e.Path == pathKey:
		return "Invalid record key for " + e.Schema + ": " + msg
	}
	return "Invalid " + e.Schema + " record: " + msg
}

// Is reports true for ErrInvalid.
func (e *Error) Is(target error) bool { return target == ErrInvalid }

// Unwrap returns e.Err.
func (e *Error) Unwrap() error { return e.Err }

// Errors has all faults of a value: see Validator.AllErrors.
type Errors []*Error

func (e Errors) Error() string {
	list := make([]string, len(e))
	for i, err := range e {
		list[i] = err.Error()
	}
	return strings.Join(list, "\n")
}

// Unwrap returns the errors.
func (e Errors) Unwrap() []error {
	list := make([]error, len(e))
	for i, err := range e {
		list[i] = err
	}
	return list
}

// UnknownSchemaError names a missing definition.
type UnknownSchemaError struct {
	Name string // full name: "com.example.thing" or "com.example.defs#view"
	Want string // its type, if that is known: "record", "query, procedure or subscription", …
}

func (e *UnknownSchemaError) Error() string {
	want := e.Want
	if want == "" {
		want = "definition"
	}
	return "Unknown lexicon type: there is no schema of a " + want + " named " + e.Name
}

// Is reports true for ErrUnknownSchema.
func (e *UnknownSchemaError) Is(target error) bool { return target == ErrUnknownSchema }

// SchemaError describes a fault of a document.
type SchemaError struct {
	ID     string // of the document, if it could be read
	Path   string // such as "defs/main/record/properties/text/maxLength"; empty: the whole
	Reason string
	Err    error // what it wraps, or nil
}

func (e *SchemaError) Error() string {
	msg := "lexicon"
	if e.ID != "" {
		msg += " " + e.ID
	}
	if e.Path != "" {
		msg += ": " + cut(e.Path, 256)
	}
	msg += ": " + e.Reason
	if e.Err != nil {
		msg += ": " + e.Err.Error()
	}
	return msg
}

// Is reports true for ErrSchema.
func (e *SchemaError) Is(target error) bool { return target == ErrSchema }

// Unwrap returns e.Err.
func (e *SchemaError) Unwrap() error { return e.Err }

// quote quotes text for messages, cut to a length that a log can bear.
func quote(s string) string { return `"` + cut(s, 80) + `"` }

func cut(s string, most int) string {
	if len(s) > most {
		return strings.ToValidUTF8(s[:most], "") + "…"
	}
	return s
}

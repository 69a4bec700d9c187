package data

import (
	"fmt"

	"github.com/fxamacker/cbor/v2"

	"github.com/pdskit/pdskit/internal/exactjson"
)

// Codec options of fxamacker/cbor that come closest to DAG-CBOR. What they let
// through is caught by our scanner.
var encMode, decMode = func() (cbor.EncMode, cbor.DecMode) {
	enc, err := cbor.EncOptions{
		Sort: cbor.SortLengthFirst, NaNConvert: cbor.NaNConvertReject, InfConvert: cbor.InfConvertReject,
		BigIntConvert: cbor.BigIntConvertReject, IndefLength: cbor.IndefLengthForbidden, Time: cbor.TimeRFC3339Nano,
		NilContainers: cbor.NilContainerAsEmpty,
	}.EncMode()
	if err != nil {
		panic(err) // the options are constant
	}
	dec, err := cbor.DecOptions{
		DupMapKey: cbor.DupMapKeyEnforcedAPF, IndefLength: cbor.IndefLengthForbidden,
		IntDec: cbor.IntDecConvertSignedOrFail, MaxNestedLevels: 256, FieldNameMatching: cbor.FieldNameMatchingCaseSensitive,
	}.DecMode()
	if err != nil {
		panic(err)
	}
	return enc, dec
}()

// Marshal returns the canonical DAG-CBOR of a Go value: structs with cbor or json tags, Link for
// links, []byte or Bytes for bytes. A nil slice becomes an empty array, a nil map an empty object.
// Values outside of the data model, such as floats, are errors.
func Marshal(v any) ([]byte, error) {
	b, err := encMode.Marshal(v)
	if err != nil {
		return nil, &Error{Offset: -1, Err: fmt.Errorf("%w: %w", ErrValue, err)}
	}
	return b, Valid(b, Limits{})
}

// Unmarshal reads canonical DAG-CBOR into a Go value. It compares names exactly, and ignores
// members without a field.
func Unmarshal(b []byte, v any) error {
	if err := Valid(b, Limits{}); err != nil {
		return err
	}
	if err := decMode.Unmarshal(b, v); err != nil {
		return &Error{Offset: -1, Err: err}
	}
	return nil
}

// MarshalJSON returns the JSON of a Go value as json.Marshal does, except that a nil slice becomes an
// empty array and a nil map an empty object. The value is not changed.
func MarshalJSON(v any) ([]byte, error) { return exactjson.Marshal(v) }

// UnmarshalJSON reads JSON into a Go value. Unlike encoding/json, it compares names exactly, and
// refuses duplicate names in an object and text that is not Unicode. Members without a field are
// ignored. It does not check that the JSON is of the data model; types such as Link, Blob and
// Object check their own part.
func UnmarshalJSON(b []byte, v any) error { return exactjson.Unmarshal(b, v) }

// UnmarshalPlainJSON is [UnmarshalJSON] for JSON that never becomes CBOR, such as preferences and
// the views of an AppView. It accepts escapes of lone surrogates, which JavaScript writes for text
// that was cut in the middle of a character; a json.RawMessage keeps them.
func UnmarshalPlainJSON(b []byte, v any) error { return exactjson.UnmarshalPlain(b, v) }

func notValue(v any) error { return fmt.Errorf("%w: %T", ErrValue, v) }

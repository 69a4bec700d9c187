package data

import (
	"bytes"
	"encoding/json"
	"math"
	"strconv"

	"github.com/pdskit/pdskit/internal/exactjson"
)

// PlainJSON reads JSON that never becomes CBOR, such as preferences: numbers may have fractions and
// any size. The value is for validation, not for storage: a number is an int64 if that holds it
// exactly, else the nearest float64; objects that represent links or bytes in the data model stay
// objects. Duplicate names in an object are refused. The caller bounds the length.
func PlainJSON(b []byte) (any, error) {
	if err := exactjson.CheckPlain(b); err != nil {
		return nil, err
	}
	d := json.NewDecoder(bytes.NewReader(b))
	d.UseNumber()
	var v any
	if err := d.Decode(&v); err != nil {
		return nil, err
	}
	return plainValue(v), nil
}

// plainValue replaces the numbers of a value.
func plainValue(v any) any {
	switch v := v.(type) {
	case json.Number:
		return plainNumber(string(v))
	case []any:
		for i := range v {
			v[i] = plainValue(v[i])
		}
	case map[string]any:
		for name := range v {
			v[name] = plainValue(v[name])
		}
	}
	return v
}

// plainNumber reads a JSON number.
func plainNumber(s string) any {
	if n, err := strconv.ParseInt(s, 10, 64); err == nil {
		return n
	}
	f, _ := strconv.ParseFloat(s, 64) // one out of range is infinite
	if f == math.Trunc(f) && math.Abs(f) <= maxSafeInt {
		return int64(f) // 1.0, 1e3
	}
	return f
}

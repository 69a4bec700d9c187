// Package cbor writes and reads the canonical CBOR of the AT Protocol (DAG-CBOR, "DRISL"), for code
// that knows the shape of its data: tree nodes, commits, CAR headers, event frames.
//
// There is one encoding for every value: integers and lengths in their shortest form, definite
// lengths only, map keys are strings sorted by length and then bytes, the only tag is 42 (a CID),
// the only simple values are false, true and null, and there are no floats. Readers refuse
// everything else, so writing a value again gives the bytes that it was read from.
package cbor

import "encoding/binary"

// Major types.
const (
	MajorUint   = 0
	MajorNegint = 1
	MajorBytes  = 2
	MajorText   = 3
	MajorArray  = 4
	MajorMap    = 5
	MajorTag    = 6
	MajorSimple = 7
)

const (
	byteFalse = 0xf4
	byteTrue  = 0xf5
	byteNull  = 0xf6
	tagCID    = 42
)

// AppendHead appends the head of an item: its major type and argument.
func AppendHead(b []byte, major byte, n uint64) []byte {
	major <<= 5
	switch {
	case n < 24:
		return append(b, major|byte(n))
	case n <= 0xff:
		return append(b, major|24, byte(n))
	case n <= 0xffff:
		return append(b, major|25, byte(n>>8), byte(n))
	case n <= 0xffffffff:
		return binary.BigEndian.AppendUint32(append(b, major|26), uint32(n))
	default:
		return binary.BigEndian.AppendUint64(append(b, major|27), n)
	}
}

// AppendUint appends an unsigned integer.
func AppendUint(b []byte, n uint64) []byte { return AppendHead(b, MajorUint, n) }

// AppendInt appends an integer.
func AppendInt(b []byte, n int64) []byte {
	if n < 0 {
		return AppendHead(b, MajorNegint, uint64(-(n + 1)))
	}
	return AppendHead(b, MajorUint, uint64(n))
}

// AppendBytes appends a byte string.
func AppendBytes(b, v []byte) []byte {
	return append(AppendHead(b, MajorBytes, uint64(len(v))), v...)
}

// AppendText appends a text string.
func AppendText(b []byte, s string) []byte {
	return append(AppendHead(b, MajorText, uint64(len(s))), s...)
}

// AppendArray appends the head of an array of n items.
func AppendArray(b []byte, n int) []byte { return AppendHead(b, MajorArray, uint64(n)) }

// AppendMap appends the head of a map of n pairs, whose keys the caller appends
// in canonical order.
func AppendMap(b []byte, n int) []byte { return AppendHead(b, MajorMap, uint64(n)) }

// AppendBool appends a boolean.
func AppendBool(b []byte, v bool) []byte {
	if v {
		return append(b, byteTrue)
	}
	return append(b, byteFalse)
}

// AppendNull appends null.
func AppendNull(b []byte) []byte { return append(b, byteNull) }

// AppendLink appends a CID, given in binary form.
func AppendLink(b []byte, cid string) []byte {
	b = AppendHead(b, MajorTag, tagCID)
	b = AppendHead(b, MajorBytes, uint64(len(cid)+1))
	return append(append(b, 0), cid...)
}

// CompareKeys orders map keys: by length, then bytes.
func CompareKeys(a, b string) int {
	switch {
	case len(a) != len(b):
		return len(a) - len(b)
	case a < b:
		return -1
	case a > b:
		return 1
	}
	return 0
}

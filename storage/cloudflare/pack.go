package cloudflare

import (
	"encoding/binary"
	"errors"
)

// What crosses to JavaScript and back in one piece. Lengths have four bytes, little-endian.

// Kinds of writes.
const (
	opDelete byte = iota // from a key to another one, which is empty where there is no bound
	opSet
)

// appendOp appends a write: its kind, the lengths of two strings, and the strings.
func appendOp[V string | []byte](b []byte, kind byte, key string, value V) []byte {
	b = append(b, kind)
	b = binary.LittleEndian.AppendUint32(b, uint32(len(key)))
	b = binary.LittleEndian.AppendUint32(b, uint32(len(value)))
	b = append(b, key...)
	return append(b, value...)
}

// appendFrame appends a frame behind its length.
func appendFrame(b, frame []byte) []byte {
	b = binary.LittleEndian.AppendUint32(b, uint32(len(frame)))
	return append(b, frame...)
}

var errPage = errors.New("cloudflare: malformed page")

// nextPair takes the first pair from a page. Key and value are part of it.
func nextPair(page []byte) (key, value, rest []byte, err error) {
	if len(page) < 8 {
		return nil, nil, nil, errPage
	}
	k := uint64(binary.LittleEndian.Uint32(page))
	v := uint64(binary.LittleEndian.Uint32(page[4:]))
	page = page[8:]
	if k+v > uint64(len(page)) {
		return nil, nil, nil, errPage
	}
	return page[:k], page[k : k+v], page[k+v:], nil
}

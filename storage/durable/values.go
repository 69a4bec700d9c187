package durable

import (
	"encoding/binary"
	"errors"
	"fmt"

	"github.com/pdskit/pdskit/storage"
)

// values is an Object that takes values of any length.
//
// A value of at least MaxValue bytes is cut into pieces of MaxValue bytes. The first is in the
// value's row, and the others are in rows of their own, which are not among the other keys. A piece
// that has MaxValue bytes is followed by another one, which may be empty; so a row says by its
// length whether there is more, and short values cost nothing.
//
//	KEY            1,900,000 bytes
//	\x00mKEY' 0    1,900,000 bytes    KEY' is the key in an encoding that keeps the order
//	\x00mKEY' 1    the rest
type values struct {
	Object
	// pieces is whether there may be rows of pieces: then what is written over or deleted may have
	// some.
	pieces bool
}

// pieceKey is what the keys of all pieces of a value begin with. They are in the order of the
// values' keys, and those of two keys have no common beginning.
func pieceKey(key string) string {
	return keyPiece + ordered(key)
}

// get reads a whole value, or returns storage.ErrNotFound.
func (v *values) get(key string) ([]byte, error) {
	b, err := v.Get(key)
	if err != nil || len(b) != MaxValue {
		return b, err
	}
	return v.joinPieces(key, b)
}

// joinPieces adds the other pieces of a value to its first one.
func (v *values) joinPieces(key string, b []byte) ([]byte, error) {
	from := pieceKey(key)
	n, last := 0, MaxValue
	err := v.Scan(Scan{From: from, To: from + "\xff"}, func(key string, piece []byte) bool {
		if last != MaxValue || key != from+pieceName(n) {
			last = -1
			return false
		}
		n, last = n+1, len(piece)
		b = append(b, piece...)
		return true
	})
	if err == nil && (last < 0 || last >= MaxValue) {
		err = corrupt(fmt.Sprintf("value of %q", key), errors.New("pieces are missing"))
	}
	if err != nil {
		return nil, err
	}
	return b, nil
}

func pieceName(n int) string {
	return string(binary.BigEndian.AppendUint32(nil, uint32(n)))
}

// set stores a value.
func (v *values) set(key string, value []byte) error {
	if v.pieces {
		if err := v.Delete(pieceKey(key), pieceKey(key)+"\xff"); err != nil {
			return err
		}
	}
	if len(value) < MaxValue {
		return v.Set(key, value)
	}
	v.pieces = true
	if err := v.Set(key, value[:MaxValue]); err != nil {
		return err
	}
	value = value[MaxValue:]
	for n := 0; ; n++ {
		piece := value[:min(len(value), MaxValue)]
		if err := v.Set(pieceKey(key)+pieceName(n), piece); err != nil {
			return err
		}
		if value = value[len(piece):]; len(piece) < MaxValue {
			return nil
		}
	}
}

// delete removes a range of keys.
func (v *values) delete(from, to string) error {
	if v.pieces {
		last := keyPieceEnd
		if to != "" {
			last = pieceKey(to)
		}
		if err := v.Delete(pieceKey(from), last); err != nil {
			return err
		}
	}
	return v.Delete(from, to)
}

// pair is a key with its value.
type pair struct {
	key   string
	value []byte
}

// pairs returns pairs of a range, until it has read enough bytes (0: all). more is the last key
// that it looked at, or empty at the end of the range. Pairs for which skip, if not nil, returns
// true are left out.
func (v *values) pairs(s Scan, enough int, skip func(key string) bool) (list []pair, more string, err error) {
	n, read := 0, 0
	err = v.Scan(s, func(key string, value []byte) bool {
		if enough > 0 && read > enough {
			return false
		}
		n++
		more = key
		if skip == nil || !skip(key) {
			list = append(list, pair{key, append([]byte{}, value...)})
			read += len(value)
		}
		return true
	})
	if (s.Rows == 0 || n < s.Rows) && (enough == 0 || read <= enough) {
		more = ""
	}
	for i := 0; err == nil && i < len(list); i++ {
		if p := &list[i]; len(p.value) == MaxValue && s.MaxValue != MaxValue {
			p.value, err = v.joinPieces(p.key, p.value)
		}
	}
	if err != nil {
		return nil, "", err
	}
	return list, more, nil
}

// any reports whether there is a key that begins with a prefix.
func (v *values) any(prefix string) (found bool, err error) {
	err = v.Scan(Scan{From: prefix, To: storage.Prefix(prefix).To, Rows: 1, MaxValue: KeysOnly}, func(string, []byte) bool {
		found = true
		return false
	})
	return found, err
}

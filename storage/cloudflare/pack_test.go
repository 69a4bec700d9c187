package cloudflare

import (
	"bytes"
	"encoding/binary"
	"testing"
)

// A page that the other side has made wrong gives an error, and whatever is taken from it is part of it.
func FuzzNextPair(f *testing.F) {
	f.Add([]byte{})
	f.Add([]byte{1, 0, 0, 0, 1, 0, 0, 0, 'k', 'v'})
	f.Add([]byte{255, 255, 255, 255, 255, 255, 255, 255, 'k'})
	f.Add([]byte{0, 0, 0, 0, 0, 0, 0, 0})
	f.Fuzz(func(t *testing.T, page []byte) {
		for rest := page; len(rest) > 0; {
			before := rest
			key, value, after, err := nextPair(rest)
			if err != nil {
				return
			}
			again := binary.LittleEndian.AppendUint32(nil, uint32(len(key)))
			again = binary.LittleEndian.AppendUint32(again, uint32(len(value)))
			again = append(append(append(again, key...), value...), after...)
			if !bytes.Equal(again, before) {
				t.Fatalf("%x is read as %x and %x before %x", before, key, value, after)
			}
			rest = after
		}
	})
}

func TestAppendOp(t *testing.T) {
	got := appendOp(nil, opSet, "key", []byte("value"))
	want := append([]byte{opSet, 3, 0, 0, 0, 5, 0, 0, 0}, "keyvalue"...)
	if !bytes.Equal(got, want) {
		t.Errorf("%x, want %x", got, want)
	}
	if got := appendOp(got, opDelete, "a", "")[len(want):]; !bytes.Equal(got, []byte{opDelete, 1, 0, 0, 0, 0, 0, 0, 0, 'a'}) {
		t.Errorf("%x", got)
	}
}

package varint

import (
	"bytes"
	"errors"
	"io"
	"testing"
)

func TestRefused(t *testing.T) {
	for in, want := range map[string]error{
		"":         io.EOF,
		"\x80":     io.ErrUnexpectedEOF,
		"\x80\x00": ErrNonMinimal,
		"\xff\xff\xff\xff\xff\xff\xff\xff\xff\x01": ErrOverflow,
	} {
		if _, _, err := Decode([]byte(in)); !errors.Is(err, want) {
			t.Errorf("%x: %v, want %v", in, err, want)
		}
	}
}

func TestRoundTrip(t *testing.T) {
	for shift := range 63 {
		for _, n := range []uint64{1 << shift, 1<<shift - 1, 1<<shift + 1} {
			b := Append([]byte{9}, n)
			got, size, err := Decode(append(b[1:], 0xff))
			if got != n || size != len(b)-1 || err != nil || size > MaxLen {
				t.Errorf("%d came back as %d of %d bytes, %v", n, got, size, err)
			}
		}
	}
}

func FuzzDecode(f *testing.F) {
	f.Add([]byte{0})
	f.Add([]byte{0xac, 2})
	f.Fuzz(func(t *testing.T, in []byte) {
		n, size, err := Decode(in)
		if err != nil {
			return
		}
		if out := Append(nil, n); !bytes.Equal(out, in[:size]) {
			t.Errorf("%x is %d, which is %x", in, n, out)
		}
	})
}

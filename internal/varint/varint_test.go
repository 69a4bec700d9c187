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
		if _, err := Read(bytes.NewReader([]byte(in))); !errors.Is(err, want) {
			t.Errorf("%x: %v, want %v", in, err, want)
		}
	}
}

func FuzzRead(f *testing.F) {
	f.Add([]byte{0})
	f.Add([]byte{0xac, 2})
	f.Fuzz(func(t *testing.T, in []byte) {
		r := bytes.NewReader(in)
		n, err := Read(r)
		if err != nil {
			return
		}
		if out := Append(nil, n); !bytes.Equal(out, in[:len(in)-r.Len()]) {
			t.Errorf("%x is %d, which is %x", in, n, out)
		}
	})
}

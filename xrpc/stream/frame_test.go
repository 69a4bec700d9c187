package stream

import (
	"bytes"
	"encoding/hex"
	"errors"
	"fmt"
	"slices"
	"strings"
	"testing"

	"github.com/google/go-cmp/cmp"

	"github.com/pdskit/pdskit/internal/cbor"
	"github.com/pdskit/pdskit/storage"
)

// object encodes a map of texts and integers, in the order given. The value of a
// nil is for the caller to append.
func object(pairs ...any) []byte {
	b := cbor.AppendMap(nil, len(pairs)/2)
	for i := 0; i < len(pairs); i += 2 {
		b = cbor.AppendText(b, pairs[i].(string))
		switch v := pairs[i+1].(type) {
		case string:
			b = cbor.AppendText(b, v)
		case int:
			b = cbor.AppendInt(b, int64(v))
		}
	}
	return b
}

func join(parts ...[]byte) []byte { return bytes.Join(parts, nil) }

func TestDecode(t *testing.T) {
	message := object("t", "#commit", "op", 1)
	for what, tc := range map[string]struct {
		frame []byte
		want  Frame
		err   error
	}{
		"a message":                    {join(message, object("seq", 7)), Frame{"#commit", 7, object("seq", 7)}, nil},
		"a message without a number":   {join(object("t", "#info", "op", 1), object("name", "x")), Frame{"#info", 0, object("name", "x")}, nil},
		"an unknown kind":              {join(object("t", "#new", "op", 1), object()), Frame{"#new", 0, object()}, nil},
		"unknown fields":               {join(object("t", "#a", "op", 1, "new", 2), object("new", "y", "seq", 3)), Frame{"#a", 3, object("new", "y", "seq", 3)}, nil},
		"an unknown operation":         {join(object("t", "#a", "op", 2), object("seq", 3)), Frame{}, ErrUnknownOp},
		"an unknown negative one":      {join(object("op", -2), object("seq", 3)), Frame{}, ErrUnknownOp},
		"an error":                     {join(object("op", -1), object("error", "FutureCursor", "message", "m")), Frame{}, &Error{Name: "FutureCursor"}},
		"an error without a message":   {join(object("op", -1), object("error", "FutureCursor")), Frame{}, &Error{Name: "FutureCursor"}},
		"an error with a null message": {join(object("op", -1), object("error", "FutureCursor", "message", nil), cbor.AppendNull(nil)), Frame{}, &Error{Name: "FutureCursor"}},
		"an error without a name":      {join(object("op", -1), object("message", "m")), Frame{}, ErrFrame},
		"nothing":                      {nil, Frame{}, ErrFrame},
		"no payload":                   {message, Frame{}, ErrFrame},
		"half a payload":               {join(message, object("seq", 7)[:3]), Frame{}, ErrFrame},
		"two payloads":                 {join(message, object("seq", 7), object("seq", 8)), Frame{}, ErrFrame},
		"no operation":                 {join(object("t", "#a"), object("seq", 7)), Frame{}, ErrFrame},
		"no kind":                      {join(object("op", 1), object("seq", 7)), Frame{}, ErrFrame},
		"an empty kind":                {join(object("t", "", "op", 1), object("seq", 7)), Frame{}, ErrFrame},
		"a kind that is a number":      {join(object("t", 5, "op", 1), object("seq", 7)), Frame{}, ErrFrame},
		"a header out of order":        {join(object("op", 1, "t", "#a"), object("seq", 7)), Frame{}, ErrFrame},
		"a header that is a list":      {join([]byte{0x80}, object("seq", 7)), Frame{}, ErrFrame},
		"a header that is endless":     {join(object("t", strings.Repeat("x", 2000), "op", 1), object("seq", 7)), Frame{}, ErrFrame},
		"a payload that is a list":     {join(message, []byte{0x80}), Frame{}, ErrFrame},
		"a payload that is a number":   {join(message, []byte{0x07}), Frame{}, ErrFrame},
		"a number that is text":        {join(message, object("seq", "7")), Frame{}, ErrFrame},
		"the number 0":                 {join(message, object("seq", 0)), Frame{}, ErrFrame},
		"a negative number":            {join(message, object("seq", -7)), Frame{}, ErrFrame},
		"a number beyond 64 bits":      {join(message, object("seq", nil), []byte{0x1b, 0xff, 0xff, 0xff, 0xff, 0xff, 0xff, 0xff, 0xff}), Frame{}, ErrFrame},
		"a number, not its shortest":   {join(message, object("seq", nil), []byte{0x18, 0x07}), Frame{}, ErrFrame},
		"a float":                      {join(message, object("seq", nil), []byte{0xfb, 0, 0, 0, 0, 0, 0, 0, 0}), Frame{}, ErrFrame},
		"a key twice":                  {join(message, object("seq", 7, "seq", 8)), Frame{}, ErrFrame},
		"an indefinite length":         {join(message, []byte{0xbf, 0xff}), Frame{}, ErrFrame},
		"nested without end":           {join(message, object("a", nil), bytes.Repeat([]byte{0x81}, 1000), []byte{0x80}), Frame{}, ErrFrame},
	} {
		got, err := Decode(tc.frame)
		if !errors.Is(err, tc.err) || (err == nil) != (tc.err == nil) {
			t.Errorf("%s: got the error %v, want %v", what, err, tc.err)
		}
		if diff := cmp.Diff(tc.want, got); diff != "" {
			t.Errorf("%s (-want +got):\n%s", what, diff)
		}
	}
}

// The bytes of frames, as the specification has them.
func TestEncode(t *testing.T) {
	for want, got := range map[string][]byte{
		"a261746723636f6d6d6974626f7001" + "a163736571" + "07":                                    Frame{Kind: "#commit", Payload: object("seq", 7)}.Encode(),
		"a1626f7020" + "a2656572726f7261" + "61" + "676d657373616765" + "6162":                    (&Error{"a", "b"}).Encode(),
		"a261746523696e666f626f7001" + "a2646e616d65" + "61" + "61" + "676d657373616765" + "6162": infoFrame("a", "b").Encode(),
	} {
		if hex.EncodeToString(got) != want {
			t.Errorf("got  %x\nwant %s", got, want)
		}
	}
	for _, e := range []*Error{ErrFutureCursor, ErrConsumerTooSlow, {"X", ""}} {
		var serr *Error
		if _, err := Decode(e.Encode()); !errors.As(err, &serr) || *serr != *e {
			t.Errorf("%v became %v", e, err)
		}
	}
}

func TestEncodeEvent(t *testing.T) {
	for what, tc := range map[string]struct{ payload, want []byte }{
		"nothing else":         {object(), object("seq", 7)},
		"shorter keys":         {object("a", 1, "rev", "x"), object("a", 1, "rev", "x", "seq", 7)},
		"longer keys":          {object("repo", "x"), object("seq", 7, "repo", "x")},
		"both":                 {object("rev", "x", "sez", 1, "repo", "y"), object("rev", "x", "seq", 7, "sez", 1, "repo", "y")},
		"with a number":        {object("seq", 3), nil},
		"with a number, later": {object("sez", 1, "seq", 3), nil},
		"no map":               {[]byte{0x80}, nil},
		"half":                 {object("repo", "x")[:4], nil},
		"more":                 {join(object(), object()), nil},
		"empty":                {nil, nil},
	} {
		got, err := EncodeEvent(storage.Event{Seq: 7, Kind: "#x", Payload: tc.payload})
		if tc.want == nil {
			if !errors.Is(err, storage.ErrCorrupt) {
				t.Errorf("%s: got the error %v", what, err)
			}
			continue
		}
		if want := (Frame{Kind: "#x", Payload: tc.want}).Encode(); err != nil || !bytes.Equal(got, want) {
			t.Errorf("%s: got %x, want %x (%v)", what, got, want, err)
		}
	}
}

// What decodes encodes to the same bytes, but for header fields that nobody knows.
func FuzzDecode(f *testing.F) {
	f.Add(join(object("t", "#commit", "op", 1), object("seq", 7)))
	f.Add(join(object("t", "#a", "op", 1, "new", 2), object("new", "y", "seq", 3)))
	f.Add(join(object("op", -1), object("error", "X", "message", "m")))
	f.Add(join(object("op", 2), object()))
	f.Fuzz(func(t *testing.T, b []byte) {
		frame, err := Decode(b)
		var serr *Error
		if errors.As(err, &serr) {
			if _, again := Decode(serr.Encode()); !errors.Is(again, serr) {
				t.Fatalf("%v became %v", serr, again)
			}
			return
		}
		if err != nil {
			if !errors.Is(err, ErrFrame) && !errors.Is(err, ErrUnknownOp) {
				t.Fatal(err)
			}
			return
		}
		enc := frame.Encode()
		again, err := Decode(enc)
		if err != nil || !cmp.Equal(again, frame) {
			t.Fatalf("%v became %v, %v", frame, again, err)
		}
		if n := len(b) - len(frame.Payload); b[0] == 0xa2 && !bytes.Equal(enc, b) {
			t.Fatalf("header %x became %x", b[:n], enc)
		}
	})
}

// An event's frame is canonical, and without its number it is the event again.
func FuzzEncodeEvent(f *testing.F) {
	f.Add(object("rev", "x", "sez", 1, "repo", "y"), int64(7))
	f.Add(object("seq", 3), int64(1<<53))
	f.Fuzz(func(t *testing.T, payload []byte, seq int64) {
		if cbor.Scan(payload, cbor.Limits{}) != nil || seq < 1 {
			return
		}
		b, err := EncodeEvent(storage.Event{Seq: seq, Kind: "#x", Payload: payload})
		if err != nil {
			if !errors.Is(err, storage.ErrCorrupt) {
				t.Fatal(err)
			}
			return
		}
		frame, err := Decode(b)
		if err != nil || frame.Seq != seq || frame.Kind != "#x" {
			t.Fatalf("%x: %v %v", b, frame, err)
		}
		if diff := cmp.Diff(pairs(t, payload), pairs(t, frame.Payload, "seq")); diff != "" {
			t.Fatal(diff)
		}
	})
}

// pairs lists what a map holds, leaving out some keys.
func pairs(t *testing.T, b []byte, without ...string) (list []string) {
	if err := eachKey(b, func(key string, r *cbor.Reader) error {
		value, err := r.Raw(cbor.Limits{})
		if !slices.Contains(without, key) {
			list = append(list, fmt.Sprintf("%q: %x", key, value))
		}
		return err
	}); err != nil {
		t.Fatal(err)
	}
	return list
}

package data_test

import (
	"bytes"
	"errors"
	"strings"
	"testing"

	"github.com/pdskit/pdskit/lexicon/data"
)

// pieceWriter keeps what is written, and the length of the longest piece.
type pieceWriter struct {
	bytes.Buffer
	longest int
	left    int // writes before it fails; negative: never
}

var errGone = errors.New("gone")

func (w *pieceWriter) Write(b []byte) (int, error) {
	if w.left == 0 {
		return 0, errGone
	}
	w.left--
	w.longest = max(w.longest, len(b))
	return w.Buffer.Write(b)
}

// Values whose JSON is much longer than their DAG-CBOR come out in small pieces, the same as at
// once.
func TestWriteJSONInPieces(t *testing.T) {
	link := data.Link{Cid: data.CID([]byte{1})}
	many := make(map[string]any)
	for i := range 3000 {
		many[strings.Repeat("k", i%50)+string(rune('a'+i%26))+strings.Repeat("v", i/100)] = int64(i)
	}
	list := make([]any, 20_000)
	for i := range list {
		list[i] = []any{map[string]any{"a": link}, int64(-i), nil, true}
	}
	for name, v := range map[string]any{
		"nothing":            map[string]any{},
		"control characters": map[string]any{"t": strings.Repeat("\x00", 900_000)},
		"quotes":             map[string]any{"t": strings.Repeat(`"\`, 450_000), "u": "short"},
		"characters of four bytes, not on the pieces' borders": map[string]any{"t": "x" + strings.Repeat("😀", 100_000)},
		"bytes of every remainder":                             map[string]any{"a": data.Bytes(strings.Repeat("\xff", 90_000)), "b": data.Bytes(strings.Repeat("\xfe", 90_001)), "c": data.Bytes(strings.Repeat("\xfd", 90_002))},
		"a long key":                                           map[string]any{strings.Repeat("\x01", 100_000): int64(1)},
		"many short keys":                                      many,
		"many links":                                           map[string]any{"list": list},
		"deep":                                                 map[string]any{"a": []any{map[string]any{"b": []any{strings.Repeat("\n", 50_000), strings.Repeat("y", 50_000)}}}},
	} {
		enc, err := data.Encode(v)
		if err != nil {
			t.Fatal(name, err)
		}
		want, err := data.AppendJSON(nil, enc)
		if err != nil {
			t.Fatal(name, err)
		}
		w := pieceWriter{left: -1}
		if err := data.WriteJSON(&w, enc); err != nil || !bytes.Equal(w.Bytes(), want) {
			t.Errorf("%s: %d bytes, want %d: %v", name, w.Len(), len(want), err)
		}
		if w.longest > 64<<10 {
			t.Errorf("%s: %d bytes at once", name, w.longest)
		}
		if len(want) > 128<<10 {
			if err := data.WriteJSON(&pieceWriter{left: 1}, enc); !errors.Is(err, errGone) {
				t.Errorf("%s: a writer that fails: %v", name, err)
			}
		}
	}
	w := pieceWriter{left: -1}
	if err := data.WriteJSON(&w, []byte("\xa1\x61a\xff")); err == nil || w.Len() > 0 {
		t.Errorf("an invalid value: %d bytes, %v", w.Len(), err)
	}
}

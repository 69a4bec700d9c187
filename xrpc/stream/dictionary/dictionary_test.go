package dictionary_test

import (
	"bytes"
	"errors"
	"fmt"
	"math/rand/v2"
	"sync"
	"testing"

	"github.com/klauspost/compress/zstd"

	"github.com/pdskit/pdskit/xrpc/stream"
	"github.com/pdskit/pdskit/xrpc/stream/dictionary"
)

var _ stream.Compressor = (*dictionary.Dictionary)(nil)

// samples are messages such as a view sends.
func samples(n int) (list [][]byte) {
	rnd := rand.New(rand.NewPCG(1, 2))
	words := []string{"blue", "sky", "river", "of", "the", "and", "walks", "tomorrow", "hello", "world", "paints", "quietly"}
	for i := range n {
		text := ""
		for range 4 + rnd.IntN(20) {
			text += words[rnd.IntN(len(words))] + " "
		}
		list = append(list, fmt.Appendf(nil,
			`{"did":"did:plc:%024x","time_us":%d,"kind":"commit","commit":{"rev":"3k%011x","operation":"create","collection":"app.bsky.feed.post","rkey":"3k%011x","record":{"$type":"app.bsky.feed.post","createdAt":"2026-01-02T03:04:%02d.000Z","langs":["en"],"text":%q},"cid":"bafyrei%032x"}}`,
			rnd.Uint64(), 1_700_000_000_000_000+i, rnd.Uint32(), rnd.Uint32(), i%60, text, rnd.Uint64()))
	}
	return list
}

var trained = sync.OnceValues(func() ([]byte, error) { return dictionary.Train(32768, samples(2000), 16<<10) })

func decode(t *testing.T, frame []byte, opts ...zstd.DOption) []byte {
	t.Helper()
	r, err := zstd.NewReader(nil, append(opts, zstd.WithDecoderMaxWindow(128<<10))...)
	if err != nil {
		t.Fatal(err)
	}
	defer r.Close()
	b, err := r.DecodeAll(frame, nil)
	if err != nil {
		t.Fatal(err)
	}
	return b
}

// A trained dictionary is one, and makes messages that it has not seen much shorter.
func TestTrain(t *testing.T) {
	raw, err := trained()
	if err != nil {
		t.Fatal(err)
	}
	d, err := dictionary.Parse(raw)
	if err != nil {
		t.Fatal(err)
	}
	if d.ID() != 32768 || !bytes.Equal(d.Bytes(), raw) {
		t.Errorf("number %d", d.ID())
	}
	all, packed, plain := 0, 0, 0
	for _, m := range samples(2200)[2000:] {
		frame := d.AppendFrame(nil, m)
		if got := decode(t, frame, zstd.WithDecoderDicts(raw)); !bytes.Equal(got, m) {
			t.Fatalf("%q, not %q", got, m)
		}
		var h zstd.Header
		if err := h.Decode(frame); err != nil || h.DictionaryID != 32768 {
			t.Fatalf("the frame names dictionary %d: %v", h.DictionaryID, err)
		}
		all, packed, plain = all+len(m), packed+len(frame), plain+len(dictionary.Plain().AppendFrame(nil, m))
	}
	t.Logf("%d bytes, %d without a dictionary, %d with it", all, plain, packed)
	if packed*2 > all || packed >= plain {
		t.Errorf("%d bytes take %d with a dictionary, %d without", all, packed, plain)
	}
}

// Frames without a dictionary are read by those who have one.
func TestPlainIsReadWithAnyDictionary(t *testing.T) {
	raw, err := trained()
	if err != nil {
		t.Fatal(err)
	}
	d := dictionary.Plain()
	if d.ID() != 0 || d.Bytes() != nil {
		t.Errorf("number %d, %d bytes", d.ID(), len(d.Bytes()))
	}
	for _, m := range [][]byte{{}, []byte("x"), bytes.Repeat([]byte("abc"), 200_000)} {
		frame := d.AppendFrame([]byte("before"), m)[len("before"):]
		if got := decode(t, frame, zstd.WithDecoderDicts(raw)); !bytes.Equal(got, m) {
			t.Errorf("%d bytes became %d", len(m), len(got))
		}
	}
}

// A frame is never more than a few bytes longer than its message.
func TestNoiseDoesNotGrow(t *testing.T) {
	rnd := rand.NewChaCha8([32]byte{})
	for _, n := range []int{0, 1, 100, 128 << 10, 1 << 20} {
		m := make([]byte, n)
		rnd.Read(m)
		if frame := dictionary.Plain().AppendFrame(nil, m); len(frame) > n+64 {
			t.Errorf("%d bytes became %d", n, len(frame))
		}
	}
}

func TestUselessInput(t *testing.T) {
	raw, err := trained()
	if err != nil {
		t.Fatal(err)
	}
	zero := bytes.Clone(raw)
	copy(zero[4:8], []byte{0, 0, 0, 0})
	for name, b := range map[string][]byte{
		"nothing": nil, "text": []byte("a dictionary of words"), "cut off": raw[:40], "number 0": zero, "too large": append(bytes.Clone(raw), make([]byte, dictionary.MaxSize)...),
	} {
		if _, err := dictionary.Parse(b); !errors.Is(err, dictionary.ErrMalformed) {
			t.Errorf("%s: %v", name, err)
		}
	}
	short := make([][]byte, 1000)
	for i := range short {
		short[i] = []byte("short")
	}
	for name, f := range map[string]func() ([]byte, error){
		"no messages":    func() ([]byte, error) { return dictionary.Train(1, nil, 0) },
		"short messages": func() ([]byte, error) { return dictionary.Train(1, short, 0) },
		"number 0":       func() ([]byte, error) { return dictionary.Train(0, samples(100), 0) },
		"size":           func() ([]byte, error) { return dictionary.Train(1, samples(100), 1<<30) },
	} {
		if _, err := f(); err == nil {
			t.Errorf("%s: no error", name)
		}
	}
}

// Whatever a file holds is a dictionary that works, or an error.
func FuzzParse(f *testing.F) {
	raw, err := trained()
	if err != nil {
		f.Fatal(err)
	}
	f.Add(raw)
	f.Add([]byte("\x37\xa4\x30\xec\x01\x00\x00\x00"))
	f.Fuzz(func(t *testing.T, b []byte) {
		d, err := dictionary.Parse(b)
		if err != nil {
			if !errors.Is(err, dictionary.ErrMalformed) {
				t.Fatal(err)
			}
			return
		}
		m := []byte(`{"kind":"commit"}`)
		if got := decode(t, d.AppendFrame(nil, m), zstd.WithDecoderDicts(b)); !bytes.Equal(got, m) {
			t.Fatalf("%q", got)
		}
	})
}

package slim

import (
	"bytes"
	"errors"
	"os"
	"path/filepath"
	"testing"
)

// piece is a part of memory, as a data section has it.
func piece(address int, data ...byte) []byte {
	b := append(appendSigned([]byte{0, 0x41}, address), 0x0b, byte(len(data)))
	return append(b, data...)
}

// wasm is a module with a custom section before and one after its memory.
func wasm(pieces ...[]byte) []byte {
	content := append([]byte{byte(len(pieces))}, bytes.Join(pieces, nil)...)
	return bytes.Join([][]byte{
		[]byte("\x00asm\x01\x00\x00\x00"), {0, 2, 1, 'a'}, {dataSection, byte(len(content))}, content, {0, 2, 1, 'b'},
	}, nil)
}

func emptyOverlay(tb testing.TB) string {
	tb.Helper()
	name := filepath.Join(tb.TempDir(), "overlay.json")
	if err := os.WriteFile(name, []byte(`{"Replace":{}}`), 0o600); err != nil {
		tb.Fatal(err)
	}
	return name
}

// Pieces that are near each other become one, in the order of their addresses, and zeros none. All else
// stays.
func TestPiecesAreJoined(t *testing.T) {
	got, err := Pack(wasm(piece(200, 7, 0), piece(60, 1, 0, 2), piece(70, 3), piece(120, 0, 0), piece(202, 8)), emptyOverlay(t), true)
	want := wasm(piece(60, 1, 0, 2, 0, 0, 0, 0, 0, 0, 0, 3), piece(200, 7, 0, 8))
	if err != nil || !bytes.Equal(got, want) {
		t.Errorf("%v\n% x\n% x", err, got, want)
	}
}

func TestNotAModule(t *testing.T) {
	good := wasm(piece(60, 1))
	bad := map[string][]byte{
		"nothing": nil, "text": []byte("some text, and more of it"), "cut off": good[:len(good)-5], "no memory": good[:8],
		"negative address": wasm([]byte{0, 0x41, 0x7f, 0x0b, 1, 1}), "far away": wasm(piece(maxImage, 1)),
		"passive": wasm([]byte{1, 1, 1}), "two memories": append(bytes.Clone(good), good[8:]...),
		"more than it says": append(bytes.Clone(good), 0, 9),
	}
	for what, b := range bad {
		if _, err := Pack(b, emptyOverlay(t), true); !errors.Is(err, errModule) {
			t.Errorf("%s: %v", what, err)
		}
	}
	if _, err := Pack(good, filepath.Join(t.TempDir(), "none"), true); !errors.Is(err, os.ErrNotExist) {
		t.Errorf("no overlay: %v", err)
	}
	overlay := filepath.Join(t.TempDir(), "overlay.json")
	if err := os.WriteFile(overlay, []byte(`{"Replace":{"/usr/lib/go/src/runtime/symtab.go":"x"}}`), 0o600); err != nil {
		t.Fatal(err)
	}
	if _, err := Pack(good, overlay, true); !errors.Is(err, errTables) {
		t.Errorf("no tables: %v", err)
	}
}

// The last part of the table is as long as its addresses want: the linker puts something else behind.
func TestSizeOfTheTable(t *testing.T) {
	for pcs, want := range map[uint64]uint64{1: 5, 256: 5, 257: 6, 4096: 20, 4097: 25, 4096 + 257: 26, 3 * 4096: 60} {
		if got := tableSize(pcs); got != want {
			t.Errorf("%d addresses: %d bytes, want %d", pcs, got, want)
		}
	}
}

// Whatever is read, memory is the same afterwards.
func FuzzPack(f *testing.F) {
	f.Add(wasm(piece(60, 1, 0, 2), piece(200, 7)))
	f.Add([]byte("\x00asm\x01\x00\x00\x00"))
	overlay := emptyOverlay(f)
	f.Fuzz(func(t *testing.T, b []byte) {
		before, err := parseModule(b)
		if err != nil {
			return
		}
		if len(before.image) > 1<<20 {
			t.Skip()
		}
		packed, err := Pack(b, overlay, true)
		if err != nil {
			t.Fatal(err)
		}
		after, err := parseModule(packed)
		if err != nil {
			t.Fatal(err)
		}
		if !bytes.Equal(bytes.TrimRight(before.image, "\x00"), bytes.TrimRight(after.image, "\x00")) || !bytes.Equal(before.after, after.after) {
			t.Error("it is another program")
		}
		if tables, err := before.image.findTables(); err == nil {
			_ = before.image.dropLines(tables)
		}
	})
}

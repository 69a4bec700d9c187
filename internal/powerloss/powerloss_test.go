package powerloss

import (
	"bytes"
	"math/rand/v2"
	"os"
	"path/filepath"
	"testing"
)

// What was flushed is in every state, what was not is in some of them.
func TestCrash(t *testing.T) {
	dir := t.TempDir()
	must := func(err error) {
		t.Helper()
		if err != nil {
			t.Fatal(err)
		}
	}
	write := func(name string, content []byte) {
		t.Helper()
		must(os.WriteFile(filepath.Join(dir, name), content, 0o600))
	}
	old, new := bytes.Repeat([]byte("o"), 4*sector), bytes.Repeat([]byte("n"), 6*sector)
	write("changed", old)
	write("removed", old)
	write("replaced", old)
	d, err := New(dir)
	must(err)
	defer d.Close()

	write("flushed", new)
	must(d.Synced(filepath.Join(dir, "flushed")))
	must(d.Synced(dir))
	write("changed", new)
	write("unsynced", new)
	must(os.Remove(filepath.Join(dir, "removed")))
	write("temp", new)
	must(d.Synced(filepath.Join(dir, "temp")))
	must(os.Rename(filepath.Join(dir, "temp"), filepath.Join(dir, "replaced")))
	must(os.Mkdir(filepath.Join(dir, "sub"), 0o700))
	write("sub/file", new)

	seen := map[string]bool{}
	for seed := range uint64(300) {
		to := t.TempDir()
		must(d.Crash(to, rand.New(rand.NewPCG(seed, 0))))
		read := func(name string) []byte { b, _ := os.ReadFile(filepath.Join(to, name)); return b }
		if !bytes.Equal(read("flushed"), new) {
			t.Fatal("what was flushed is not there")
		}
		switch b := read("replaced"); {
		case bytes.Equal(b, old):
			seen["old name"] = true
		case bytes.Equal(b, new):
			seen["new name"] = true
		default:
			t.Fatalf("a file that was flushed before its rename is torn: %q", b)
		}
		b := read("changed")
		if len(b) < len(old) {
			t.Fatal("a file has lost what was flushed")
		}
		for at := 0; at+sector <= len(old); at += sector {
			s := b[at : at+sector]
			if !bytes.Equal(s, old[:sector]) && !bytes.Equal(s, new[:sector]) {
				t.Fatalf("a sector is neither old nor new: %q", s)
			}
			seen["sector "+string(s[0])] = true
		}
		if bytes.Contains(b, []byte("no")) {
			seen["later ones lost"] = true
		}
		if bytes.Contains(b, []byte("on")) {
			seen["earlier ones lost"] = true
		}
		if bytes.Contains(b, []byte{0}) {
			seen["a size without content"] = true
		}
		seen["removed"] = seen["removed"] || read("removed") == nil
		seen["back again"] = seen["back again"] || bytes.Equal(read("removed"), old)
		if _, err := os.Stat(filepath.Join(to, "unsynced")); err != nil {
			seen["no unsynced"] = true
		} else {
			seen["unsynced"] = true
		}
		if _, err := os.Stat(filepath.Join(to, "sub")); err == nil {
			seen["sub"] = true
		}
	}
	for _, what := range []string{
		"old name", "new name", "sector o", "sector n", "later ones lost", "earlier ones lost",
		"a size without content", "removed", "back again", "unsynced", "no unsynced", "sub",
	} {
		if !seen[what] {
			t.Errorf("never seen: %s", what)
		}
	}
}

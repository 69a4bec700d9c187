package backup_test

import (
	"archive/tar"
	"bytes"
	"context"
	"crypto/sha256"
	"encoding/hex"
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"io/fs"
	"iter"
	"math"
	"os"
	"path/filepath"
	"strings"
	"testing"

	"github.com/pdskit/pdskit/storage/backup"
	"github.com/pdskit/pdskit/storage/bucket"
)

const hostileGeneration = "generations/20260101T000000Z-aaaaaaaa/"

// hostileStore is a store with one generation, of files of a few bytes.
func hostileStore(t testing.TB, manifest, list []byte, blobs map[string]string) *store {
	t.Helper()
	s := &store{}
	put := func(name, content string) {
		if err := s.Memory.Put(t.Context(), name, strings.NewReader(content), int64(len(content))); err != nil {
			t.Fatal(err)
		}
	}
	put(hostileGeneration+"backup.json", string(manifest))
	put(hostileGeneration+"blobs.list", string(list))
	put(hostileGeneration+nameDatabase, "database")
	put(hostileGeneration+nameSecrets, "secrets")
	for name, content := range blobs {
		put(name, content)
	}
	return s
}

// hostileManifest is a good manifest for a list, changed.
func hostileManifest(list []byte, change func(m map[string]any)) []byte {
	file := func(content string) any {
		sum := sha256.Sum256([]byte(content))
		return map[string]any{"size": len(content), "sha256": hex.EncodeToString(sum[:])}
	}
	m := map[string]any{"format": 1, "created": "2026-01-01T00:00:00Z", "number": 1, "version": "1", "host": "h", "newestEvent": 0, "blobs": 0,
		"missingBlobs": 0, "lostBlobs": 0, "bytes": 10, "folder": "blobs-plain/",
		"files": map[string]any{nameDatabase: file("database"), nameSecrets: file("secrets"), "blobs.list": file(string(list))}}
	if change != nil {
		change(m)
	}
	text, err := json.Marshal(m)
	if err != nil {
		panic(err)
	}
	return text
}

// restoreHostile restores from a store into a directory below a root, where nothing else may appear.
func restoreHostile(t testing.TB, b bucket.Bucket, incomplete bool) error {
	t.Helper()
	root, err := os.MkdirTemp(t.TempDir(), "")
	if err != nil {
		t.Fatal(err)
	}
	dest := filepath.Join(root, "a", "data")
	_, err = backup.Restore{Layout: layout, Incomplete: incomplete}.FromRemote(t.Context(), backup.Remote{Bucket: b}, dest)
	walkErr := filepath.WalkDir(root, func(file string, e fs.DirEntry, walkErr error) error {
		rel, _ := filepath.Rel(dest, file)
		if walkErr == nil && !e.IsDir() && (err != nil || !filepath.IsLocal(rel)) {
			t.Errorf("%s was written (%v)", file, err)
		}
		return walkErr
	})
	if walkErr != nil {
		t.Fatal(walkErr)
	}
	return err
}

// A store that belongs to somebody else makes a restore fail with a typed error, and nothing is
// written outside of the directory.
func TestHostileStore(t *testing.T) {
	account := strings.Repeat("ab", 32)
	good := "blobs/ab/" + account + "/bafkreihdwdcefgh4dqkjv67uzcmw7ojee6xedzdetojuzjevtenxquvyku"
	line := func(name string) string { return name + " 4 00000000\n" }
	for name, c := range map[string]struct {
		list   string
		change func(m map[string]any)
	}{
		"name with ..":         {list: line("blobs/ab/" + account + "/../../../../../evil")},
		"name of another file": {list: line("secrets.json")},
		"absolute name":        {list: line("/etc/evil")},
		"staged with ..":       {list: line("staged/../../evil")},
		"name twice":           {list: line(good) + line(good)},
		"names out of order":   {list: line("staged/"+account+good[len("blobs/ab/")+64:]) + line(good)},
		"size below 0":         {list: good + " -1 00000000\n"},
		"size of no number":    {list: good + " 99999999999999999999 00000000\n"},
		"line without end":     {list: strings.Repeat("x", 1<<20)},
		"zeros":                {list: strings.Repeat("\x00", 100_000)},
		"no lines":             {list: "\n\n\n"},
		"blob of other bytes":  {list: line(good)},
		"file with ..": {change: func(m map[string]any) {
			m["files"].(map[string]any)["../evil"] = m["files"].(map[string]any)[nameSecrets]
		}},
		"file in a folder": {change: func(m map[string]any) {
			m["files"].(map[string]any)[nameBlobs+"/blobs/evil"] = m["files"].(map[string]any)[nameSecrets]
		}},
		"manifest names itself": {change: func(m map[string]any) {
			m["files"].(map[string]any)["backup.json"] = m["files"].(map[string]any)[nameSecrets]
		}},
		"database is too long": {change: func(m map[string]any) { m["files"].(map[string]any)[nameDatabase].(map[string]any)["size"] = 3 }},
		"database below 0":     {change: func(m map[string]any) { m["files"].(map[string]any)[nameDatabase].(map[string]any)["size"] = -1 }},
		"no files":             {change: func(m map[string]any) { m["files"] = map[string]any{} }},
		"files are a list":     {change: func(m map[string]any) { m["files"] = []string{nameDatabase} }},
		"number is text":       {change: func(m map[string]any) { m["number"] = "1" }},
		"number is huge":       {change: func(m map[string]any) { m["number"] = math.MaxInt64 }},
		"events below 0":       {change: func(m map[string]any) { m["newestEvent"] = -5 }},
		"blobs that are not":   {change: func(m map[string]any) { m["blobs"] = 7 }},
		"folder with ..":       {change: func(m map[string]any) { m["folder"] = "blobs-../../x/" }},
		"no folder":            {change: func(m map[string]any) { m["folder"] = "" }},
		"folder without end":   {change: func(m map[string]any) { m["folder"] = "blobs-plain" }},
		"long host":            {change: func(m map[string]any) { m["host"] = strings.Repeat("h", 1<<20) }},
		"huge manifest":        {change: func(m map[string]any) { m["host"] = strings.Repeat("h", 5<<20) }},
		"wrong format":         {change: func(m map[string]any) { m["format"] = 2 }},
		"encrypted, no key":    {change: func(m map[string]any) { m["encrypted"] = true }},
	} {
		s := hostileStore(t, hostileManifest([]byte(c.list), c.change), []byte(c.list), map[string]string{"blobs-plain/" + good: "evil"})
		for _, incomplete := range []bool{false, true} {
			err := restoreHostile(t, s, incomplete)
			if lost := incomplete && (name == "blob of other bytes" || name == "blobs that are not"); !errors.Is(err, backup.ErrBadBackup) && !(lost && err == nil) {
				t.Errorf("%s (incomplete %v): %v", name, incomplete, err)
			}
		}
		// A backup beside it succeeds, and leaves what it cannot read.
		if name == "events below 0" || name == "number is huge" || strings.HasPrefix(name, "folder") || strings.HasPrefix(name, "line") || name == "zeros" {
			before := s.names(t, "")
			m, err := backup.Backup{Layout: layout, Keep: backup.Keep{{Count: 5}}}.ToRemote(t.Context(), newMemory(t), backup.Remote{Bucket: s})
			if err != nil || m.Number < 1 || m.Number > 2 {
				t.Errorf("%s: a backup: %+v, %v", name, m, err)
			}
			if after := s.names(t, ""); len(after) != len(before)+3 {
				t.Errorf("%s: %q, before %q", name, after, before)
			}
		}
	}
	if err := restoreHostile(t, hostileStore(t, hostileManifest(nil, nil), nil, nil), false); err != nil {
		t.Errorf("without a fault: %v", err)
	}
}

// endless lists objects without end below a name.
type endless struct {
	*store
	below string
}

func (e endless) List(ctx context.Context, prefix, after string) iter.Seq2[bucket.Object, error] {
	if !strings.HasPrefix(prefix, e.below) {
		return e.store.List(ctx, prefix, after)
	}
	return func(yield func(bucket.Object, error) bool) {
		for n := 0; ; n++ {
			if !yield(bucket.Object{Name: fmt.Sprintf("%s%020d/x", e.below, n), Size: 1}, ctx.Err()) {
				return
			}
		}
	}
}

// A listing without end ends.
func TestEndlessListing(t *testing.T) {
	s := hostileStore(t, hostileManifest(nil, nil), nil, nil)
	if err := restoreHostile(t, endless{s, "generations/"}, false); !errors.Is(err, backup.ErrBadBackup) {
		t.Errorf("restore: %v", err)
	}
	if _, err := (backup.Backup{Layout: layout}).ToRemote(t.Context(), newMemory(t), backup.Remote{Bucket: endless{s, "lock/"}}); !errors.Is(err, backup.ErrBadBackup) {
		t.Errorf("backup: %v", err)
	}
}

// A tar file whose files are longer than it is itself is refused before it fills the disk.
func TestSparseTarFile(t *testing.T) {
	var b bytes.Buffer
	w := tar.NewWriter(&b)
	content := "1\n0\n0\n" // a map of one piece without bytes
	content += strings.Repeat("\x00", 512-len(content))
	var pax string
	for _, r := range []string{"GNU.sparse.major=1", "GNU.sparse.minor=0", "GNU.sparse.name=" + nameDatabase, "GNU.sparse.realsize=1000000"} {
		n := len(r) + 4
		pax += fmt.Sprintf("%d %s\n", n, r)
	}
	if err := errors.Join(w.WriteHeader(&tar.Header{Typeflag: tar.TypeReg, Name: "x", Size: int64(len(pax))}), write(w, pax),
		w.WriteHeader(&tar.Header{Typeflag: tar.TypeReg, Name: "y", Size: int64(len(content))}), write(w, content), w.Close()); err != nil {
		t.Fatal(err)
	}
	text := b.Bytes()
	text[156] = tar.TypeXHeader
	checksum(text[:512])
	if h, err := tar.NewReader(bytes.NewReader(text)).Next(); err != nil || h.Size != 1000000 {
		t.Fatalf("it is no sparse file: %+v, %v", h, err)
	}
	_, err := backup.Restore{Layout: layout}.From(t.Context(), "-", bytes.NewReader(text), filepath.Join(t.TempDir(), "data"))
	if !errors.Is(err, backup.ErrBadBackup) || !strings.Contains(err.Error(), "is not a file") {
		t.Error(err)
	}
}

func write(w io.Writer, text string) error {
	_, err := io.WriteString(w, text)
	return err
}

// checksum sets that of a header of a tar file.
func checksum(h []byte) {
	copy(h[148:156], "        ")
	sum := 0
	for _, c := range h {
		sum += int(c)
	}
	copy(h[148:156], fmt.Sprintf("%06o\x00 ", sum))
}

// Whatever manifest and list a store has, a restore and a backup return, and nothing is written
// elsewhere.
func FuzzRemote(f *testing.F) {
	account := strings.Repeat("ab", 32)
	good := "blobs/ab/" + account + "/bafkreihdwdcefgh4dqkjv67uzcmw7ojee6xedzdetojuzjevtenxquvyku"
	for _, list := range []string{"", good + " 4 00000000\n", "!" + good + "\n", "x"} {
		f.Add(hostileManifest([]byte(list), nil), []byte(list))
	}
	f.Fuzz(func(t *testing.T, manifest, list []byte) {
		s := hostileStore(t, manifest, list, map[string]string{"blobs-plain/" + good: "evil"})
		if err := restoreHostile(t, s, true); err != nil && !errors.Is(err, backup.ErrBadBackup) {
			t.Errorf("restore: %v", err)
		}
		b := backup.Backup{Layout: layout, Fast: true, Keep: backup.Keep{{Count: 5}}}
		_, err := b.ToRemote(t.Context(), newMemory(t), backup.Remote{Bucket: s})
		if err != nil && !errors.Is(err, backup.ErrOlder) {
			t.Errorf("backup: %v", err)
		}
		if left := s.names(t, hostileGeneration); len(left) != 4 {
			t.Errorf("left of a generation that is kept: %q", left)
		}
	})
}

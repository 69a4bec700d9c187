package blobfs_test

import (
	"context"
	"errors"
	"fmt"
	"os"
	"path/filepath"
	"strings"
	"testing"

	"github.com/pdskit/pdskit/lexicon/syntax"
	"github.com/pdskit/pdskit/storage"
	"github.com/pdskit/pdskit/storage/blobfs"
)

// tree are the files of blobs below a folder, with what is in them.
func tree(t *testing.T, folder string) map[string]string {
	t.Helper()
	m := make(map[string]string)
	for _, part := range []string{"blobs/*/*/*", "staged/*"} {
		files, err := filepath.Glob(filepath.Join(folder, part))
		if err != nil {
			t.Fatal(err)
		}
		for _, file := range files {
			text, err := os.ReadFile(file)
			if err != nil {
				t.Fatal(err)
			}
			rel, _ := filepath.Rel(folder, file)
			m[rel] = string(text)
		}
	}
	return m
}

func sameTree(t *testing.T, from, to string) {
	t.Helper()
	a, b := tree(t, from), tree(t, to)
	if len(a) != len(b) {
		t.Errorf("%d files, want %d", len(b), len(a))
	}
	for name, text := range a {
		if b[name] != text {
			t.Errorf("%s differs", name)
		}
	}
}

// A folder is copied; interrupted after any file, it goes on; what was deleted goes, what is damaged
// in the copy is made again, and what is damaged in the source is copied as it is.
func TestCopy(t *testing.T) {
	from, to := filepath.Join(t.TempDir(), "from"), filepath.Join(t.TempDir(), "to")
	s, err := blobfs.Open(from, blobfs.Config{})
	if err != nil {
		t.Fatal(err)
	}
	const n = 12
	did := func(i int) syntax.DID { return syntax.DID(fmt.Sprintf("did:web:a%d.example", i%3)) }
	var infos []storage.BlobInfo
	for i := range n {
		info, err := s.Stage(t.Context(), did(i), "text/plain", strings.NewReader(strings.Repeat("x", 1000*i)), storage.BlobLimits{})
		if err == nil && i%4 != 0 {
			err = s.Promote(t.Context(), did(i), info.CID)
		}
		if err != nil {
			t.Fatal(err)
		}
		infos = append(infos, info)
	}
	written := 0
	for stop := 1; ; stop++ {
		ctx, cancel := context.WithCancel(t.Context())
		c, err := blobfs.Copy(ctx, from, to, func(files int) {
			if files == stop {
				cancel()
			}
		})
		cancel()
		if err == nil {
			if written += c.Written; c.Files != n || stop != n+1 && stop != n {
				t.Errorf("%+v at %d", c, stop)
			}
			break
		} else if !errors.Is(err, context.Canceled) {
			t.Fatal(err)
		}
	}
	sameTree(t, from, to)

	if err := errors.Join(s.Delete(t.Context(), did(1), infos[1].CID), s.Promote(t.Context(), did(4), infos[4].CID), s.SetMIME(t.Context(), did(2), infos[2].CID, "image/png")); err != nil {
		t.Fatal(err)
	}
	c, err := blobfs.Copy(t.Context(), from, to, nil)
	if err != nil || c.Files != n-1 || c.Written != 2 || c.Removed != 2 {
		t.Errorf("%+v, %v", c, err)
	}
	sameTree(t, from, to)

	for name := range tree(t, to) {
		file := filepath.Join(to, name)
		text, err := os.ReadFile(file)
		if err != nil {
			t.Fatal(err)
		}
		text[len(text)/2] ^= 1
		if err := os.WriteFile(file, text, 0o600); err != nil {
			t.Fatal(err)
		}
	}
	if c, err = blobfs.Copy(t.Context(), from, to, nil); err != nil || c.Written != n-1 {
		t.Errorf("%+v, %v", c, err)
	}
	sameTree(t, from, to)
	name, _ := blobfs.FileName(did(5), infos[5].CID)
	if err := os.Truncate(filepath.Join(from, name), 10); err != nil {
		t.Fatal(err)
	}
	if c, err = blobfs.Copy(t.Context(), from, to, nil); err != nil || len(c.Damaged) != 1 || c.Damaged[0] != name {
		t.Errorf("%+v, %v", c, err)
	}

	// A disk that is not mounted is no empty store, and a folder is not copied into itself.
	if _, err := blobfs.Copy(t.Context(), t.TempDir(), to, nil); err == nil || len(tree(t, to)) != n-1 {
		t.Errorf("from an empty folder: %v", err)
	}
	for _, to := range []string{from, filepath.Join(from, "below"), filepath.Dir(from)} {
		if _, err := blobfs.Copy(t.Context(), from, to, nil); err == nil {
			t.Errorf("to %s", to)
		}
	}
}

// A store that was opened where its disk is not mounted is empty, and the copy keeps what it has.
func TestCopyOfADiskThatIsNotMounted(t *testing.T) {
	from, to := filepath.Join(t.TempDir(), "from"), filepath.Join(t.TempDir(), "to")
	s, err := blobfs.Open(from, blobfs.Config{})
	if err != nil {
		t.Fatal(err)
	}
	info, err := s.Stage(t.Context(), "did:web:a.example", "text/plain", strings.NewReader("text"), storage.BlobLimits{})
	if err == nil {
		err = s.Promote(t.Context(), "did:web:a.example", info.CID)
	}
	if err != nil {
		t.Fatal(err)
	}
	if _, err := blobfs.Copy(t.Context(), from, to, nil); err != nil {
		t.Fatal(err)
	}
	empty := filepath.Join(t.TempDir(), "from")
	if _, err := blobfs.Open(empty, blobfs.Config{}); err != nil {
		t.Fatal(err)
	}
	if c, err := blobfs.Copy(t.Context(), empty, to, nil); err == nil || !strings.Contains(err.Error(), "mounted") {
		t.Errorf("%+v, %v", c, err)
	}
	sameTree(t, from, to)
}

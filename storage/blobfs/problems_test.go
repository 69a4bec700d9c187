package blobfs

import (
	"context"
	"os"
	"path/filepath"
	"strings"
	"testing"

	"github.com/pdskit/pdskit/storage"
)

// Each case damages a store, which Problems must find; in one that is not damaged there is nothing.
func TestProblems(t *testing.T) {
	for name, c := range map[string]struct {
		damage func(file string) error
		skip   bool
		want   string
	}{
		"none":          {func(string) error { return nil }, false, ""},
		"other bytes":   {func(file string) error { return overwrite(file, 0) }, false, "another hash"},
		"bytes skipped": {func(file string) error { return overwrite(file, 0) }, true, ""},
		"cut":           {func(file string) error { return os.Truncate(file, 5) }, true, "corrupt"},
		"empty":         {func(file string) error { return os.Truncate(file, 0) }, true, "corrupt"},
		"foreign name":  {func(file string) error { return os.Rename(file, filepath.Join(filepath.Dir(file), "name")) }, true, "no CID"},
		"other folder": {func(file string) error {
			return os.Rename(filepath.Dir(file), filepath.Dir(file)[:len(filepath.Dir(file))-1])
		}, true,
			"no account's folder"},
	} {
		t.Run(strings.ReplaceAll(name, " ", "_"), func(t *testing.T) {
			dir := t.TempDir()
			s := open(t, dir, Config{})
			stage(t, s, "did:web:staged.example", "staged")
			promoted := stage(t, s, "did:web:a.example", "promoted")
			if err := s.Promote(context.Background(), "did:web:a.example", promoted); err != nil {
				t.Fatal(err)
			}
			files, err := filepath.Glob(filepath.Join(dir, "blobs", "*", "*", "*"))
			if err != nil || len(files) != 1 {
				t.Fatal(files, err)
			}
			if err := c.damage(files[0]); err != nil {
				t.Fatal(err)
			}
			found := ""
			for p, err := range s.Problems(context.Background(), storage.CheckOptions{SkipBytes: c.skip}) {
				if err != nil {
					t.Error(err)
				}
				found += p.String() + "\n"
			}
			if !strings.Contains(found, c.want) || c.want == "" && found != "" {
				t.Errorf("found %q, want %q", found, c.want)
			}
		})
	}
}

// overwrite changes a byte of a file.
func overwrite(file string, at int64) error {
	f, err := os.OpenFile(file, os.O_RDWR, 0)
	if err != nil {
		return err
	}
	defer f.Close()
	_, err = f.WriteAt([]byte{0xff}, at)
	return err
}

package backup_test

import (
	"bytes"
	"fmt"
	"strings"
	"testing"

	"github.com/pdskit/pdskit/storage/backup"
	"github.com/pdskit/pdskit/storage/memory"
	"github.com/pdskit/pdskit/storage/sqlite"
)

// What is missing is said by name.
func TestIncompleteSourcesPanic(t *testing.T) {
	store := memory.New(memory.Config{})
	for want, src := range map[string]backup.Source{
		"Source.Database":    {Store: store, Blobs: "blobs"},
		"Source.Store.Repos": {Database: &sqlite.DB{}, Blobs: "blobs"},
		"Source.Blobs":       {Database: &sqlite.DB{}, Store: store},
	} {
		for name, do := range map[string]func() error{
			"ToDir":     func() error { _, err := backup.Backup{}.ToDir(t.Context(), src, t.TempDir()); return err },
			"ToTar":     func() error { _, err := backup.Backup{}.ToTar(t.Context(), src, &bytes.Buffer{}); return err },
			"ToTarFile": func() error { _, _, err := backup.Backup{}.ToTarFile(t.Context(), src, "x.tar"); return err },
		} {
			func() {
				defer func() {
					if r := recover(); !strings.Contains(fmt.Sprint(r), want) {
						t.Errorf("%s: %v, want %s", name, r, want)
					}
				}()
				t.Errorf("%s without %s: %v", name, want, do())
			}()
		}
	}
}

package bucket_test

import (
	"encoding/hex"
	"strings"
	"testing"

	"github.com/pdskit/pdskit/storage"
)

// Each case damages rows or objects, which Problems must find; where there is no damage it finds
// nothing, though an upload was left over and a blob deleted.
func TestProblems(t *testing.T) {
	for name, c := range map[string]struct {
		damage func(w *world, objects []string)
		skip   bool
		want   string
	}{
		"none":          {func(*world, []string) {}, false, ""},
		"no object":     {func(w *world, o []string) { w.delete(o[0]) }, true, "is missing"},
		"short object":  {func(w *world, o []string) { w.put(o[0], "x") }, true, "has 1 bytes"},
		"other bytes":   {func(w *world, o []string) { w.put(o[0], "CONTENT") }, false, "other bytes"},
		"bytes skipped": {func(w *world, o []string) { w.put(o[0], "CONTENT") }, true, ""},
		"no row of the object": {func(w *world, o []string) {
			w.rows(func(tx storage.KVTx, key string) error {
				if strings.HasPrefix(key, "blobs/o/") {
					return tx.Delete(w.ctx, key)
				}
				return nil
			})
		}, true, "belongs to"},
		"no row of the blob": {func(w *world, _ []string) {
			w.rows(func(tx storage.KVTx, key string) error {
				if strings.HasSuffix(key, hex.EncodeToString(cidOf("content").Bytes()[4:])) && strings.HasPrefix(key, "blobs/b/") {
					return tx.Delete(w.ctx, key)
				}
				return nil
			})
		}, true, "leads to no row"},
	} {
		t.Run(strings.ReplaceAll(name, " ", "_"), func(t *testing.T) {
			w := newWorld(t)
			s := w.open()
			w.promoted(s, alice, "content")
			objects := w.names()
			w.promoted(s, alice, "deleted")
			if err := s.Delete(w.ctx, alice, cidOf("deleted")); err != nil {
				t.Fatal(err)
			}
			w.put("test/orphan", "x")
			c.damage(w, objects)
			found := ""
			for p, err := range s.Problems(w.ctx, storage.CheckOptions{SkipBytes: c.skip}) {
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

func (w *world) delete(name string) {
	if err := w.objects.Delete(w.ctx, name); err != nil {
		w.Fatal(err)
	}
}

func (w *world) put(name, content string) {
	if err := w.objects.Put(w.ctx, name, strings.NewReader(content), int64(len(content))); err != nil {
		w.Fatal(err)
	}
}

// names are the objects in the bucket.
func (w *world) names() (list []string) {
	for o, err := range w.objects.List(w.ctx, "", "") {
		if err != nil {
			w.Fatal(err)
		}
		list = append(list, o.Name)
	}
	return list
}

// rows calls fn with each key.
func (w *world) rows(fn func(tx storage.KVTx, key string) error) {
	err := w.kv.Write(w.ctx, func(tx storage.KVTx) error {
		for p, err := range tx.Keys(w.ctx, storage.Range{KeysOnly: true}) {
			if err != nil {
				return err
			}
			if err := fn(tx, p.Key); err != nil {
				return err
			}
		}
		return nil
	})
	if err != nil {
		w.Fatal(err)
	}
}

package cloudflare

import (
	"testing"

	"github.com/pdskit/pdskit/storage"
	"github.com/pdskit/pdskit/storage/durable"
	"github.com/pdskit/pdskit/storage/memory"
	"github.com/pdskit/pdskit/storage/storagetest"
)

// The whole contract holds for a store whose names and log are in another object, but for what only the
// log's own object does.
func TestStoreByCalls(t *testing.T) {
	type kept struct {
		objects *durable.Memory
		shared  storage.Store
	}
	dirs := map[string]kept{}
	storagetest.Run(t, storagetest.Backend{
		Open: func(tb testing.TB, dir string) (storage.Store, func() error) {
			k, ok := dirs[dir]
			if !ok {
				k = kept{new(durable.Memory), memory.New(memory.Config{})}
				dirs[dir] = k
			}
			answer := Answers(map[string]Call{
				"directory": AnswerDirectory(durable.NewDirectory(k.shared)), "kv": AnswerKV(k.shared.KV), "repo": AnswerRepos(k.shared, ""),
			})
			db, err := durable.New(tb.Context(), durable.Config{
				Shared: k.shared, Directory: directory{remote{answer}}, Objects: k.objects, MaxOpen: 2, Mirror: mirrored,
			})
			if err != nil {
				tb.Fatal(err)
			}
			s := db.Store()
			s.KV = RemoteKV(answer, nil)
			return s, db.Close
		},
		Exclusive: true, Buffers: true, Optimistic: true,
	})
}

func mirrored(key string) bool { return key == "account" || key == "a" || key == "k" }

package storagetest

import (
	"fmt"
	"io"
	"math/rand/v2"
	"slices"
	"strings"
	"testing"
	"time"

	"github.com/pdskit/pdskit/internal/dag"
	"github.com/pdskit/pdskit/storage"
	"github.com/pdskit/pdskit/storage/memory"
)

// blobHistory is a history of calls of Blobs alone.
func blobHistory(e *env, seed uint64) {
	if testing.Short() && seed > 1 {
		e.Skip("one that reopens the store and one that does not are enough")
	}
	h := &history{env: e, model: memory.New(memory.Config{}), rng: rand.New(rand.NewPCG(seed, 43)), accounts: []*account{{did: alice}, {did: bob}}}
	calls := []func(){h.stage, h.stage, h.stage, h.setMIME, h.promote, h.promote, h.deleteBlob, h.collect, h.queryBlobs}
	for i := range 250 {
		calls[h.rng.IntN(len(calls))]()
		h.reopenAtTimes(seed)
		for range 3 {
			h.queryBlobs()
		}
		if e.Failed() {
			e.Fatalf("history %d, step %d; the last calls were:\n%s", seed, i, strings.Join(h.trace[max(0, len(h.trace)-12):], "\n"))
		}
	}
}

func (h *history) randomBlobs() (list []storage.BlobInfo) {
	all := blobInfos(8)
	for range max(0, h.rng.IntN(5)-2) {
		if b := pick(h, all); !slices.Contains(list, b) {
			list = append(list, b)
		}
	}
	return list
}

// blobContent is the content of one of the blobs that records refer to.
func (h *history) blobContent() string { return fmt.Sprint("blob ", h.rng.IntN(8)) }

func (h *history) stage() {
	a, content := pick(h, h.accounts), h.blobContent()
	mime := pick(h, []string{"text/plain", "image/png"})
	limits := storage.BlobLimits{
		Size:  pick(h, []int64{0, 0, int64(len(content)), int64(len(content)) - 1}),
		Quota: pick(h, []int64{0, 0, 12, 18, 24}),
	}
	var fail error
	if h.rng.IntN(5) == 0 {
		fail = errBroken
	}
	h.both("Stage", func(st storage.Store) (string, error) {
		r := io.Reader(strings.NewReader(content))
		if fail != nil {
			r = errReader(content[:3], fail)
		}
		info, err := st.Blobs.Stage(h.ctx, a.did, mime, r, limits)
		if err != nil {
			return "", err
		}
		return blobString(info), nil
	})
}

func (h *history) promote() {
	a, c := pick(h, h.accounts), dag.Sum(dag.Raw, []byte(h.blobContent()))
	h.both("Promote", func(st storage.Store) (string, error) { return "", st.Blobs.Promote(h.ctx, a.did, c) })
}

func (h *history) setMIME() {
	a, c, mime := pick(h, h.accounts), dag.Sum(dag.Raw, []byte(h.blobContent())), pick(h, []string{"text/plain", "image/png"})
	h.both("SetMIME", func(st storage.Store) (string, error) { return "", st.Blobs.SetMIME(h.ctx, a.did, c, mime) })
}

func (h *history) deleteBlob() {
	a, c, all := pick(h, h.accounts), dag.Sum(dag.Raw, []byte(h.blobContent())), h.rng.IntN(6) == 0
	h.both("Delete of blobs", func(st storage.Store) (string, error) {
		if all {
			return "", st.Blobs.DeleteAll(h.ctx, a.did)
		}
		return "", st.Blobs.Delete(h.ctx, a.did, c)
	})
}

func (h *history) collect() {
	if h.rng.IntN(3) > 0 {
		return
	}
	t := time.Now().Add(time.Hour)
	if h.rng.IntN(2) == 0 {
		t = t.Add(-2 * time.Hour)
	}
	h.both("Collect", func(st storage.Store) (string, error) {
		n, err := st.Blobs.Collect(h.ctx, t)
		return fmt.Sprint(n), err
	})
}

func (h *history) queryBlobs() {
	did, c := pick(h, h.accounts).did, dag.Sum(dag.Raw, []byte(h.blobContent()))
	h.both("Stat and List of blobs", func(st storage.Store) (string, error) {
		info, promoted, err := st.Blobs.Stat(h.ctx, did, c)
		out := fmt.Sprint(blobString(info), promoted, class(err))
		used, err := st.Blobs.Usage(h.ctx, did)
		out += fmt.Sprint(used, class(err))
		for info, err := range st.Blobs.List(h.ctx, did, c) {
			if err != nil {
				return "", err
			}
			out += ";" + blobString(info)
		}
		return out, nil
	})
}

package transfer_test

import (
	"bytes"
	"context"
	"crypto/sha256"
	"errors"
	"fmt"
	"io"
	"math/rand/v2"
	"strings"
	"sync"
	"testing"
	"time"

	"github.com/ipfs/go-cid"
	"github.com/pdskit/pdskit/crypto"
	"github.com/pdskit/pdskit/lexicon/data"
	"github.com/pdskit/pdskit/lexicon/syntax"
	"github.com/pdskit/pdskit/repo"
	"github.com/pdskit/pdskit/storage"
	"github.com/pdskit/pdskit/storage/transfer"
)

// world is a server, as far as its store sees it.
type world struct {
	tb    testing.TB
	store storage.Store // guarded
	host  *repo.Host
	rnd   *rand.Rand

	mu       sync.Mutex
	accounts []syntax.DID
	acked    map[string]string // what was acknowledged: a place, and its content
	made     int
}

func key(did syntax.DID) *crypto.PrivateKey {
	seed := sha256.Sum256([]byte(did))
	k, err := crypto.ParsePrivateKey(crypto.K256, seed[:])
	if err != nil {
		panic(err) // for one seed of 2^128
	}
	return k
}

func newWorld(tb testing.TB, s storage.Store, seed uint64) *world {
	w := &world{tb: tb, store: transfer.Guard(s), rnd: rand.New(rand.NewPCG(seed, 1)), acked: map[string]string{}}
	w.host = repo.NewHost(repo.Config{Store: w.store, Signer: func(_ context.Context, did syntax.DID) (crypto.Signer, error) { return key(did), nil }})
	return w
}

// note makes a record that refers to blobs.
func note(text string, blobs ...storage.BlobInfo) []byte {
	list := []any{}
	for _, b := range blobs {
		list = append(list, data.Blob{Ref: b.CID, MIME: b.MIME, Size: b.Size}.Value())
	}
	b, err := data.Encode(map[string]any{"$type": "com.example.note", "text": text, "blobs": list})
	if err != nil {
		panic(err)
	}
	return b
}

func (w *world) create(ctx context.Context) error {
	w.mu.Lock()
	w.made++
	did := syntax.DID(fmt.Sprintf("did:web:a%03d.example", w.made))
	w.mu.Unlock()
	_, err := w.host.Create(ctx, did, repo.Batch{KV: []storage.KVWrite{{Key: "account", Value: []byte(did)}}, Events: []storage.Event{w.host.AccountEvent(did, "")}})
	if err == nil {
		w.mu.Lock()
		w.accounts = append(w.accounts, did)
		w.mu.Unlock()
	}
	return err
}

func (w *world) pick(n int) (did syntax.DID, i int) {
	w.mu.Lock()
	defer w.mu.Unlock()
	return w.accounts[w.rnd.IntN(len(w.accounts))], w.rnd.IntN(n)
}

// act does one thing, and notes what was acknowledged. It is one of a number that may run at the same
// time, each with names of its own, so that what was acknowledged last is what must be there.
func (w *world) act(ctx context.Context, who int) error {
	did, i := w.pick(12)
	place := func(kind string, name any) string { return fmt.Sprintf("%s %s %v", kind, did, name) }
	ack := func(where, what string, err error) error {
		if err == nil {
			w.mu.Lock()
			w.acked[where] = what
			w.mu.Unlock()
		}
		return err
	}
	rkey := syntax.RecordKey(fmt.Sprintf("w%d-%d", who, i%5))
	text := fmt.Sprint("text ", rand.Uint32())
	switch i {
	case 0, 1, 2, 3:
		_, err := w.host.Apply(ctx, did, repo.Batch{Writes: []repo.Write{{Action: repo.Put, Collection: "com.example.note", RKey: rkey, Record: note(text)}}})
		return ack(place("record", rkey), text, err)
	case 4:
		b, err := w.host.UploadBlob(ctx, did, "text/plain", strings.NewReader(text), 1<<20)
		if err != nil || who%2 == 0 {
			return ack(place("blob", b.CID), text, err) // stays staged
		}
		_, err = w.host.Apply(ctx, did, repo.Batch{Writes: []repo.Write{{Action: repo.Put, Collection: "com.example.note", RKey: rkey, Record: note(text, b)}}})
		return ack(place("record", rkey), text, err)
	case 5:
		_, err := w.host.Apply(ctx, did, repo.Batch{Writes: []repo.Write{{Action: repo.Delete, Collection: "com.example.note", RKey: rkey}}})
		if errors.Is(err, repo.ErrRecordNotFound) {
			return nil
		}
		return ack(place("record", rkey), "", err)
	case 6, 7, 8:
		name := fmt.Sprintf("session/%d-%d", who, i)
		_, err := w.host.Step(ctx, did, func(s *repo.Step) error {
			s.Set(name, []byte(text), time.Now().Add(time.Hour))
			return nil
		})
		return ack(place("key", name), text, err)
	case 9:
		name := fmt.Sprintf("session/%d-%d", who, 6)
		_, err := w.host.Step(ctx, did, func(s *repo.Step) error {
			s.Remove(name)
			s.Events = append(s.Events, w.host.IdentityEvent(did, "x.example.com"))
			return nil
		})
		return ack(place("key", name), "", err)
	case 10:
		name := fmt.Sprintf("invite/%d", who)
		err := w.store.KV.Write(ctx, func(tx storage.KVTx) error { return tx.Set(ctx, name, []byte(text), time.Time{}) })
		return ack("host  "+name, text, err)
	default:
		return w.create(ctx)
	}
}

// remove deletes an account with all that was acknowledged of it.
func (w *world) remove(ctx context.Context, i int) {
	did := w.accounts[i]
	if err := w.host.Delete(ctx, did, w.host.AccountEvent(did, "deleted")); err != nil {
		w.tb.Fatal(err)
	}
	if err := w.store.Blobs.DeleteAll(ctx, did); err != nil {
		w.tb.Fatal(err)
	}
	w.accounts = append(w.accounts[:i:i], w.accounts[i+1:]...)
	for place := range w.acked {
		if strings.Contains(place, " "+string(did)+" ") {
			delete(w.acked, place)
		}
	}
}

// live does a number of things.
func (w *world) live(ctx context.Context, accounts, acts int) {
	w.tb.Helper()
	for range accounts {
		if err := w.create(ctx); err != nil {
			w.tb.Fatal(err)
		}
	}
	for i := range acts {
		if err := w.act(ctx, i%4); err != nil {
			w.tb.Fatal(err)
		}
	}
	w.remove(ctx, len(w.accounts)-1)
}

// keeps looks whether a store has all that was acknowledged.
func (w *world) keeps(ctx context.Context, s storage.Store) {
	w.tb.Helper()
	for place, want := range w.acked {
		f := strings.SplitN(place, " ", 3)
		did, name, got := syntax.DID(f[1]), f[2], ""
		var err error
		switch f[0] {
		case "blob":
			var r io.ReadCloser
			c, _ := cid.Decode(name)
			if r, _, err = s.Blobs.Open(ctx, did, c); err == nil {
				var b []byte
				b, err = io.ReadAll(r)
				got = string(b)
				r.Close()
			}
		case "host":
			err = s.KV.Read(ctx, func(r storage.KVReader) error {
				b, err := r.Get(ctx, name)
				got = string(b)
				return err
			})
		default:
			err = s.Repos.View(ctx, did, func(r storage.Reader) error {
				if f[0] == "key" {
					b, err := r.Get(ctx, name)
					got = string(b)
					return err
				}
				rec, err := r.Record(ctx, "com.example.note/"+name)
				if err == nil && bytes.Contains(rec.Data, []byte(want)) {
					got = want
				}
				return err
			})
		}
		if errors.Is(err, storage.ErrNotFound) && want == "" {
			continue
		}
		if err != nil || got != want {
			w.tb.Errorf("%s was acknowledged as %q, and is %q, %v", place, want, got, err)
		}
	}
}

// dump describes all of a store that is moved, but for blobs that nothing refers to: some of writes
// that were refused at the last moment may lie in the source.
func dump(tb testing.TB, s storage.Store, rows ...string) (lines []string) {
	tb.Helper()
	ctx := context.Background()
	add := func(format string, args ...any) { lines = append(lines, fmt.Sprintf(format, args...)) }
	ok := func(err error) {
		tb.Helper()
		if err != nil {
			tb.Fatal(err)
		}
	}
	pairs := func(r storage.KVReader, skip ...string) {
		for p, err := range r.Keys(ctx, storage.Range{}) {
			ok(err)
			own := false
			for _, prefix := range append(skip, "move/") {
				own = own || strings.HasPrefix(p.Key, prefix)
			}
			if !own {
				add("  key %q %q %d", p.Key, p.Value, p.Expires.UnixMilli())
			}
		}
	}
	for info, err := range s.Repos.List(ctx, "") {
		ok(err)
		add("repository %s %v", info.DID, info.Head)
		ok(s.Repos.View(ctx, info.DID, func(r storage.Reader) error {
			if r.Head() != (storage.Head{}) {
				block, err := r.Commit(ctx)
				ok(err)
				add("  %v %x", r.Head(), block)
			}
			for rec, err := range r.Records(ctx, storage.Range{}) {
				ok(err)
				add("  record %s %s %s %x", rec.Path, rec.CID, rec.Rev, rec.Data)
			}
			for ref, err := range r.BlobRefs(ctx, cid.Undef, "") {
				ok(err)
				add("  reference %v", ref)
			}
			pairs(r)
			return nil
		}))
		for b, err := range s.Blobs.List(ctx, info.DID, cid.Undef) {
			ok(err)
			used := false
			ok(s.Repos.View(ctx, info.DID, func(r storage.Reader) (err error) {
				used, err = r.HasBlobRef(ctx, b.CID)
				return err
			}))
			if !used {
				continue
			}
			add("  blob %s %d %s", b.CID, b.Size, b.MIME)
		}
	}
	for e, err := range s.Events.Since(ctx, 0) {
		ok(err)
		add("event %d %s %s %d %x", e.Seq, e.DID, e.Kind, e.Time.UnixMilli(), e.Payload)
	}
	oldest, newest, err := s.Events.Bounds(ctx)
	ok(err)
	add("log %d %d", oldest, newest)
	ok(s.KV.Read(ctx, func(r storage.KVReader) error {
		pairs(r, rows...)
		return nil
	}))
	return lines
}

// same compares two stores.
func same(tb testing.TB, got, want storage.Store, rows ...string) {
	tb.Helper()
	g, w := dump(tb, got, rows...), dump(tb, want, rows...)
	for i := range max(len(g), len(w)) {
		a, b := "nothing", "nothing"
		if i < len(g) {
			a = g[i]
		}
		if i < len(w) {
			b = w[i]
		}
		if a != b {
			tb.Errorf("the target has %.300s\nthe source    %.300s", a, b)
			return
		}
	}
}

// brokenBlob is a store with a blob that has other bytes.
type brokenBlob struct {
	storage.Blobs
	did syntax.DID
	ref storage.BlobRef
}

func (b brokenBlob) Open(ctx context.Context, did syntax.DID, c cid.Cid) (io.ReadSeekCloser, storage.BlobInfo, error) {
	r, info, err := b.Blobs.Open(ctx, did, c)
	if err == nil && did == b.did && c == b.ref.Blob {
		r.Close()
		return otherBytes{strings.NewReader("other")}, info, nil
	}
	return r, info, err
}

type otherBytes struct{ *strings.Reader }

func (otherBytes) Close() error { return nil }

package check_test

import (
	"bytes"
	"context"
	"errors"
	"io"
	"io/fs"
	"os"
	"path/filepath"
	"strings"
	"testing"
	"time"

	"github.com/ipfs/go-cid"
	"github.com/pdskit/pdskit/commit"
	"github.com/pdskit/pdskit/crypto"
	"github.com/pdskit/pdskit/internal/seed"
	"github.com/pdskit/pdskit/internal/testenv"
	"github.com/pdskit/pdskit/lexicon/data"
	"github.com/pdskit/pdskit/lexicon/syntax"
	"github.com/pdskit/pdskit/repo"
	"github.com/pdskit/pdskit/repo/account"
	"github.com/pdskit/pdskit/repo/check"
	"github.com/pdskit/pdskit/storage"
	"github.com/pdskit/pdskit/storage/sealed"
	"github.com/pdskit/pdskit/storage/sqlite"
)

// world is a server's data with one account that is to be damaged and one that is not.
type world struct {
	t        *testing.T
	db       *sqlite.DB
	Store    storage.Store
	Blobs    string // folder
	accounts *account.Store
	host     *repo.Host
	victim   account.Account
}

func newWorld(t *testing.T) *world {
	t.Helper()
	testenv.NotOnJS(t, "SQLite has no files")
	file := filepath.Join(t.TempDir(), "db")
	db, err := sqlite.Open(t.Context(), file, sqlite.Config{})
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { db.Close() })
	w := &world{t: t, db: db, Store: db.Store(), Blobs: file + ".blobs"}
	w.accounts = w.open(1)
	w.host = w.accounts.Host()
	for n := range 2 {
		if w.victim, err = (seed.Seed{Records: 250, Blobs: 2}).Account(t.Context(), w.accounts, n); err != nil {
			t.Fatal(err)
		}
	}
	return w
}

// open opens the accounts with a master key.
func (w *world) open(key byte) *account.Store {
	w.t.Helper()
	box, err := sealed.New(bytes.Repeat([]byte{key}, 32))
	if err != nil {
		w.t.Fatal(err)
	}
	return account.Open(repo.Config{Store: w.Store}, box)
}

// checker is that of another process: it knows no keys yet.
func (w *world) checker(key byte) check.Checker {
	w.t.Helper()
	c := w.open(key).Checker()
	c.Database = w.db.Check
	return c
}

func (w *world) run(opt check.Options) *check.Report {
	w.t.Helper()
	r, err := w.checker(1).Run(w.t.Context(), opt)
	if err != nil {
		w.t.Fatal(err)
	}
	return r
}

// apply takes a step that no host would take.
func (w *world) apply(fn func(c *storage.Change)) {
	w.t.Helper()
	head, err := w.Store.Repos.Head(w.t.Context(), w.victim.DID)
	if err != nil {
		w.t.Fatal(err)
	}
	c := &storage.Change{Prev: head, Head: head}
	fn(c)
	if _, err := w.Store.Repos.Apply(w.t.Context(), w.victim.DID, c); err != nil {
		w.t.Fatal(err)
	}
}

// recommit makes a step's commit with a key.
func (w *world) recommit(c *storage.Change, key crypto.Signer) {
	w.t.Helper()
	var clock syntax.TIDClock
	rev := clock.Next()
	_, block, err := commit.Sign(w.t.Context(), w.victim.DID, rev, c.Prev.Data, key)
	if err != nil {
		w.t.Fatal(err)
	}
	c.Head.Commit, c.Head.Rev, c.Commit = block.CID, rev, block.Data
}

func (w *world) key() crypto.Signer {
	key, err := w.accounts.Signer(w.t.Context(), w.victim.DID)
	if err != nil {
		w.t.Fatal(err)
	}
	return key
}

func (w *world) record(text string) ([]byte, cid.Cid) {
	cbor, err := data.Encode(map[string]any{"$type": seed.Collection, "text": text})
	if err != nil {
		w.t.Fatal(err)
	}
	return cbor, data.CID(cbor)
}

func (w *world) kv(fn func(tx storage.KVTx) error) {
	if err := w.Store.KV.Write(w.t.Context(), fn); err != nil {
		w.t.Fatal(err)
	}
}

// eachBlob calls fn with the file of one of the victim's blobs.
func (w *world) oneBlob(fn func(file string)) {
	for info, err := range w.Store.Blobs.List(w.t.Context(), w.victim.DID, cid.Undef) {
		if err != nil {
			w.t.Fatal(err)
		}
		found := false
		filepath.WalkDir(w.Blobs, func(file string, e fs.DirEntry, err error) error {
			if err == nil && strings.Contains(file, info.CID.String()) {
				fn(file)
				found = true
			}
			return nil
		})
		if !found {
			w.t.Fatal("no file of a blob")
		}
		return
	}
}

func TestNothingWrong(t *testing.T) {
	w := newWorld(t)
	var progress []int
	r := w.run(check.Options{Progress: func(n int) { progress = append(progress, n) }})
	if r.Found != 0 || len(r.Problems) != 0 || r.Accounts != 2 || r.Records != 2*252 || r.Blobs != 4 || r.MissingBlobs != 0 || r.Events == 0 || len(progress) != 2 {
		t.Errorf("%+v, progress %v", r, progress)
	}
	if r = w.run(check.Options{Accounts: []syntax.DID{w.victim.DID}}); r.Accounts != 1 || r.Records != 252 || r.Events != 0 || r.Found != 0 {
		t.Errorf("one account: %+v", r)
	}
	if r = w.run(check.Options{Accounts: []syntax.DID{"did:plc:nobody"}}); r.Found != 1 {
		t.Errorf("no account: %+v", r)
	}
}

func TestDamage(t *testing.T) {
	for name, c := range map[string]struct {
		damage func(w *world)
		want   string // part of the problem
	}{
		"record that is not in the tree": {func(w *world) {
			w.apply(func(c *storage.Change) {
				w.recommit(c, w.key())
				cbor, id := w.record("extra")
				c.Records = []storage.RecordChange{{Path: seed.Collection + "/zzzz", CID: id, Data: cbor}}
			})
		}, "tree"},
		"record under another CID": {func(w *world) {
			w.apply(func(c *storage.Change) {
				w.recommit(c, w.key())
				list, err := w.host.List(w.t.Context(), w.victim.DID, seed.Collection, repo.ListOptions{Limit: 1})
				if err != nil {
					w.t.Fatal(err)
				}
				cbor, _ := w.record("other")
				c.Records = []storage.RecordChange{{Path: list[0].Path, CID: list[0].CID, Data: cbor}}
			})
		}, ""},
		"signature of another key": {func(w *world) {
			w.apply(func(c *storage.Change) {
				key, err := crypto.GenerateKey(crypto.K256)
				if err != nil {
					w.t.Fatal(err)
				}
				w.recommit(c, key)
			})
		}, "signature"},
		"changed signing key": {func(w *world) {
			w.apply(func(c *storage.Change) { c.KV = []storage.KVWrite{{Key: "key/signing", Value: []byte("other")}} })
		}, "signing key"},
		"broken account": {func(w *world) {
			w.apply(func(c *storage.Change) { c.KV = []storage.KVWrite{{Key: "account", Value: []byte("{")}} })
		}, "cannot be read"},
		"no signing key": {func(w *world) {
			w.apply(func(c *storage.Change) { c.KV = []storage.KVWrite{{Key: "key/signing"}} })
		}, "signing key"},
		"no account": {func(w *world) {
			w.apply(func(c *storage.Change) { c.KV = []storage.KVWrite{{Key: "account"}} })
		}, "no account"},
		"no handle": {func(w *world) {
			w.kv(func(tx storage.KVTx) error { return tx.Delete(w.t.Context(), "handle/user1.test") })
		}, "handle/user1.test"},
		"handle of somebody else": {func(w *world) {
			w.kv(func(tx storage.KVTx) error {
				return tx.Set(w.t.Context(), "handle/user1.test", []byte("did:plc:other"), time.Time{})
			})
		}, "belongs to did:plc:other"},
		"name of nobody": {func(w *world) {
			w.kv(func(tx storage.KVTx) error {
				return tx.Set(w.t.Context(), "email/x@y.test", []byte("did:plc:gone"), time.Time{})
			})
		}, "email/x@y.test"},
		"broken event": {func(w *world) {
			w.apply(func(c *storage.Change) {
				c.Events = []storage.Event{{DID: w.victim.DID, Kind: commit.KindCommit, Time: time.Now(), Payload: []byte{0xa0}}}
			})
		}, "event"},
		"event of another account": {func(w *world) {
			w.apply(func(c *storage.Change) {
				p := (&commit.Account{DID: "did:plc:other", Active: true, Time: time.Now()}).Payload()
				c.Events = []storage.Event{{DID: w.victim.DID, Kind: commit.KindAccount, Time: time.Now(), Payload: p}}
			})
		}, "about did:plc:other"},
		"changed blob": {func(w *world) {
			w.oneBlob(func(file string) {
				text, err := os.ReadFile(file)
				if err == nil {
					text[0] ^= 1
					err = os.WriteFile(file, text, 0o600)
				}
				if err != nil {
					w.t.Fatal(err)
				}
			})
		}, "its bytes are others"},
	} {
		t.Run(name, func(t *testing.T) {
			t.Parallel() // what looks wrong about accounts is looked at again after pauses
			w := newWorld(t)
			c.damage(w)
			r := w.run(check.Options{})
			all := ""
			for _, p := range r.Problems {
				all += p.String() + "\n"
			}
			if r.Found == 0 || !strings.Contains(all, c.want) {
				t.Fatalf("%+v", r)
			}
			if r.Accounts != 2 {
				t.Errorf("the check ended early: %+v", r)
			}
			for _, p := range r.Problems {
				if !strings.Contains(p.String(), string(w.victim.DID)) && !strings.Contains(p.What, c.want) && name != "handle of somebody else" {
					t.Errorf("about whom? %s", p)
				}
				if p.Kind == "" {
					t.Errorf("of what kind? %s", p)
				}
			}
		})
	}
}

// A blob that is lost is a problem, until it is put back or accepted as lost.
func TestMissingBlob(t *testing.T) {
	w := newWorld(t)
	var lost []byte
	var name string
	w.oneBlob(func(file string) {
		lost, _ = os.ReadFile(file)
		name = filepath.Base(file)
		os.Remove(file)
	})
	for _, level := range []check.BlobLevel{check.ReadBlobs, check.FindBlobs} {
		if r := w.run(check.Options{Blobs: level}); r.Found != 1 || r.LostBlobs != 1 || r.MissingBlobs != 1 || r.Missing[0].DID != w.victim.DID || r.Blobs != 3 ||
			!strings.Contains(r.Problems[0].String(), name+" is lost, which com.example.note/") {
			t.Errorf("%+v", r)
		}
	}
	if r := w.run(check.Options{Blobs: check.NoBlobs}); r.MissingBlobs != 0 || r.Blobs != 0 {
		t.Errorf("%+v", r)
	}
	if r := w.run(check.Options{AcceptMissing: true}); r.Found != 0 || r.MissingBlobs != 1 || r.LostBlobs != 0 {
		t.Errorf("accepting: %+v", r)
	}
	if r := w.run(check.Options{}); r.Found != 0 || r.MissingBlobs != 1 {
		t.Errorf("accepted: %+v", r)
	}
	// Where there are copies of blobs, it is put back; a damaged one is too.
	asked := 0
	from := func(_ context.Context, did syntax.DID, blob cid.Cid) (io.ReadCloser, storage.BlobInfo, error) {
		if asked++; did != w.victim.DID || blob.String() != name {
			return nil, storage.BlobInfo{}, storage.ErrNotFound
		}
		size := bytes.LastIndex(lost, []byte("text/plain")) // the blob's bytes are before its type
		return io.NopCloser(bytes.NewReader(lost[:size])), storage.BlobInfo{Size: int64(size), MIME: "text/plain"}, nil
	}
	if r := w.run(check.Options{From: from}); r.Found != 0 || r.PutBack != 1 || r.Blobs != 4 || r.MissingBlobs != 0 || asked != 1 {
		t.Errorf("%+v", r)
	}
	w.oneBlob(func(file string) { os.Truncate(file, 3) })
	if r := w.run(check.Options{From: from}); r.Found+r.PutBack != 1 {
		t.Errorf("%+v", r)
	}
	// What was accepted counts only as long as it is missing when blobs are accepted.
	if r := w.run(check.Options{AcceptMissing: true}); r.MissingBlobs != 0 {
		t.Errorf("%+v", r)
	}
}

// The records of an account that is being moved here come before its blobs.
func TestMissingBlobOfADeactivatedAccount(t *testing.T) {
	w := newWorld(t)
	w.oneBlob(func(file string) { os.Remove(file) })
	_, err := w.accounts.Update(t.Context(), account.Trusted(w.victim.DID), func(a *account.Account, _ *repo.Step) error {
		a.DeactivatedAt = time.Now()
		return nil
	})
	if err != nil {
		t.Fatal(err)
	}
	if r := w.run(check.Options{}); r.Found != 0 || r.MissingBlobs != 1 || r.LostBlobs != 0 {
		t.Errorf("%+v", r)
	}
}

// If none of the blobs is there, they may be on a disk that is not mounted. What is excused does
// not count.
func TestNoBlobsAtAll(t *testing.T) {
	for name, remove := range map[string]func(dir string) error{
		"no folder":    os.RemoveAll,
		"empty folder": func(dir string) error { return errors.Join(os.RemoveAll(dir), os.Mkdir(dir, 0o700)) },
		"empty folders": func(dir string) error {
			return errors.Join(os.RemoveAll(dir), os.MkdirAll(filepath.Join(dir, "blobs/aa"), 0o700))
		},
	} {
		t.Run(name, func(t *testing.T) {
			w := newWorld(t)
			if err := w.checker(1).BlobsThere(t.Context()); err != nil {
				t.Fatal(err)
			}
			if err := remove(w.Blobs); err != nil {
				t.Fatal(err)
			}
			if err := w.checker(1).BlobsThere(t.Context()); !errors.Is(err, check.ErrNoBlobs) {
				t.Error(err)
			}
			if r := w.run(check.Options{}); r.LostBlobs != 4 || r.Problems[0].Kind != check.NoBlobsThere {
				t.Errorf("%+v", r)
			}
			if r := w.run(check.Options{AcceptMissing: true}); r.Found != 0 {
				t.Errorf("%+v", r)
			}
			if err := w.checker(1).BlobsThere(t.Context()); err != nil {
				t.Error(err)
			}
		})
	}
	w := newWorld(t)
	w.oneBlob(func(file string) { os.Remove(file) })
	if err := w.checker(1).BlobsThere(t.Context()); err != nil {
		t.Errorf("with one of several blobs missing: %v", err)
	}
}

func TestWrongMasterKey(t *testing.T) {
	w := newWorld(t)
	r, err := w.checker(2).Run(t.Context(), check.Options{})
	if err != nil || r.Found != 2 || !strings.Contains(r.Problems[0].What, sealed.ErrUnknownKey.Error()) {
		t.Errorf("%+v, %v", r, err)
	}
}

func TestCheckEndsWithItsContext(t *testing.T) {
	w := newWorld(t)
	ctx, cancel := context.WithCancel(t.Context())
	_, err := w.checker(1).Run(ctx, check.Options{Progress: func(int) { cancel() }})
	if !errors.Is(err, context.Canceled) {
		t.Errorf("%v", err)
	}
}

// A server that writes is not reported for it.
func TestCheckWhileWriting(t *testing.T) {
	w := newWorld(t)
	ctx, stop := context.WithCancel(t.Context())
	done := make(chan error, 1)
	go func() {
		for n := 10; ctx.Err() == nil; n++ {
			a, err := seed.Seed{Records: 2, Blobs: 1}.Account(context.Background(), w.accounts, n)
			if err == nil {
				cbor, _ := w.record("more")
				_, err = w.host.Apply(context.Background(), w.victim.DID, repo.Batch{Writes: []repo.Write{{Action: repo.Create, Collection: seed.Collection, RKey: w.host.NextRecordKey(), Record: cbor}}})
			}
			if err == nil && n%2 == 0 {
				err = w.accounts.Delete(context.Background(), account.Trusted(a.DID))
			}
			if err != nil {
				done <- err
				return
			}
		}
		done <- nil
	}()
	for range 5 {
		if r := w.run(check.Options{}); r.Found > 0 || r.MissingBlobs > 0 {
			t.Errorf("%+v", r)
		}
	}
	stop()
	if err := <-done; err != nil {
		t.Error(err)
	}
}

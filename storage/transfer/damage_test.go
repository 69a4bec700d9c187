package transfer_test

import (
	"errors"
	"strings"
	"testing"
	"time"

	"github.com/pdskit/pdskit/lexicon/syntax"
	"github.com/pdskit/pdskit/storage"
	"github.com/pdskit/pdskit/storage/transfer"
)

// damaged is a target that somebody has changed behind the mover's back.
type damaged struct {
	storage.Store
	t *testing.T
	storage.Loader
}

func (d damaged) load(did syntax.DID, l storage.Load) {
	d.t.Helper()
	if err := d.Load(d.t.Context(), did, &l); err != nil {
		d.t.Fatal(err)
	}
}

func (d damaged) log(l storage.LoadEvents) {
	d.t.Helper()
	if err := d.LoadEvents(d.t.Context(), &l); err != nil {
		d.t.Fatal(err)
	}
}

// first returns an account that has records with blobs, and its first record and reference.
func (d damaged) first() (did syntax.DID, head storage.Head, rec storage.Record, ref storage.BlobRef) {
	d.t.Helper()
	for info := range d.Repos.List(d.t.Context(), "") {
		found := false
		err := d.Repos.View(d.t.Context(), info.DID, func(r storage.Reader) error {
			for x, err := range r.BlobRefs(d.t.Context(), rec.CID, "") {
				if err != nil {
					return err
				}
				found, ref = true, x
			}
			for x, err := range r.Records(d.t.Context(), storage.Range{}) {
				rec = x
				return err
			}
			return nil
		})
		if err != nil {
			d.t.Fatal(err)
		}
		if found && rec.Path != "" {
			return info.DID, info.Head, rec, ref
		}
		rec = storage.Record{}
	}
	d.t.Fatal("no account has a blob")
	return did, head, rec, ref
}

// What was damaged in the target after it was copied is found, and the source stays in use; or it is
// made good.
func TestDamagedTargetIsFound(t *testing.T) {
	events := func(d damaged) (list []storage.Event) {
		for e := range d.Events.Since(t.Context(), 0) {
			list = append(list, e)
		}
		return list
	}
	for name, c := range map[string]struct {
		damage func(d damaged)
		says   string // "": it is made good
	}{
		"a record is missing": {func(d damaged) {
			did, _, rec, _ := d.first()
			d.load(did, storage.Load{Records: []storage.Record{{Path: rec.Path}}})
		}, "is not there"},
		"a record too many": {func(d damaged) {
			did, _, rec, _ := d.first()
			rec.Path += "x"
			d.load(did, storage.Load{Records: []storage.Record{rec}})
		}, "the source has no record"},
		"other bytes in a record": {func(d damaged) {
			did, _, rec, _ := d.first()
			rec.Data[len(rec.Data)-1] ^= 1
			d.load(did, storage.Load{Records: []storage.Record{rec}})
		}, "does not match its CID"},
		"another revision": {func(d damaged) {
			did, _, rec, _ := d.first()
			rec.Rev = "3zzzzzzzzzz2z"
			d.load(did, storage.Load{Records: []storage.Record{rec}})
		}, "at the source"},
		"another commit": {func(d damaged) {
			did, head, _, _ := d.first()
			d.load(did, storage.Load{Head: head, Commit: []byte("x")})
		}, "its commit is not what the head says"},
		"a reference is missing": {func(d damaged) {
			did, _, _, ref := d.first()
			d.load(did, storage.Load{NoRefs: []storage.BlobRef{ref}})
		}, "is not there"},
		"another reference": {func(d damaged) {
			did, _, _, ref := d.first()
			ref.Rev = "3zzzzzzzzzz2z"
			d.load(did, storage.Load{Refs: []storage.BlobRef{ref}})
		}, "a reference"},
		"an event is missing": {func(d damaged) { d.log(storage.LoadEvents{Drop: []int64{events(d)[3].Seq}}) }, "the log lacks event"},
		"another event": {func(d damaged) {
			e := events(d)[3]
			e.Payload[0] ^= 1
			d.log(storage.LoadEvents{Events: []storage.Event{e}})
		}, "is another one"},
		"an event of another weight": {func(d damaged) {
			e := events(d)[3]
			e.Weight++
			d.log(storage.LoadEvents{Events: []storage.Event{e}})
		}, "is another one"},
		"numbers too far": {func(d damaged) { d.log(storage.LoadEvents{Newest: 1 << 60}) }, "the log is from"},
		"oldest too far":  {func(d damaged) { d.log(storage.LoadEvents{Oldest: events(d)[0].Seq}) }, "the log is from"},
		"an account is missing": {func(d damaged) {
			did, _, _, _ := d.first()
			if err := d.Unload(t.Context(), did); err != nil {
				t.Fatal(err)
			}
		}, ""},
		"an event too many": {func(d damaged) {
			e := events(d)[0]
			e.Seq--
			d.log(storage.LoadEvents{Events: []storage.Event{e}})
		}, ""},
		"an account too many": {func(d damaged) {
			d.load("did:web:zzz.example", storage.Load{KV: []storage.KVWrite{{Key: "k", Value: []byte("v")}}})
		}, ""},
		"an account's key": {func(d damaged) {
			did, _, _, _ := d.first()
			d.load(did, storage.Load{KV: []storage.KVWrite{{Key: "account", Value: []byte("x")}}})
		}, ""},
		"a key of the host": {func(d damaged) {
			if err := d.KV.Write(t.Context(), func(tx storage.KVTx) error { return tx.Set(t.Context(), "x", nil, time.Time{}) }); err != nil {
				t.Fatal(err)
			}
		}, ""},
		"a blob is missing": {func(d damaged) {
			did, _, _, ref := d.first()
			if err := d.Blobs.Delete(t.Context(), did, ref.Blob); err != nil {
				t.Fatal(err)
			}
		}, ""},
		"a media type": {func(d damaged) {
			did, _, _, ref := d.first()
			if err := d.Blobs.SetMIME(t.Context(), did, ref.Blob, "x/y"); err != nil {
				t.Fatal(err)
			}
		}, ""},
	} {
		t.Run(name, func(t *testing.T) {
			from, to := inMemory(t), inMemory(t)
			w := newWorld(t, from, 5)
			w.live(t.Context(), 3, 80)
			cfg := transfer.Config{From: from, To: to}
			m := mover(t, cfg)
			if err := m.Copy(t.Context()); err != nil {
				t.Fatal(err)
			}
			c.damage(damaged{to, t, to.Repos.(storage.Loader)})
			_, err := m.Finish(t.Context())
			if c.says == "" {
				if err != nil {
					t.Fatal(err)
				}
				same(t, to, from)
				return
			}
			var found *transfer.VerifyError
			if !errors.As(err, &found) || !strings.Contains(err.Error(), c.says) {
				t.Fatalf("error %v", err)
			}
			w.live(t.Context(), 1, 5) // the source is in use
			if err := transfer.Enter(t.Context(), to, ""); !errors.Is(err, transfer.ErrNotReady) {
				t.Errorf("the target: %v", err)
			}
		})
	}
}

// A blob that the source has lost does not get lost on the way unnoticed.
func TestDamagedSourceBlob(t *testing.T) {
	from, to := inMemory(t), inMemory(t)
	w := newWorld(t, from, 5)
	w.live(t.Context(), 3, 80)
	did, _, _, ref := damaged{from, t, nil}.first()
	broken := from
	broken.Blobs = brokenBlob{from.Blobs, did, ref}
	cfg := transfer.Config{From: broken, To: to}
	r, err := mover(t, cfg).Finish(t.Context())
	if !errors.Is(err, transfer.ErrDamagedBlobs) || len(r.Damaged) != 1 || r.Damaged[0].CID != ref.Blob {
		t.Fatalf("%v, %+v", err, r.Damaged)
	}
	w.live(t.Context(), 1, 5)
	cfg.AcceptDamaged = true
	if r := finish(t, cfg); len(r.Damaged) != 1 {
		t.Errorf("%+v", r.Damaged)
	}
	if _, _, err := to.Blobs.Stat(t.Context(), did, ref.Blob); !errors.Is(err, storage.ErrNotFound) {
		t.Errorf("the target's blob: %v", err)
	}
}

package storagetest

import (
	"context"
	"crypto/sha256"
	"fmt"
	"slices"
	"strings"
	"time"

	"github.com/ipfs/go-cid"
	"github.com/pdskit/pdskit/car"
	"github.com/pdskit/pdskit/commit"
	"github.com/pdskit/pdskit/crypto"
	"github.com/pdskit/pdskit/internal/dag"
	"github.com/pdskit/pdskit/lexicon/data"
	"github.com/pdskit/pdskit/lexicon/syntax"
	"github.com/pdskit/pdskit/mst"
	"github.com/pdskit/pdskit/storage"
)

const collection = "com.example.note"

// start is when all accounts begin. Revisions and times of events are counted
// from here, so that histories are the same in every run.
var start = time.Date(2024, 5, 1, 12, 0, 0, 0, time.UTC)

// account makes valid changes of one repository, without storing them.
type account struct {
	did   syntax.DID
	key   *crypto.PrivateKey
	head  storage.Head
	tree  *mst.Tree
	ticks int
}

func newAccount(did syntax.DID) *account {
	seed := sha256.Sum256([]byte(did))
	key, err := crypto.ParsePrivateKey(crypto.K256, seed[:])
	if err != nil {
		panic(err) // for one seed of 2^128
	}
	return &account{did: did, key: key, tree: mst.Empty()}
}

// keyOf is the public key of an account that newAccount made.
func keyOf(did syntax.DID) *crypto.PublicKey { return newAccount(did).key.PublicKey() }

// edit sets a record (a nil Record deletes it).
type edit struct {
	path   string
	record []byte
	blobs  []cid.Cid
}

func path(name any) string { return fmt.Sprintf("%s/%v", collection, name) }

// note is an edit that writes a record which refers to blobs.
func note(name any, text string, blobs ...storage.BlobInfo) edit {
	e := edit{path: path(name)}
	list := []any{}
	for _, b := range blobs {
		list = append(list, data.Blob{Ref: b.CID, MIME: b.MIME, Size: b.Size}.Value())
		e.blobs = append(e.blobs, b.CID)
	}
	b, err := data.Encode(map[string]any{"$type": collection, "text": text, "blobs": list})
	if err != nil {
		panic(err)
	}
	e.record = b
	return e
}

func remove(name any) edit { return edit{path: path(name)} }

// step is a change that an account has made, and where it leads.
type step struct {
	storage.Change
	tree *mst.Tree
}

func (a *account) tick() time.Time {
	a.ticks++
	return start.Add(time.Duration(a.ticks) * time.Millisecond)
}

// change makes the commit of some edits, with its event.
func (a *account) change(edits ...edit) *step {
	return a.changeFrom(a.head, a.tree, edits)
}

func (a *account) changeFrom(prev storage.Head, tree *mst.Tree, edits []edit) *step {
	must := func(err error) {
		if err != nil {
			panic(err)
		}
	}
	edits = slices.SortedFunc(slices.Values(edits), func(x, y edit) int { return strings.Compare(x.path, y.path) })
	var ops []mst.Op
	var records []car.Block
	s := &step{}
	for _, e := range edits {
		rc := storage.RecordChange{Path: e.path, Data: e.record, Blobs: e.blobs}
		if e.record != nil {
			rc.CID = dag.Sum(dag.CBOR, e.record)
			records = append(records, car.Block{CID: rc.CID, Data: e.record})
		}
		s.Records = append(s.Records, rc)
		ops = append(ops, mst.Op{Key: e.path, Value: rc.CID})
	}
	delta, err := tree.Apply(ops)
	must(err)
	s.tree = delta.Tree
	now := a.tick()
	block := a.sign(s, prev, now)
	ev := commit.Event{Repo: a.did, Commit: s.Head.Commit, Rev: s.Head.Rev, Since: prev.Rev, PrevData: prev.Data, Time: now}
	for i, op := range ops {
		o := commit.Op{Action: commit.Update, Path: op.Key, CID: op.Value, Prev: delta.Prev[i]}
		switch {
		case !o.CID.Defined():
			o.Action = commit.Delete
		case !o.Prev.Defined():
			o.Action = commit.Create
		}
		ev.Ops = append(ev.Ops, o)
	}
	must(ev.SetBlocks(block, delta, records, commit.Limits{Ops: 1 << 20, Blocks: 1 << 30}))
	s.Events = []storage.Event{{DID: a.did, Kind: commit.KindCommit, Time: now, Payload: ev.Payload()}}
	return s
}

// sign fills in the head and commit of a step.
func (a *account) sign(s *step, prev storage.Head, now time.Time) car.Block {
	rev := syntax.NewTID(now, 7)
	c, block, err := commit.Sign(context.Background(), a.did, rev, s.tree.Root(), a.key)
	if err != nil {
		panic(err)
	}
	s.Prev = prev
	s.Head = storage.Head{Commit: block.CID, Data: c.Data, Rev: c.Rev}
	s.Commit = block.Data
	return block
}

// replacement makes a step for Replace, from the whole new set of records.
func (a *account) replacement(edits ...edit) (records []storage.RecordChange, s *step) {
	s = a.changeFrom(a.head, mst.Empty(), edits)
	records, s.Records = s.Records, nil
	sync := commit.Sync{DID: a.did, Rev: s.Head.Rev, Commit: car.Block{CID: s.Head.Commit, Data: s.Commit}, Time: s.Events[0].Time}
	s.Events[0].Kind, s.Events[0].Payload = commit.KindSync, sync.Payload()
	return records, s
}

// aside makes a step that leaves the records alone.
func (a *account) aside(kv ...storage.KVWrite) *step {
	return &step{tree: a.tree, Change: storage.Change{Prev: a.head, Head: a.head, KV: kv}}
}

// event makes an event that is not about records.
func (a *account) event() storage.Event {
	now := a.tick()
	id := commit.Identity{DID: a.did, Handle: syntax.Handle(fmt.Sprintf("h%d.example.com", a.ticks)), Time: now}
	return storage.Event{DID: a.did, Kind: commit.KindIdentity, Time: now, Payload: id.Payload()}
}

// gone makes the event of an account's deletion.
func (a *account) gone() storage.Event {
	now := a.tick()
	msg := commit.Account{DID: a.did, Status: "deleted", Time: now}
	return storage.Event{DID: a.did, Kind: commit.KindAccount, Time: now, Payload: msg.Payload()}
}

// took tells the account that a step was stored.
func (a *account) took(s *step) { a.head, a.tree = s.Head, s.tree }

// apply stores a step and tells the account.
func (e *env) apply(a *account, s *step) int64 {
	e.Helper()
	seq, err := e.Repos.Apply(e.ctx, a.did, &s.Change)
	e.ok(err, "Apply to %s", a.did)
	a.took(s)
	return seq
}

// write stores edits as one commit.
func (e *env) write(a *account, edits ...edit) int64 {
	e.Helper()
	return e.apply(a, a.change(edits...))
}

// replace stores a whole new set of records.
func (e *env) replace(a *account, edits ...edit) int64 {
	e.Helper()
	records, s := a.replacement(edits...)
	seq, err := e.Repos.Replace(e.ctx, a.did, stream(records, nil), func() (*storage.Change, error) { return &s.Change, nil })
	e.ok(err, "Replace %s", a.did)
	a.took(s)
	return seq
}

// stream yields records and then, if it is not nil, an error.
func stream(records []storage.RecordChange, err error) func(func(storage.RecordChange, error) bool) {
	return func(yield func(storage.RecordChange, error) bool) {
		for _, r := range records {
			r.Data = slices.Clone(r.Data)
			if !yield(r, nil) {
				return
			}
			scribble(r.Data) // good until the next step only
		}
		if err != nil {
			yield(storage.RecordChange{}, err)
		}
	}
}

// account returns an account that has no repository yet.
func (e *env) account() *account {
	e.accounts++
	return newAccount(syntax.DID(fmt.Sprintf("did:web:account%d.example", e.accounts)))
}

// newRepo returns an account with a repository of some records.
func (e *env) newRepo(edits ...edit) *account {
	e.Helper()
	a := e.account()
	e.write(a, edits...)
	return a
}

// notes are n records, named 000, 001, ….
func notes(n int) (edits []edit) {
	for i := range n {
		edits = append(edits, note(fmt.Sprintf("%03d", i), fmt.Sprint("note ", i)))
	}
	return edits
}

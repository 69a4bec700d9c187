package indexer

import (
	"context"
	"errors"
	"fmt"
	"iter"
	"net/url"
	"time"

	"github.com/pdskit/pdskit/car"
	"github.com/pdskit/pdskit/commit"
	"github.com/pdskit/pdskit/crypto"
	"github.com/pdskit/pdskit/lexicon/syntax"
	"github.com/pdskit/pdskit/mst"
	"github.com/pdskit/pdskit/storage"
	"github.com/pdskit/pdskit/xrpc"
	"github.com/pdskit/pdskit/xrpc/atproto/api"
)

// Limits on a change that comes from a repository.
const (
	chunkOps   = 1000
	chunkBytes = 1 << 20
)

// Limits on the repair of a repository by its difference: on the number of its records, and on how
// many of them may differ.
const (
	sinceRecords = 200_000
	sinceChanges = 20_000
)

// errWhole: a repair needs the whole repository.
var errWhole = errors.New("the difference is not enough")

// download reads a repository from its host, or what is new of it.
func (f *fetch) download(ctx context.Context, key *crypto.PublicKey) error {
	a := &f.d.a
	client := &xrpc.Client{Host: a.Host, HTTP: f.Hosts, Retries: -1}
	if a.State == Synchronized && a.Active && a.Filter == f.sc.records.text {
		// There may be nothing new, which costs less to know than to read.
		limited, done := context.WithTimeout(ctx, downloadStart)
		out, err := api.SyncGetLatestCommit(limited, client, api.SyncGetLatestCommitParams{DID: a.DID})
		done()
		if err == nil && out.Rev == a.Rev {
			return f.finish(ctx, commit.State{Rev: a.Rev, Data: a.Data}, nil)
		}
	}
	if a.Rev != "" && a.State != Pending && a.Filter == "*" && f.sc.records.all {
		err := f.get(ctx, client, a.Rev, func(s *spool) error { return f.since(ctx, s, key) })
		if !errors.Is(err, errWhole) {
			if err == nil {
				f.count.repairs.Add(1)
			}
			return err
		}
		f.Log.Info("a repository is read as a whole", "did", a.DID, "reason", err)
	}
	return f.get(ctx, client, "", func(s *spool) error { return f.replaceAll(ctx, s, key) })
}

// get downloads a CAR file. The connection is closed when it is read.
func (f *fetch) get(ctx context.Context, client *xrpc.Client, since syntax.TID, use func(*spool) error) error {
	q := url.Values{"did": {string(f.d.a.DID)}}
	if since != "" {
		q.Set("since", string(since))
	}
	s := &spool{}
	defer s.close()
	if err := func() error {
		limited, p := newPace(ctx)
		f.jobs.setPace(f.j, p)
		defer func() {
			f.jobs.setPace(f.j, nil)
			p.timer.Stop()
			p.cancel()
		}()
		resp, err := client.Get(limited, api.SyncGetRepoNSID, q)
		if err != nil {
			var xerr *xrpc.Error
			if errors.As(err, &xerr) {
				return err
			}
			return downloadError(err)
		}
		defer resp.Body.Close()
		p.Reader = resp.Body
		return s.fill(p, f.maxRepo(), f.Temp)
	}(); err != nil {
		return err
	}
	return use(s)
}

func (f *fetch) maxRepo() int64 {
	if f.MaxRepo > 0 {
		return f.MaxRepo
	}
	return 4 << 30
}

// plausible checks what a repository's commit says against what is known.
func (f *fetch) plausible(rev syntax.TID) error {
	if rev < f.d.a.Rev {
		return fmt.Errorf("the host has revision %s, which is older than %s", rev, f.d.a.Rev)
	}
	if ahead := commit.Ahead(rev, f.Now(), 0); ahead > 0 {
		return fmt.Errorf("revision %s is in the future", rev)
	}
	return nil
}

// replaceAll takes the CAR file of a whole repository. It is verified to its end before anything is
// used.
func (f *fetch) replaceAll(ctx context.Context, s *spool, key *crypto.PublicKey) error {
	open := func() (*commit.RepoReader, error) {
		return commit.ReadRepo(s.reader(), commit.RepoOptions{
			DID: f.d.a.DID, Key: key, CAR: car.Limits{TotalBytes: f.maxRepo()}, Records: 4 * f.maxRepo(), Temp: f.Temp,
			CheckRecord: func(string, []byte) error { return nil }, // there are old records that break later rules
		})
	}
	r, err := open()
	if err != nil {
		return err
	}
	defer r.Close()
	c := r.Commit()
	if err := f.plausible(c.Rev); err != nil {
		return err
	}
	return f.compare(ctx, commit.State{Rev: c.Rev, Data: c.Data}, r.Records(), func() (iter.Seq2[commit.RepoRecord, error], func(), error) {
		again, err := open()
		if err != nil {
			return nil, nil, err
		}
		return again.Records(), func() { again.Close() }, nil
	})
}

// compare brings the sink to a state of the repository. records is read to its end, and must have
// verified all by then. If there is too much to do for one change, they are read again.
func (f *fetch) compare(ctx context.Context, next commit.State, records iter.Seq2[commit.RepoRecord, error],
	again func() (iter.Seq2[commit.RepoRecord, error], func(), error)) error {
	var ops []Op
	size, fits, signaled := 0, true, false
	seen := func(yield func(commit.RepoRecord, error) bool) {
		for rec, err := range records {
			signaled = signaled || err == nil && f.sc.signal.hasPath(rec.Path)
			if !yield(rec, err) {
				return
			}
		}
	}
	err := f.diff(ctx, next.Rev, seen, func(op Op) error {
		if fits = fits && len(ops) < chunkOps && size < chunkBytes; !fits {
			ops = nil
			return errFull
		}
		op.Record = append([]byte(nil), op.Record...)
		ops, size = append(ops, op), size+len(op.Record)+256
		return nil
	})
	if err != nil {
		return err
	}
	if a := f.d.a; !signaled && !f.sc.All && !a.Tracked && !f.sc.dids[a.DID] {
		return f.unsignaled(ctx)
	}
	if fits {
		return f.finish(ctx, next, ops)
	}
	records, done, err := again()
	if err != nil {
		return err
	}
	defer done()
	return f.chunks(ctx, next, func(emit func(Op) error) error { return f.diff(ctx, next.Rev, records, emit) })
}

// unsignaled removes an account that was listed, but has no record of Signal, or none any more,
// unless it may have got one meanwhile. Then it stays due.
func (f *fetch) unsignaled(ctx context.Context) (err error) {
	f.lanes.do(f.j.did, func() {
		kept, again := f.jobs.close(f.j)
		for _, it := range kept {
			e, ok := it.message.(*commit.Event)
			again = again || !ok || f.sc.signals(e.Ops)
		}
		if err = errBusy; !again && f.sc == f.scope.Load() {
			err = f.remove(ctx, Removed)
		}
	})
	return err
}

// errFull tells diff that only the rest of the records is to be read.
var errFull = errors.New("full")

// chunks applies operations in changes of a bounded size, of which the last one brings the account
// to its new state. If it is broken off, the next comparison has what is left.
func (f *fetch) chunks(ctx context.Context, next commit.State, produce func(emit func(Op) error) error) error {
	var ops []Op
	size := 0
	err := produce(func(op Op) error {
		if len(ops) >= chunkOps || size >= chunkBytes {
			f.d.a.State = Desynchronized // not pending: it has records
			f.d.ops = ops
			if err := f.put(ctx); err != nil {
				return err
			}
			ops, size = ops[:0], 0
		}
		op.Record = append([]byte(nil), op.Record...)
		ops, size = append(ops, op), size+len(op.Record)+256
		return nil
	})
	if err != nil {
		return err
	}
	return f.finish(ctx, next, ops)
}

// finish brings the account to its new state, with the commits that came meanwhile.
func (f *fetch) finish(ctx context.Context, next commit.State, ops []Op) (err error) {
	f.lanes.do(f.j.did, func() {
		ctx := inLane(ctx)
		kept, overflowed := f.jobs.close(f.j)
		d := f.d
		d.ops = ops
		if !d.a.Active { // its host gives it out
			d.a.Active, d.a.Status, d.notify = true, "", true
		}
		d.a.State, d.a.Rev, d.a.Data, d.a.Filter = Synchronized, next.Rev, next.Data, f.sc.records.text
		d.a.Due, d.a.Read, d.a.Tries, d.a.Error, d.changed = time.Time{}, f.Now(), 0, "", true
		for _, it := range kept {
			if d.a.State != Synchronized {
				break
			}
			switch m := it.message.(type) {
			case *commit.Event:
				f.verified(ctx, d, it.src, m, false)
			case *commit.Sync:
				f.run.sync(ctx, d, it, m)
			}
		}
		if overflowed && d.a.State == Synchronized {
			d.a.State = Desynchronized
			d.due(f.Now())
		}
		if f.sc != f.scope.Load() {
			d.due(f.Now()) // what was read may not be what is wanted now
		}
		if err = ctx.Err(); err == nil {
			err = f.put(ctx)
		}
		if err == nil {
			f.recheck(ctx, &f.d.a, f.sc)
		}
	})
	return err
}

// diff emits the operations that lead from what the sink has to a repository.
func (f *fetch) diff(ctx context.Context, rev syntax.TID, records iter.Seq2[commit.RepoRecord, error], emit func(Op) error) error {
	did := f.d.a.DID
	have := &pages{ctx: ctx, sink: f.Sink, did: did}
	full := false
	put := func(op Op, path string) (err error) {
		op.DID, op.Rev = did, rev
		if op.Collection, op.RKey, err = syntax.ParsePath(path); err != nil {
			return err
		}
		if err = emit(op); err == errFull {
			full = true
			return nil
		}
		return err
	}
	for rec, err := range records {
		if err != nil {
			return err
		}
		if ctx.Err() != nil {
			return ctx.Err()
		}
		if full || !f.sc.records.hasPath(rec.Path) {
			continue
		}
		op := Op{Action: commit.Create, CID: rec.CID, Record: rec.Data}
		for {
			old, ok, err := have.peek()
			if err != nil {
				return err
			}
			if !ok || old.Key > rec.Path {
				break
			}
			have.next()
			if old.Key == rec.Path {
				op.Action, op.Prev = commit.Update, old.Value
				break
			}
			if err := put(Op{Action: commit.Delete, Prev: old.Value}, old.Key); err != nil {
				return err
			}
		}
		if op.Prev == op.CID {
			continue
		}
		if err := put(op, rec.Path); err != nil {
			return err
		}
	}
	for !full {
		old, ok, err := have.peek()
		if err != nil {
			return err
		}
		if !ok {
			return nil
		}
		have.next()
		if err := put(Op{Action: commit.Delete, Prev: old.Value}, old.Key); err != nil {
			return err
		}
	}
	return nil
}

// pages reads the records that a sink has, a page at a time, so that nothing of the sink is held
// for longer. Operations on records before the place do not disturb it.
type pages struct {
	ctx  context.Context
	sink Sink
	did  syntax.DID
	page []mst.Entry
	last string
	end  bool
}

const pageRecords = 1000

func (p *pages) peek() (mst.Entry, bool, error) {
	if len(p.page) == 0 && !p.end {
		page, err := p.sink.Records(p.ctx, p.did, p.last, pageRecords)
		if err != nil {
			return mst.Entry{}, false, err
		}
		p.end = len(page) < pageRecords
		if p.page = page; len(page) > 0 {
			p.last = page[len(page)-1].Key
		}
	}
	if len(p.page) == 0 {
		return mst.Entry{}, false, nil
	}
	return p.page[0], true, nil
}

func (p *pages) next() { p.page = p.page[1:] }

// all yields all of them.
func (p *pages) all(yield func(mst.Entry, error) bool) {
	for {
		e, ok, err := p.peek()
		if err != nil {
			yield(e, err)
			return
		}
		if !ok {
			return
		}
		p.next()
		if !yield(e, nil) {
			return
		}
	}
}

// remove deletes all records of an account, and then the account or what is known of its
// repository.
func (f *fetch) remove(ctx context.Context, state State) error {
	if err := f.empty(ctx, state); err != nil {
		return err
	}
	return f.put(ctx)
}

// removeAccount removes an account that is not in the scope. By another scope, which came
// meanwhile, it may be in it: then it stays due. Who looks for the accounts of that scope has the
// lane before this, and finds the account, or after, and adds it again.
func (f *fetch) removeAccount(ctx context.Context) (err error) {
	if err = f.empty(ctx, Removed); err != nil {
		return err
	}
	f.lanes.do(f.j.did, func() {
		if err = errBusy; f.sc == f.scope.Load() {
			err = f.put(inLane(ctx))
		}
	})
	return err
}

// empty deletes all records of an account, and leaves the last operations in the draft, with the
// state that the account has afterwards.
func (f *fetch) empty(ctx context.Context, state State) error {
	have := &pages{ctx: ctx, sink: f.Sink, did: f.d.a.DID}
	if f.d.a.State == Synchronized {
		f.d.a.State = Desynchronized
	}
	if err := f.deletes(ctx, have, func(string) bool { return true }); err != nil {
		return err
	}
	f.d.a.State, f.d.a.Rev, f.d.a.Data, f.d.a.Due, f.d.a.Tries = state, "", noCID, time.Time{}, 0
	f.d.notify = state == Removed
	return nil
}

// trim deletes the records of collections that are not in the scope any more.
func (f *fetch) trim(ctx context.Context) error {
	have := &pages{ctx: ctx, sink: f.Sink, did: f.d.a.DID}
	// Until all are deleted, the sink has the records of neither filter.
	f.d.a.State = Desynchronized
	if err := f.deletes(ctx, have, func(path string) bool { return !f.sc.records.hasPath(path) }); err != nil {
		return err
	}
	if f.d.a.Active {
		ops := f.d.ops
		f.d.ops = nil
		return f.finish(ctx, commit.State{Rev: f.d.a.Rev, Data: f.d.a.Data}, ops)
	}
	a := &f.d.a // it is read when it is active again
	a.State, a.Filter, a.Due = Synchronized, f.sc.records.text, time.Time{}
	if err := f.put(ctx); err != nil {
		return err
	}
	f.lanes.do(f.j.did, func() { f.recheck(inLane(ctx), &f.d.a, f.sc) })
	return nil
}

// deletes deletes some of the records, and leaves the last operations in the draft.
func (f *fetch) deletes(ctx context.Context, have *pages, which func(path string) bool) error {
	for e, err := range have.all {
		if err != nil {
			return err
		}
		if !which(e.Key) {
			continue
		}
		if len(f.d.ops) >= chunkOps {
			if err := f.put(ctx); err != nil {
				return err
			}
		}
		op := Op{DID: f.d.a.DID, Rev: f.d.a.Rev, Action: commit.Delete, Prev: e.Value}
		if op.Collection, op.RKey, err = syntax.ParsePath(e.Key); err != nil {
			return err
		}
		f.d.ops = append(f.d.ops, op)
	}
	return nil
}

// local reads a repository from a store in the process. It returns false if that does not have it.
func (f *fetch) local(ctx context.Context, s *source) (found bool, err error) {
	head, err := s.Local.Repos.Head(ctx, f.d.a.DID)
	if errors.Is(err, storage.ErrNotFound) || err == nil && head.Rev == "" {
		return false, nil
	}
	if err != nil {
		return false, err
	}
	var key *crypto.PublicKey
	if !s.Trusted || f.Handles {
		doc, err := f.lookUp(ctx, f.d)
		if err != nil && !s.Trusted {
			return true, err
		}
		if !s.Trusted {
			if key, err = doc.SigningKey(); err != nil {
				return true, err
			}
		}
	}
	missing := false
	err = s.Local.Repos.View(ctx, f.d.a.DID, func(r storage.Reader) error {
		head := r.Head()
		if err := f.plausible(head.Rev); err != nil {
			return err
		}
		if key != nil {
			if missing, err = checkHead(ctx, r, f.d.a.DID, key); err != nil || missing {
				return err
			}
		}
		records := func(yield func(commit.RepoRecord, error) bool) {
			for rec, err := range r.Records(ctx, storage.Range{}) {
				if !yield(commit.RepoRecord{Path: rec.Path, CID: rec.CID, Data: rec.Data}, err) {
					return
				}
			}
		}
		return f.compare(ctx, commit.State{Rev: head.Rev, Data: head.Data}, records, func() (iter.Seq2[commit.RepoRecord, error], func(), error) {
			return records, func() {}, nil
		})
	})
	return !missing, err
}

// checkHead verifies the records of a store against their signed commit. missing: it is the store
// of a relay, which keeps no records.
func checkHead(ctx context.Context, r storage.Reader, did syntax.DID, key *crypto.PublicKey) (missing bool, err error) {
	block, err := r.Commit(ctx)
	if err != nil {
		return false, err
	}
	c, err := commit.Parse(block)
	if err != nil {
		return false, err
	}
	if c.DID != did || c.Rev != r.Head().Rev || c.Data != r.Head().Data {
		return false, errors.New("the head of the store is not that of its commit")
	}
	if err := c.Verify(key); err != nil {
		return false, err
	}
	n := 0
	root, err := mst.RootOf(func(yield func(mst.Entry, error) bool) {
		for rec, err := range r.Records(ctx, storage.Range{}) {
			n++
			if !yield(mst.Entry{Key: rec.Path, Value: rec.CID}, err) {
				return
			}
		}
	})
	switch {
	case err != nil:
		return false, err
	case root == c.Data:
		return false, nil
	case n == 0:
		return true, nil
	}
	return false, fmt.Errorf("the records of the store have the root %s, the commit says %s", root, c.Data)
}

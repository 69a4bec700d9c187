package repo

import (
	"bytes"
	"context"
	"errors"
	"fmt"
	"io"
	"iter"
	"math"
	"slices"
	"strings"
	"time"

	"github.com/ipfs/go-cid"
	"github.com/pdskit/pdskit/car"
	"github.com/pdskit/pdskit/commit"
	"github.com/pdskit/pdskit/crypto"
	"github.com/pdskit/pdskit/internal/spool"
	"github.com/pdskit/pdskit/lexicon/data"
	"github.com/pdskit/pdskit/lexicon/syntax"
	"github.com/pdskit/pdskit/mst"
	"github.com/pdskit/pdskit/storage"
)

// ErrInvalidImport: the CAR file of an import is not a valid export of the account's repository.
// The error is an *ImportError.
var ErrInvalidImport = errors.New("repo: invalid import")

// ErrImportKeys: an [Import] sets neither Keys nor Unverified, or both.
var ErrImportKeys = errors.New("repo: an import needs either Keys or Unverified")

// errImportsBusy: another import of the account, or too many of other accounts, took longer than an
// import waits.
var errImportsBusy = fmt.Errorf("%w: too many imports at once", ErrBusy)

// maxFaults is how many faults an ImportError lists.
const maxFaults = 100

// ImportError lists what is wrong with the CAR file of an import. It matches ErrInvalidImport.
type ImportError struct {
	// Faults are the first 100 faults, in the order in which they were found. errors.Is and
	// errors.As find the errors of packages commit, car, mst and lexicon/data in them.
	Faults []error
	// More is how many further faults were found. A fault that ends the reading, such as a
	// truncated or too large file, hides those behind it.
	More int
}

func (e *ImportError) Error() string {
	msg := ErrInvalidImport.Error()
	for i, fault := range e.Faults {
		sep := "; "
		if i == 0 {
			sep = ": "
		}
		const most = 120 // of one fault, so that the whole list fits in an answer
		text := strings.TrimPrefix(fault.Error(), commit.ErrRepo.Error()+": ")
		if len(e.Faults) > 1 && len(text) > most {
			text = strings.ToValidUTF8(text[:most], "") + "…"
		}
		msg += sep + text
	}
	if e.More > 0 {
		msg += fmt.Sprintf("; and %d more", e.More)
	}
	return msg
}

func (e *ImportError) Unwrap() []error { return e.Faults }

// Is reports whether target is ErrInvalidImport.
func (e *ImportError) Is(target error) bool { return target == ErrInvalidImport }

func (e *ImportError) add(fault error) {
	if len(e.Faults) < maxFaults {
		e.Faults = append(e.Faults, fault)
	} else {
		e.More++
	}
}

// ImportLimits bounds an import. Zero fields mean the defaults.
type ImportLimits struct {
	// CAR bounds the file.
	CAR car.Limits
	// Expanded bounds the size of the imported repository in a store: the bytes of its records,
	// with a record that several paths link to counted once for each path, of its paths, and of its
	// references to blobs, as [storage.RecordChange.Cost] counts them. Default: 64 MiB plus eight
	// times the length of the file, several times what honest repositories need.
	Expanded int64
	// Records bounds the number of records. A tree in memory takes 110 bytes for each record, and
	// more if paths are longer than 40 bytes; then fewer records are allowed. Default 2,500,000.
	Records int
}

func (l ImportLimits) withDefaults(file int64) ImportLimits {
	if l.Expanded == 0 {
		l.Expanded = 64<<20 + 8*file
	}
	if l.Records == 0 {
		l.Records = 2_500_000
	}
	return l
}

// Import holds the options of [Host.Import]. Either Keys or Unverified must be set.
type Import struct {
	// Keys are public keys of the account. One of them must have signed the file's commit. Some
	// servers keep the commit that the account's previous server signed, so include the earlier
	// keys of the DID.
	Keys []*crypto.PublicKey
	// Unverified skips the check of the signature. Use it for files that are known by other means
	// to be the account's, or if the account itself may write anything.
	Unverified bool
	Limits     ImportLimits
	// Events, Checks and KV are part of the same atomic change: see [Batch].
	Events []storage.Event
	Checks []storage.KVCheck
	KV     []storage.KVWrite
	// Guard, if not nil, is called when the file has arrived, and decides whether it may still be
	// imported.
	Guard Guard
	// Sync adds a #sync event. An import never makes a #commit event, since it has no list of
	// changed records.
	Sync bool
	// Rewind sets the new revision to the present time if the repository's revision lies so far in
	// the future that the network ignores it (see [commit.DefaultDrift]). Without Rewind, the new
	// revision always follows the old one.
	//
	// This repairs an account after a clock that was ahead: import what Export wrote, with Rewind
	// and Sync. Followers that ignored the revisions from the future, as the specification demands,
	// accept the new one at once. Followers that accepted them ignore the account until the time of
	// the old revision has come.
	//
	// The clock must be right. A clock that is behind would take good revisions for ones from the
	// future.
	Rewind bool
}

// Import replaces all records of a repository by those of a CAR file, or creates the repository
// with them. The blocks of the file may have any order. The file is verified as a whole: the
// repository must be that of did, each block must match its CID, the tree must be well-formed, each
// record canonical.
//
// The new commit is signed with the account's key on this host. Its revision is later than the old
// head's and the file's. If the revision of the file lies so far in the future that the network
// ignores it ([commit.DefaultDrift]), it is ignored here too and returned as Result.Ahead.
//
// Records that break the present rules of the data model are kept byte for byte if they are maps in
// well-formed CBOR: see [data.RecordRefs]. Result.Legacy counts them. Records may refer to blobs
// that are not here yet: see [Host.MissingBlobs].
//
// The file is first spooled (Config.Temp), so a slow upload blocks nobody. It is then read twice:
// it is completely verified before anything is written. Readers see either all new records or none.
// Other accounts can be written to during the import; writes to this account wait. Memory does not
// grow with the file.
//
// One import for each account, and Config.Imports in all, are processed at a time. Others wait up
// to Config.ImportWait and then fail with [ErrBusy].
//
// If the file is not valid, nothing is changed, and the error is [ErrInvalidImport].
func (h *Host) Import(ctx context.Context, did syntax.DID, r io.Reader, in Import) (Result, error) {
	if in.Unverified == (len(in.Keys) > 0) || slices.Contains(in.Keys, nil) {
		return Result{}, ErrImportKeys
	}
	if r == nil {
		return Result{}, errNoReader
	}
	if err := checkAside(in.Events, in.KV); err != nil {
		return Result{}, err
	}
	done, err := h.imports.begin(ctx, did)
	if err != nil {
		return Result{}, err
	}
	defer done()
	limit := in.Limits.CAR.TotalBytes
	if limit == 0 {
		limit = 16 << 30
	}
	limit = min(limit, math.MaxInt64-1)
	file, err := h.spool.Create(limit + 1) // one more shows that there are too many
	if err != nil {
		return Result{}, roomError(err)
	}
	defer file.Close()
	size, err := file.ReadFrom(io.LimitReader(r, limit+1))
	if err != nil {
		return Result{}, roomError(err)
	} else if size > limit {
		return Result{}, &ImportError{Faults: []error{fmt.Errorf("more than %d bytes", limit)}}
	}
	in.Limits = in.Limits.withDefaults(size)

	leave, err := h.imports.enter(ctx)
	if err != nil {
		return Result{}, err
	}
	defer leave()
	v := verification{h: h, ctx: ctx, in: &in}
	if err := v.run(file.Reader(), did); err != nil {
		return Result{}, roomError(err)
	}
	unlock, err := h.locks.lock(ctx, did)
	if err != nil {
		return Result{}, err
	}
	defer unlock()
	h.cache.drop(did)
	for try := 0; ; try++ {
		res, err := h.importFile(ctx, did, file.Reader(), &in)
		if err == nil {
			res.Legacy = v.legacy
		}
		if !errors.Is(err, storage.ErrConflict) || try == maxRetries || !h.stillSo(ctx, did, in.Checks) {
			return res, roomError(err)
		}
	}
}

// stillSo reports whether checks of an account hold. After a conflict it tells whether it was they
// that failed: then there is no use in another attempt.
func (h *Host) stillSo(ctx context.Context, did syntax.DID, checks []storage.KVCheck) bool {
	err := h.View(ctx, did, func(r storage.Reader) error {
		for _, c := range checks {
			v, err := r.Get(ctx, c.Key)
			if err != nil && !errors.Is(err, storage.ErrNotFound) {
				return err
			}
			if found := err == nil; found != (c.Value != nil) || !bytes.Equal(v, c.Value) {
				return storage.ErrConflict
			}
		}
		return nil
	})
	return err == nil
}

// verification is the first reading of a file, which finds all faults.
type verification struct {
	h   *Host
	ctx context.Context
	in  *Import

	faults   ImportError
	fatal    error // ends the reading
	records  int
	legacy   int
	expanded int64
	tree     int64 // the sum of treeBytes

	// Of the record that was checked last.
	refs     []cid.Cid
	isLegacy bool
}

// run verifies a file.
func (v *verification) run(file io.ReadSeeker, did syntax.DID) error {
	rd, err := commit.ReadRepo(file, commit.RepoOptions{
		CAR: v.in.Limits.CAR, Records: v.in.Limits.Expanded, Temp: v.h.temp, Hold: v.h.spool.Hold(), CheckRecord: v.check, Fault: v.fault,
	})
	if err == nil {
		defer rd.Close()
		v.commit(rd.Commit(), did)
		for rec, recErr := range rd.Records() {
			if err = recErr; err == nil {
				err = v.count(&rec)
			}
			if err != nil {
				break
			}
		}
	}
	switch {
	case v.ctx.Err() != nil:
		return v.ctx.Err()
	case v.fatal != nil:
		v.faults.add(v.fatal)
	case errors.As(err, new(*spool.FileError)), errors.Is(err, spool.ErrFull): // of our own files
		return err
	case err != nil:
		v.faults.add(err)
	}
	if len(v.faults.Faults) > 0 {
		return &v.faults
	}
	return nil
}

// commit checks whose repository it is.
func (v *verification) commit(c commit.Commit, did syntax.DID) {
	if c.DID != did {
		v.faults.add(fmt.Errorf("it is the repository of %s, not of %s", c.DID, did))
	}
	if !signedBy(c, v.in.Keys) {
		v.faults.add(errors.New("the commit is not signed by a key of the account"))
	}
}

// fault notes a fault and reports whether reading goes on.
func (v *verification) fault(err error) bool {
	if v.ctx.Err() != nil || v.fatal != nil {
		return false
	}
	v.faults.add(err)
	return true
}

// check checks a record.
func (v *verification) check(path string, record []byte) (err error) {
	if _, _, err := syntax.ParsePath(path); err != nil {
		return err
	}
	v.refs, v.isLegacy, err = data.RecordRefs(record)
	return err
}

// count counts what a record that was checked adds up to, and ends the reading when that is too
// much.
func (v *verification) count(rec *commit.RepoRecord) error {
	if v.isLegacy {
		v.legacy++
	}
	change := storage.RecordChange{Path: rec.Path, Data: rec.Data, Blobs: v.refs}
	v.records++
	v.expanded += change.Cost()
	v.tree += treeBytes(rec.Path)
	switch lim := &v.in.Limits; {
	case v.records > lim.Records:
		v.fatal = fmt.Errorf("record %s: more than %d records", rec.Path, lim.Records)
	case v.tree/recordBytes > int64(lim.Records):
		v.fatal = fmt.Errorf("record %s: the paths of the records take more than the memory of %d usual ones", rec.Path, lim.Records)
	case v.expanded > lim.Expanded:
		v.fatal = fmt.Errorf("record %s: the records stand for more than %d bytes", rec.Path, lim.Expanded)
	case v.ctx.Err() != nil:
		return v.ctx.Err()
	}
	return v.fatal
}

// importFile is one attempt to store a file that was verified.
func (h *Host) importFile(ctx context.Context, did syntax.DID, file io.ReadSeeker, in *Import) (Result, error) {
	prev, err := h.store.Repos.Head(ctx, did)
	if err != nil && !errors.Is(err, storage.ErrNotFound) {
		return Result{}, err
	}
	rd, err := commit.ReadRepo(file, commit.RepoOptions{
		DID: did, CAR: in.Limits.CAR, Records: in.Limits.Expanded, Temp: h.temp, Hold: h.spool.Hold(),
		CheckRecord: func(string, []byte) error { return nil }, // it was checked
	})
	if err != nil {
		return Result{}, err
	}
	defer rd.Close()
	last, fileRev := prev.Rev, rd.Commit().Rev
	if in.Rewind && commit.Ahead(last, h.now(), 0) > 0 {
		last = ""
	}
	// The tree is made when it is wanted: here its root is enough.
	var b mst.Builder
	res := Result{Changed: true}
	if commit.Ahead(fileRev, h.now(), 0) > 0 {
		res.Ahead = fileRev
	} else {
		last = max(last, fileRev)
	}
	checks := in.Checks
	if in.Guard != nil && prev != (storage.Head{}) {
		guarded, err := h.checkGuard(ctx, did, in.Guard)
		if err != nil {
			return Result{}, err
		}
		checks = append(slices.Clip(checks), guarded...)
	}
	if prev != (storage.Head{}) {
		unswept, err := h.unswept(ctx, did)
		if err != nil {
			return Result{}, err
		}
		checks = append(slices.Clip(checks), unswept...)
	}
	final := func() (*storage.Change, error) {
		root, err := b.Root()
		if err != nil {
			return nil, err
		}
		s, err := h.sign(ctx, did, nil, last, root)
		if err != nil {
			return nil, err
		}
		res.Head = s.head
		change := &storage.Change{Prev: prev, Head: s.head, Commit: s.block, Events: in.Events, Checks: append(slices.Clip(checks), s.checks...), KV: in.KV}
		if in.Sync {
			change.Events = append(change.Events[:len(change.Events):len(change.Events)], h.syncEvent(did, s.head, s.block))
		}
		return change, nil
	}
	res.Seq, err = h.store.Repos.Replace(ctx, did, h.imported(ctx, did, rd.Records(), &b), final)
	if err != nil {
		if errors.Is(err, storage.ErrConflict) && h.stale != nil {
			h.stale(did)
		}
		return Result{}, err
	}
	return res, nil
}

// signedBy reports whether one of the keys, if there are any, signed a commit.
func signedBy(c commit.Commit, keys []*crypto.PublicKey) bool {
	for _, key := range keys {
		if c.Verify(key) == nil {
			return true
		}
	}
	return len(keys) == 0
}

// imported passes on the records of a file and adds them to the tree.
func (h *Host) imported(ctx context.Context, did syntax.DID, records iter.Seq2[commit.RepoRecord, error], b *mst.Builder) iter.Seq2[storage.RecordChange, error] {
	return func(yield func(storage.RecordChange, error) bool) {
		for rec, err := range records {
			change := storage.RecordChange{Path: rec.Path, CID: rec.CID, Data: rec.Data}
			if err == nil {
				if err = b.Add(rec.Path, rec.CID); err == nil {
					change.Blobs, err = h.importedBlobs(ctx, did, &rec)
				}
			}
			if !yield(change, err) || err != nil {
				return
			}
		}
	}
}

// importedBlobs returns the blobs that a record refers to, in either
// form. Those that are here already become permanent.
func (h *Host) importedBlobs(ctx context.Context, did syntax.DID, rec *commit.RepoRecord) ([]cid.Cid, error) {
	refs, _, err := data.RecordRefs(rec.Data)
	if err != nil {
		return nil, err
	}
	for _, ref := range refs {
		switch _, promoted, err := h.store.Blobs.Stat(ctx, did, ref); {
		case errors.Is(err, storage.ErrNotFound):
		case err != nil:
			return nil, err
		case !promoted:
			if err := h.store.Blobs.Promote(ctx, did, ref); err != nil {
				return nil, err
			}
		}
	}
	return refs, nil
}

// importQueue keeps few imports under way at once.
type importQueue struct {
	accounts keyedLocks
	slots    chan struct{} // has room for as many as may be worked on
	wait     time.Duration
}

// begin waits until no other import of the account is under way.
func (q *importQueue) begin(ctx context.Context, did syntax.DID) (done func(), err error) {
	wait, cancel := context.WithTimeout(ctx, q.wait)
	defer cancel()
	if done, err = q.accounts.lock(wait, did); err != nil && ctx.Err() == nil {
		err = errImportsBusy
	}
	return done, err
}

// enter waits until few enough imports are worked on.
func (q *importQueue) enter(ctx context.Context) (leave func(), err error) {
	timer := time.NewTimer(q.wait)
	defer timer.Stop()
	select {
	case q.slots <- struct{}{}:
		return func() { <-q.slots }, nil
	case <-timer.C:
		return nil, errImportsBusy
	case <-ctx.Done():
		return nil, ctx.Err()
	}
}

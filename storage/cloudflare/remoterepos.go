package cloudflare

import (
	"bytes"
	"context"
	"errors"
	"fmt"
	"iter"
	"sync"

	"github.com/ipfs/go-cid"

	"github.com/pdskit/pdskit/internal/cbor"
	"github.com/pdskit/pdskit/lexicon/syntax"
	"github.com/pdskit/pdskit/storage"
)

const (
	methodRepoRead   = "repo.read"
	methodRepoApply  = "repo.apply"
	methodRepoDelete = "repo.delete"
	methodRepoList   = "repo.list"
)

// RemoteRepos are the repositories of other objects. It is for the parts of an account that are not
// records: names, sessions, status. Reading or replacing records must be done in the account's
// object; here it fails with ErrElsewhere. Do not copy it after its first use.
//
// After an error, a change may have been stored in the account's object although the directory does
// not know it, until an alarm delivers it. So before the account is read again, the change is
// delivered, or the read fails. What is then read is the outcome of the change.
type RemoteRepos struct {
	// Directory answers with [AnswerRepos] for the store of the directory's entries: heads, and the
	// keys that Mirror names (see durable.Config). Accounts without an entry have no object.
	Directory Call
	Mirror    func(key string) bool
	// Account returns the object of an account. It answers with AnswerRepos for its own store.
	Account func(did syntax.DID) Call

	// uncertain are the accounts whose last change failed, each with a *byte of its own. There are
	// no more of them than changes that failed while this program ran and that nobody read after.
	uncertain sync.Map
}

var _ storage.Repos = (*RemoteRepos)(nil)

// ErrElsewhere: only the account's own object supports this.
var ErrElsewhere = errors.New("cloudflare: records are read in the account's own object")

// Head implements storage.Repos.
func (x *RemoteRepos) Head(ctx context.Context, did syntax.DID) (head storage.Head, err error) {
	err = x.View(ctx, did, func(r storage.Reader) error {
		if head = r.Head(); head == (storage.Head{}) {
			return fmt.Errorf("%w: repository %s", storage.ErrNotFound, did)
		}
		return nil
	})
	return head, err
}

// View implements storage.Repos. It reads from the directory the keys that it has copies of, and
// everything else from the account's object.
func (x *RemoteRepos) View(ctx context.Context, did syntax.DID, fn func(storage.Reader) error) error {
	if err := x.resolveUncertain(ctx, did); err != nil {
		return err
	}
	v := &remoteView{repos: x, did: did, q: &queries{}}
	v.call = x.Directory
	v.q.ask = v.ask
	query := headQuery()
	head, err := v.ask(ctx, nil, query)
	if err != nil {
		return busy(err)
	}
	r := cbor.NewReader(head)
	v.head = readHead(r)
	if err := r.Done(); err != nil {
		return err
	}
	v.noteHead = func() { v.q.note(query, head) }
	return busy(fn(v))
}

func headQuery() []byte { return cbor.AppendUint(cbor.AppendArray(nil, 1), queryHead) }

// markUncertain is called with the error of a change of an account.
func (x *RemoteRepos) markUncertain(did syntax.DID, err error) {
	if err != nil {
		x.uncertain.Store(did, new(byte))
	}
}

// resolveUncertain finds out what has come of a change that failed: the account's object answers
// nothing before it has told the directory.
func (x *RemoteRepos) resolveUncertain(ctx context.Context, did syntax.DID) error {
	doubt, ok := x.uncertain.Load(did)
	if !ok {
		return nil
	}
	v := &remoteView{repos: x, did: did}
	v.switchToAccount()
	if _, err := v.ask(ctx, nil, headQuery()); err != nil && !errors.Is(err, storage.ErrNotFound) {
		return busy(fmt.Errorf("whether %s has been changed: %w", did, err))
	}
	x.uncertain.CompareAndDelete(did, doubt) // another change may have failed meanwhile
	return nil
}

// remoteView is a snapshot of an account.
type remoteView struct {
	repos     *RemoteRepos
	did       syntax.DID
	q         *queries
	call      Call
	atAccount bool // at the account's object
	head      storage.Head
	noteHead  func() // notes that the head was looked at; nil: it is noted
}

func (v *remoteView) ask(ctx context.Context, seen []seenQuery, query []byte) ([]byte, error) {
	b := cbor.AppendText(cbor.AppendArray(nil, 3), string(v.did))
	return remote{v.call}.bytes(ctx, methodRepoRead, cbor.AppendBytes(appendSeen(b, seen), query))
}

// go on at the account's object, for what the directory does not have.
func (v *remoteView) switchToAccount() {
	if !v.atAccount {
		v.atAccount, v.call = true, v.repos.Account(v.did)
	}
}

// Head implements storage.Reader.
func (v *remoteView) Head() storage.Head {
	if v.noteHead != nil {
		v.noteHead()
		v.noteHead = nil
	}
	return v.head
}

// Commit implements storage.Reader.
func (v *remoteView) Commit(ctx context.Context) ([]byte, error) {
	v.switchToAccount()
	answer, err := v.q.do(ctx, cbor.AppendUint(cbor.AppendArray(nil, 1), queryCommit))
	if err != nil {
		return nil, err
	}
	r := cbor.NewReader(answer)
	block := readValue(r)
	if err := r.Done(); err != nil {
		return nil, err
	}
	if block == nil {
		return nil, fmt.Errorf("%w: repository %s", storage.ErrNotFound, v.did)
	}
	return bytes.Clone(block), nil
}

// Get implements storage.Reader.
func (v *remoteView) Get(ctx context.Context, key string) ([]byte, error) {
	if v.repos.Mirror == nil || !v.repos.Mirror(key) {
		v.switchToAccount()
	}
	return v.q.Get(ctx, key)
}

// Keys implements storage.Reader.
func (v *remoteView) Keys(ctx context.Context, rng storage.Range) iter.Seq2[storage.KVPair, error] {
	v.switchToAccount()
	return v.q.Keys(ctx, rng)
}

// Record implements storage.Reader.
func (v *remoteView) Record(context.Context, string) (storage.Record, error) {
	return storage.Record{}, ErrElsewhere
}

// RecordByCID implements storage.Reader.
func (v *remoteView) RecordByCID(context.Context, cid.Cid) (storage.Record, error) {
	return storage.Record{}, ErrElsewhere
}

// Records implements storage.Reader.
func (v *remoteView) Records(context.Context, storage.Range) iter.Seq2[storage.Record, error] {
	return elsewhere[storage.Record]
}

// RecordsSince implements storage.Reader.
func (v *remoteView) RecordsSince(context.Context, syntax.TID) iter.Seq2[storage.Record, error] {
	return elsewhere[storage.Record]
}

// BlobRefs implements storage.Reader.
func (v *remoteView) BlobRefs(context.Context, cid.Cid, syntax.TID) iter.Seq2[storage.BlobRef, error] {
	return elsewhere[storage.BlobRef]
}

// HasBlobRef implements storage.Reader.
func (v *remoteView) HasBlobRef(context.Context, cid.Cid) (bool, error) { return false, ErrElsewhere }

func elsewhere[T any](yield func(T, error) bool) { yield(*new(T), ErrElsewhere) }

// Apply implements storage.Repos.
func (x *RemoteRepos) Apply(ctx context.Context, did syntax.DID, c *storage.Change) (int64, error) {
	if err := c.Validate(); err != nil {
		return 0, err
	}
	b := appendRecords(cbor.AppendArray(nil, 2), c.Records)
	seq, err := directory{remote{x.Account(did)}}.seq(ctx, methodRepoApply, appendChange(b, did, c))
	x.markUncertain(did, err)
	return seq, err
}

// Replace implements storage.Repos.
func (x *RemoteRepos) Replace(context.Context, syntax.DID, iter.Seq2[storage.RecordChange, error], func() (*storage.Change, error)) (int64, error) {
	return 0, ErrElsewhere
}

// Delete implements storage.Repos. The account's object deletes the blobs too.
func (x *RemoteRepos) Delete(ctx context.Context, did syntax.DID, events []storage.Event) (int64, error) {
	if err := storage.ValidateEvents(events); err != nil {
		return 0, err
	}
	if _, err := x.Head(ctx, did); err != nil {
		return 0, err
	}
	b := cbor.AppendText(cbor.AppendArray(nil, 2), string(did))
	seq, err := directory{remote{x.Account(did)}}.seq(ctx, methodRepoDelete, appendEvents(b, events))
	x.markUncertain(did, err)
	return seq, err
}

// List implements storage.Repos.
func (x *RemoteRepos) List(ctx context.Context, after syntax.DID) iter.Seq2[storage.RepoInfo, error] {
	return func(yield func(storage.RepoInfo, error) bool) {
		for {
			page, err := remote{x.Directory}.bytes(ctx, methodRepoList, cbor.AppendText(nil, string(after)))
			if err != nil {
				yield(storage.RepoInfo{}, err)
				return
			}
			r := cbor.NewReader(page)
			n, _ := r.Array()
			for range n {
				expect(r, 2)
				did, _ := r.Text()
				info := storage.RepoInfo{DID: syntax.DID(did), Head: readHead(r)}
				if r.Err() != nil {
					break
				}
				after = info.DID
				if !yield(info, nil) {
					return
				}
			}
			if err := r.Done(); err != nil {
				yield(storage.RepoInfo{}, err)
				return
			}
			if n < queryRows {
				return
			}
		}
	}
}

// AnswerRepos returns a function that answers the calls of [RemoteRepos] from a store. own, if not
// empty, is the only account that it serves. When an account is deleted, its blobs are deleted too.
func AnswerRepos(s storage.Store, own syntax.DID) Call {
	return func(ctx context.Context, method string, body []byte) ([]byte, error) {
		r := cbor.NewReader(body)
		var values []byte
		n := 2
		var err error
		switch method {
		case methodRepoRead:
			values, err = answerView(ctx, s, own, r)
		case methodRepoApply:
			values, err = answerApply(ctx, s, own, r)
		case methodRepoDelete:
			expect(r, 2)
			did, _ := r.Text()
			events := readEvents(r)
			if err = errors.Join(r.Done(), belongs(own, did)); err == nil {
				values, err = answerDelete(ctx, s, syntax.DID(did), events)
			}
		case methodRepoList:
			after, _ := r.Text()
			if err = errors.Join(r.Done(), belongs(own, "")); err == nil {
				values, err = answerList(ctx, s, syntax.DID(after))
			}
		default:
			return nil, noMethod(method)
		}
		return answered(n, values, err), nil
	}
}

func belongs(own syntax.DID, did string) error {
	if own != "" && string(own) != did {
		return fmt.Errorf("%w: %.100q has another object", storage.ErrInvalid, did)
	}
	return nil
}

func answerView(ctx context.Context, s storage.Store, own syntax.DID, r *cbor.Reader) (answer []byte, err error) {
	expect(r, 3)
	did, _ := r.Text()
	seen := readSeen(r)
	query, _ := r.Bytes()
	if err := errors.Join(r.Done(), belongs(own, did)); err != nil {
		return nil, err
	}
	err = s.Repos.View(ctx, syntax.DID(did), func(v storage.Reader) (err error) {
		answer, err = answerSnapshot(ctx, v, seen, query)
		return err
	})
	return cbor.AppendBytes(nil, answer), err
}

func answerApply(ctx context.Context, s storage.Store, own syntax.DID, r *cbor.Reader) ([]byte, error) {
	expect(r, 2)
	records := readRecords(r)
	did, c, err := readChange(r)
	if err := errors.Join(err, belongs(own, string(did))); err != nil {
		return nil, err
	}
	c.Records = records
	seq, err := s.Repos.Apply(ctx, did, c)
	return cbor.AppendInt(nil, seq), err
}

func answerDelete(ctx context.Context, s storage.Store, did syntax.DID, events []storage.Event) ([]byte, error) {
	seq, err := s.Repos.Delete(ctx, did, events)
	if err == nil && s.Blobs != nil {
		err = s.Blobs.DeleteAll(ctx, did)
	}
	return cbor.AppendInt(nil, seq), err
}

func answerList(ctx context.Context, s storage.Store, after syntax.DID) ([]byte, error) {
	var b []byte
	n := 0
	for info, err := range s.Repos.List(ctx, after) {
		if err != nil {
			return nil, err
		}
		if n == queryRows {
			break
		}
		n++
		b = appendHead(cbor.AppendText(cbor.AppendArray(b, 2), string(info.DID)), info.Head)
	}
	return cbor.AppendBytes(nil, append(cbor.AppendArray(nil, n), b...)), nil
}

func appendRecords(b []byte, list []storage.RecordChange) []byte {
	b = cbor.AppendArray(b, len(list))
	for _, c := range list {
		b = cbor.AppendText(cbor.AppendArray(b, 4), c.Path)
		b = appendValue(cbor.AppendBytes(b, c.CID.Bytes()), c.Data)
		b = cbor.AppendArray(b, len(c.Blobs))
		for _, blob := range c.Blobs {
			b = cbor.AppendBytes(b, blob.Bytes())
		}
	}
	return b
}

func readRecords(r *cbor.Reader) (list []storage.RecordChange) {
	n, _ := r.Array()
	for i := 0; i < n && r.Err() == nil; i++ {
		expect(r, 4)
		var c storage.RecordChange
		c.Path, _ = r.Text()
		c.CID = readCID(r)
		c.Data = readValue(r)
		blobs, _ := r.Array()
		for j := 0; j < blobs && r.Err() == nil; j++ {
			c.Blobs = append(c.Blobs, readCID(r))
		}
		list = append(list, c)
	}
	return list
}

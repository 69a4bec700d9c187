package atproto

import (
	"bytes"
	"context"
	"errors"
	"fmt"
	"net/http"

	"github.com/ipfs/go-cid"
	"github.com/pdskit/pdskit/internal/dag"
	"github.com/pdskit/pdskit/lexicon/data"
	"github.com/pdskit/pdskit/lexicon/syntax"
	"github.com/pdskit/pdskit/repo"
	"github.com/pdskit/pdskit/storage"
	"github.com/pdskit/pdskit/xrpc"
	"github.com/pdskit/pdskit/xrpc/atproto/api"
)

func (s *Service) getRecord(w http.ResponseWriter, r *xrpc.Request, p api.RepoGetRecordParams) error {
	ctx := r.Context()
	want, err := parseCID(p.CID)
	if err != nil {
		return err
	}
	var rec storage.Record
	acct, err := s.view(ctx, p.Repo, func(_ Account, r storage.Reader) (err error) {
		rec, err = repo.Record(ctx, r, p.Collection, p.RKey)
		return err
	})
	if errors.Is(err, ErrNoAccount) && s.Elsewhere != nil {
		return s.Elsewhere(w, r)
	} else if errors.Is(err, ErrNoAccount) || errors.Is(err, errInactive) {
		return xrpc.InvalidRequest("Could not locate record")
	}
	if err == nil {
		var hidden map[string]bool
		if hidden, err = s.hidden(ctx, acct, rec); hidden[rec.Path] {
			err = repo.ErrRecordNotFound
		}
	}
	if errors.Is(err, repo.ErrRecordNotFound) || err == nil && want.Defined() && want != rec.CID {
		return &xrpc.Error{Status: 400, Name: api.ErrorRecordNotFound, Message: "Could not locate record: " + string(recordURI(acct.DID, p.Collection, p.RKey))}
	} else if err != nil {
		return err
	}
	out, free := newAnswer(w)
	defer free()
	if err := out.record(acct.DID, rec); err != nil {
		return err
	}
	return out.end()
}

// errInactive: an account is not active.
var errInactive = errors.New("atproto: the account is not active")

// view calls fn with an active account and a snapshot of its repository. It returns the account,
// with ErrNoAccount if there is no such, errInactive, or the error of fn, which must not read
// anything but the snapshot.
func (s *Service) view(ctx context.Context, id syntax.AtIdentifier, fn func(Account, storage.Reader) error) (acct Account, err error) {
	did, err := syntax.ParseDID(string(id))
	in, _ := s.Accounts.(SnapshotAccounts)
	if in == nil || err != nil {
		in = nil
		if acct, err = s.Accounts.Account(ctx, id); err != nil {
			return acct, err
		}
		did = acct.DID
	}
	err = s.Host.View(ctx, did, func(r storage.Reader) (err error) {
		if in != nil {
			if acct, err = in.AccountIn(ctx, r); err != nil {
				return err
			}
		}
		if acct.Status != Active {
			return errInactive
		}
		return fn(acct, r)
	})
	if errors.Is(err, repo.ErrRepoNotFound) {
		err = ErrNoAccount
	}
	return acct, err
}

// listRecords answers with a page of a collection. A page of large records has fewer than the
// limit: see repo.ListOptions.
func (s *Service) listRecords(w http.ResponseWriter, r *xrpc.Request, p api.RepoListRecordsParams) error {
	ctx := r.Context()
	limit, err := pageLimit(p.Limit, 50, 100)
	if err != nil {
		return err
	}
	out, free := newAnswer(w)
	defer free()
	list := recordList{jsonAnswer: out}
	acct, err := s.view(ctx, p.Repo, func(acct Account, r storage.Reader) (err error) {
		list.reset(acct)
		return repo.ListEach(ctx, r, p.Collection, repo.ListOptions{Limit: limit, Cursor: syntax.RecordKey(p.Cursor), Reverse: p.Reverse}, list.add)
	})
	if errors.Is(err, ErrNoAccount) || errors.Is(err, errInactive) {
		return xrpc.InvalidRequest("Could not find repo: %s", p.Repo)
	} else if err != nil {
		return err
	}
	hidden, err := s.hidden(ctx, acct, list.later...)
	if err != nil {
		return err
	}
	return list.end(hidden)
}

// recordList is the answer of listRecords. The JSON of what is short is made in the snapshot, from
// the store's memory. What comes behind it, like all that may have to be hidden, is kept until the
// snapshot has ended, since the client may be slow.
type recordList struct {
	*jsonAnswer
	did   syntax.DID
	wait  bool // some records may be hidden
	later []storage.Record
	last  []byte // path
	some  bool   // the list has an element
}

// reset begins the list of an account, once more if the store calls for a snapshot again.
func (l *recordList) reset(acct Account) {
	*l = recordList{jsonAnswer: l.jsonAnswer, did: acct.DID, wait: acct.Moderated}
	l.buf = append(l.buf[:0], `{"records":[`...)
}

// add takes the next record of a snapshot.
func (l *recordList) add(c storage.Cursor) (err error) {
	l.last = append(l.last[:0], c.Path()...)
	value := c.Data()
	if _, _, ok := dag.SplitBytes(c.CID()); !ok {
		return fmt.Errorf("%w: %s has the CID %x", storage.ErrCorrupt, l.last, c.CID())
	}
	if l.wait || len(l.later) > 0 || len(l.buf) > answerBytes || len(value) > shortRecord {
		id, err := cid.Cast(c.CID())
		l.later = append(l.later, storage.Record{Path: string(l.last), CID: id, Data: bytes.Clone(value)})
		return err
	}
	l.next()
	l.buf = appendIdentity(l.buf, l.did, l.last, c.CID())
	l.buf, err = data.AppendRecordJSON(l.buf, value)
	l.text("}")
	return err
}

// next begins an element of the list.
func (l *recordList) next() {
	if l.some {
		l.text(",")
	}
	l.some = true
}

// end sends what was kept and the cursor.
func (l *recordList) end(hidden map[string]bool) error {
	for i, rec := range l.later {
		l.later[i].Data = nil // it is not needed while the client takes the next ones
		if hidden[rec.Path] {
			continue
		}
		l.next()
		if err := l.record(l.did, rec); err != nil {
			return err
		}
	}
	l.text("]")
	if len(l.last) > 0 {
		_, cursor, err := syntax.ParsePath(string(l.last))
		if err != nil {
			return err
		}
		l.text(`,"cursor":"` + string(cursor) + `"`)
	}
	l.text("}")
	return l.jsonAnswer.end()
}

// hidden returns the paths of those of the records that are taken down.
func (s *Service) hidden(ctx context.Context, acct Account, records ...storage.Record) (map[string]bool, error) {
	if !acct.Moderated || s.Takedowns == nil {
		return nil, nil
	}
	paths := make([]string, len(records))
	for i, rec := range records {
		paths[i] = rec.Path
	}
	return s.Takedowns.HiddenRecords(ctx, acct.DID, paths)
}

// maxCollections is how many bytes of collections' names describeRepo shows, the first in the order
// of names. There is no cursor for more.
const maxCollections = 256 << 10

func (s *Service) describeRepo(ctx context.Context, r *xrpc.Request, p api.RepoDescribeRepoParams) (out api.RepoDescribeRepoOutput, err error) {
	acct, err := s.available(ctx, r, p.Repo)
	if err != nil {
		return out, err
	}
	doc, handle, err := s.document(ctx, acct.DID)
	if err != nil {
		return out, documentError(err)
	}
	out = api.RepoDescribeRepoOutput{Handle: acct.Handle, DID: acct.DID, DIDDoc: doc, HandleIsCorrect: handle == acct.Handle}
	err = s.Host.View(ctx, acct.DID, func(r storage.Reader) error {
		size := 0
		for name, err := range repo.Collections(ctx, r) {
			if err != nil {
				return err
			}
			if size += len(name) + len(`"",`); size > maxCollections {
				break
			}
			out.Collections = append(out.Collections, name)
		}
		return nil
	})
	return out, err
}

// documentError is the answer where an account's document cannot be had. Whatever is wrong with the
// identity, it is the one that clients know. An error of the host's own stays what it is.
func documentError(err error) error {
	var own, mapped *xrpc.Error
	if errors.Is(err, ErrNoAccount) || !errors.As(err, &own) && errors.As(IdentityError(err), &mapped) {
		return xrpc.InvalidRequest("Could not resolve DID")
	}
	return err
}

func (s *Service) resolveHandle(ctx context.Context, r *xrpc.Request, p api.IdentityResolveHandleParams) (out api.IdentityResolveHandleOutput, err error) {
	handle := p.Handle.Normalize()
	if _, err := syntax.ParseHandle(string(handle)); err != nil {
		return out, xrpc.InvalidRequest("Invalid handle: %s", p.Handle)
	}
	acct, err := s.Accounts.Account(ctx, syntax.AtIdentifier(handle))
	if err == nil && acct.Status == Active {
		out.DID = acct.DID
		return out, nil
	} else if err != nil && !errors.Is(err, ErrNoAccount) {
		return out, err
	}
	if err != nil {
		out.DID, err = s.foreignHandle(ctx, handle)
	}
	if err != nil || out.DID == "" {
		return out, xrpc.InvalidRequest("Unable to resolve handle")
	}
	return out, nil
}

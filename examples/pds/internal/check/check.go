// Package check reads everything that a server keeps and says what is wrong.
//
// A repository is read as the network reads it: its export is verified, block by
// block, against the head and the account's key. So what passes is what a relay or another server
// would accept. The server may run meanwhile: each repository is read as it is at one
// moment.
package check

import (
	"bytes"
	"context"
	"crypto/sha256"
	"errors"
	"fmt"
	"io"
	"iter"
	"time"

	"github.com/ipfs/go-cid"
	"github.com/pdskit/pdskit/commit"
	"github.com/pdskit/pdskit/crypto"
	"github.com/pdskit/pdskit/internal/dag"
	"github.com/pdskit/pdskit/lexicon/data"
	"github.com/pdskit/pdskit/lexicon/syntax"
	"github.com/pdskit/pdskit/repo"
	"github.com/pdskit/pdskit/repo/account"
	"github.com/pdskit/pdskit/storage"
)

// BlobLevel is how closely blobs are looked at.
type BlobLevel int

// The levels: read and hashed, only looked for, or left out.
const (
	ReadBlobs BlobLevel = iota
	FindBlobs
	NoBlobs
)

// Options is what is checked. The zero value checks everything.
type Options struct {
	// Accounts, if not nil, are the only ones whose repositories are checked; the rest is left out.
	Accounts []syntax.DID
	Blobs    BlobLevel
	// AcceptMissing notes the blobs that are missing as lost for good: they are no problem from now
	// on.
	AcceptMissing bool
	// From, if not nil, has copies of blobs: those that are missing or damaged are put back from
	// there. An error that is storage.ErrNotFound or storage.ErrCorrupt says that it does not have
	// one.
	From func(ctx context.Context, did syntax.DID, blob cid.Cid) (io.ReadCloser, storage.BlobInfo, error)
	// Progress, if not nil, is told how many repositories have been checked.
	Progress func(repositories int)
}

// Report is the result of a check.
type Report struct {
	Accounts int   `json:"accounts"`
	Records  int   `json:"records"`
	Bytes    int64 `json:"recordBytes"`
	Blobs    int   `json:"blobs"`             // that are there and referred to
	PutBack  int   `json:"putBack,omitempty"` // of them, by Options.From
	Events   int   `json:"events"`
	// MissingBlobs are referred to but not there. Each is a problem, unless it is excused: see
	// [Server.Excused].
	MissingBlobs int       `json:"missingBlobs"`
	LostBlobs    int       `json:"lostBlobs"`         // of them, those that are a problem
	Missing      []Blob    `json:"missing,omitempty"` // the first of them
	Problems     []Problem `json:"problems"`          // the first of them; empty: all is well
	Found        int       `json:"found"`             // problems in all
	// Ahead is how many accounts have a revision from the future, which the network ignores with
	// all that they write, though nothing in the data is wrong.
	Ahead         int     `json:"ahead"`
	AheadAccounts []Ahead `json:"aheadAccounts,omitempty"` // the first of them
}

// Ahead is an account whose revision lies in the future.
type Ahead struct {
	DID syntax.DID `json:"did"`
	Rev syntax.TID `json:"rev"`
	// Until is when the network begins to accept what follows that revision.
	Until time.Time `json:"until"`
}

// Blob is a blob of an account.
type Blob struct {
	DID syntax.DID `json:"did"`
	CID string     `json:"cid"`
}

// Problem is something that is wrong.
type Problem struct {
	DID  syntax.DID `json:"did,omitempty"` // of the account that it is about
	What string     `json:"what"`
}

func (p Problem) String() string {
	if p.DID == "" {
		return p.What
	}
	return string(p.DID) + ": " + p.What
}

// maxListed bounds the lists of a report.
const maxListed = 1000

// Server is what is checked.
type Server struct {
	// Database checks the structure of the database. Nil: it is left out.
	Database func(ctx context.Context) error
	Store    storage.Store
	Accounts *account.Store
	// Now is the clock that revisions are compared with. Nil: time.Now.
	Now func() time.Time
	// Folder is where the blobs should be, for messages.
	Folder string
}

func (s Server) now() time.Time {
	if s.Now == nil {
		return time.Now()
	}
	return s.Now()
}

// IsAhead reports whether a revision lies so far in the future that the network ignores it.
func (s Server) IsAhead(rev syntax.TID) bool { return commit.Ahead(rev, s.now(), 0) > 0 }

func aheadAt(did syntax.DID, rev syntax.TID) Ahead {
	return Ahead{did, rev, rev.Time().Add(-commit.DefaultDrift)}
}

// Ahead returns those of the accounts (nil: of all) whose revision lies in the future, and checks
// nothing else.
func (s Server) Ahead(ctx context.Context, dids []syntax.DID) (list []Ahead, err error) {
	for did, err := range (&checker{Server: s, opt: Options{Accounts: dids}}).dids(ctx) {
		if err != nil {
			return nil, err
		}
		head, err := s.Store.Repos.Head(ctx, did)
		if errors.Is(err, storage.ErrNotFound) && dids == nil {
			continue // deleted meanwhile
		} else if err != nil {
			return nil, err
		}
		if s.IsAhead(head.Rev) {
			list = append(list, aheadAt(did, head.Rev))
		}
	}
	return list, nil
}

// Run checks a server. Its error is that of the check itself, not of what it found.
func (s Server) Run(ctx context.Context, opt Options) (*Report, error) {
	c := &checker{Server: s, opt: opt, report: &Report{Problems: []Problem{}}}
	c.host = repo.NewHost(repo.Config{Store: s.Store, Signer: s.Accounts.Signer, CacheBytes: 1})
	err := c.run(ctx)
	return c.report, err
}

type checker struct {
	Server
	opt      Options
	host     *repo.Host
	report   *Report
	accepted []string // keys that are not written yet
}

func (c *checker) wrong(did syntax.DID, format string, args ...any) {
	c.report.Add(did, format, args...)
}

// Add adds a problem of an account, or of the server.
func (r *Report) Add(did syntax.DID, format string, args ...any) {
	if r.Found++; len(r.Problems) < maxListed {
		r.Problems = append(r.Problems, Problem{did, fmt.Sprintf(format, args...)})
	}
}

func (c *checker) run(ctx context.Context) error {
	whole := c.opt.Accounts == nil
	if whole && c.opt.Blobs != NoBlobs && !c.opt.AcceptMissing && c.opt.From == nil {
		if err := c.BlobsThere(ctx); errors.Is(err, ErrNoBlobs) {
			c.wrong("", "%v", err)
		} else if err != nil {
			return err
		}
	}
	if whole && c.Database != nil {
		if err := c.Database(ctx); errors.Is(err, storage.ErrCorrupt) {
			c.wrong("", "%v", err)
		} else if err != nil {
			return err
		}
	}
	if c.opt.AcceptMissing {
		if err := c.forget(ctx); err != nil {
			return err
		}
	}
	for did, err := range c.dids(ctx) {
		if err == nil {
			err = c.account(ctx, did)
		}
		if err != nil {
			return err
		}
		if c.report.Accounts++; c.opt.Progress != nil {
			c.opt.Progress(c.report.Accounts)
		}
	}
	if err := c.accept(ctx); err != nil {
		return err
	}
	if !whole {
		return nil
	}
	problems, err := c.Accounts.Check(ctx)
	if err != nil {
		return err
	}
	for _, p := range problems {
		c.wrong("", "%s", p)
	}
	return c.events(ctx)
}

// dids are the accounts to check.
func (c *checker) dids(ctx context.Context) iter.Seq2[syntax.DID, error] {
	return func(yield func(syntax.DID, error) bool) {
		for _, did := range c.opt.Accounts {
			if !yield(did, nil) {
				return
			}
		}
		if c.opt.Accounts != nil {
			return
		}
		for info, err := range c.Store.Repos.List(ctx, "") {
			if !yield(info.DID, err) {
				return
			}
		}
	}
}

// maxMoves bounds how often a repository is looked at again because it was written meanwhile.
const maxMoves = 100

// account checks a repository. An error that ends the check is one of the context.
func (c *checker) account(ctx context.Context, did syntax.DID) error {
	head, err := c.host.Head(ctx, did)
	before, accepted := *c.report, c.accepted
	for range maxMoves {
		if err == nil {
			err = c.repository(ctx, did, head)
		}
		if err == nil || ctx.Err() != nil {
			break
		}
		// What is wrong only because the account was deleted, or written, meanwhile is not wrong.
		now, headErr := c.host.Head(ctx, did)
		if errors.Is(headErr, repo.ErrRepoNotFound) && c.opt.Accounts == nil {
			return nil
		}
		if headErr != nil || now == head {
			break
		}
		head, err = now, nil
		*c.report, c.accepted = before, accepted
	}
	if err != nil && ctx.Err() == nil {
		c.wrong(did, "%v", err)
		return nil
	}
	if c.IsAhead(head.Rev) {
		if c.report.Ahead++; len(c.report.AheadAccounts) < maxListed {
			c.report.AheadAccounts = append(c.report.AheadAccounts, aheadAt(did, head.Rev))
		}
	}
	return ctx.Err()
}

func (c *checker) repository(ctx context.Context, did syntax.DID, head storage.Head) error {
	signer, err := c.Accounts.Signer(ctx, did)
	if err != nil {
		return fmt.Errorf("signing key: %w", err)
	}
	least, most, err := c.export(ctx, did, head, signer.PublicKey())
	if err != nil {
		return err
	}
	n := 0
	var last cid.Cid
	return c.host.View(ctx, did, func(r storage.Reader) error {
		for ref, err := range r.BlobRefs(ctx, cid.Undef, "") {
			if err != nil {
				return err
			}
			n++
			if ref.Blob == last {
				continue
			}
			last = ref.Blob
			if err := c.blob(ctx, did, ref); err != nil {
				return err
			}
		}
		if (n < least || n > most) && r.Head() == head {
			return fmt.Errorf("records refer to blobs %d times, the index has %d references", most, n)
		}
		return nil
	})
}

// export verifies a repository's export, and returns how many references to blobs the index must
// and may have: references of the legacy form are in it where their records were imported.
func (c *checker) export(ctx context.Context, did syntax.DID, head storage.Head, key *crypto.PublicKey) (least, most int, err error) {
	pr, pw := io.Pipe()
	done := make(chan error, 1)
	go func() {
		err := c.host.Export(ctx, did, "", pw)
		pw.CloseWithError(err)
		done <- err
	}()
	defer func() {
		pr.Close()
		// A failed export is the cause of what the reader saw.
		if cause := <-done; cause != nil && !errors.Is(cause, io.ErrClosedPipe) {
			err = cause
		}
	}()
	x, err := commit.ReadRepo(pr, commit.RepoOptions{
		DID: did, Key: key, Stream: true, Records: 1 << 62,
		CheckRecord: func(string, []byte) error { return nil }, // see below
	})
	if err != nil {
		return 0, 0, err
	}
	defer x.Close()
	if x.Root() != head.Commit {
		return 0, 0, fmt.Errorf("the head is commit %s, the export has %s", head.Commit, x.Root())
	}
	for rec, err := range x.Records() {
		if err != nil {
			return 0, 0, err
		}
		c.report.Records++
		c.report.Bytes += int64(len(rec.Data))
		// Records from before the data model are sound too.
		refs, _, err := data.RecordRefs(rec.Data)
		if err != nil {
			return 0, 0, fmt.Errorf("%s: %w", rec.Path, err)
		}
		most += len(refs)
		if present, err := data.BlobRefs(rec.Data); err == nil {
			unique := make(map[cid.Cid]bool, len(present))
			for _, ref := range present {
				unique[ref.Ref] = true
			}
			least += len(unique)
		} else {
			least += len(refs)
		}
	}
	return least, most, nil
}

// blob looks for a blob, and reads it.
func (c *checker) blob(ctx context.Context, did syntax.DID, ref storage.BlobRef) error {
	if c.opt.Blobs == NoBlobs {
		return nil
	}
	there, err := c.lookAt(ctx, did, ref.Blob)
	if err == nil && !there {
		// It may have been deleted, with what refers to it, since the snapshot was taken.
		wanted := false
		err := c.host.View(ctx, did, func(r storage.Reader) (err error) {
			wanted, err = r.HasBlobRef(ctx, ref.Blob)
			return err
		})
		if errors.Is(err, repo.ErrRepoNotFound) || err == nil && !wanted {
			return nil
		} else if err != nil {
			return err
		}
	}
	if (err != nil || !there) && ctx.Err() == nil && c.opt.From != nil {
		back, putErr := c.putBack(ctx, did, ref.Blob)
		if putErr != nil {
			return fmt.Errorf("blob %s: putting it back: %w", ref.Blob, putErr)
		}
		if back {
			c.report.PutBack++
			there, err = c.lookAt(ctx, did, ref.Blob)
		}
	}
	switch {
	case err != nil:
		return fmt.Errorf("blob %s: %w", ref.Blob, err)
	case !there:
		return c.missing(ctx, did, ref)
	}
	c.report.Blobs++
	return nil
}

// lookAt reports whether a blob is there. Its error says that it is damaged, or cannot be read.
func (c *checker) lookAt(ctx context.Context, did syntax.DID, want cid.Cid) (there bool, err error) {
	_, promoted, err := c.Store.Blobs.Stat(ctx, did, want)
	if errors.Is(err, storage.ErrNotFound) {
		return false, nil
	}
	if err != nil || !promoted || c.opt.Blobs == FindBlobs {
		return promoted, err
	}
	f, info, err := c.Store.Blobs.Open(ctx, did, want)
	if errors.Is(err, storage.ErrNotFound) {
		return false, nil
	} else if err != nil {
		return false, err
	}
	defer f.Close()
	h := sha256.New()
	n, err := io.Copy(h, f)
	if err != nil {
		return false, err
	}
	_, digest, _ := dag.Split(want)
	if !bytes.Equal(h.Sum(nil), digest[:]) || n != info.Size {
		return false, errors.New("its bytes are others")
	}
	return true, nil
}

// events checks the log: numbers ascend, messages are well-formed, and each commit
// inverts to the state that it says it follows.
func (c *checker) events(ctx context.Context) error {
	oldest, newest, err := c.Store.Events.Bounds(ctx)
	if err != nil {
		return err
	}
	if oldest < 1 || oldest > newest+1 {
		c.wrong("", "the bounds of the event log are %d and %d", oldest, newest)
	}
	var last int64
	for ev, err := range c.Store.Events.Since(ctx, 0) {
		if err != nil {
			return err
		}
		c.report.Events++
		if ev.Seq <= last {
			c.wrong(ev.DID, "event %d comes after %d", ev.Seq, last)
		}
		last = ev.Seq
		if err := event(ctx, ev); err != nil {
			c.wrong(ev.DID, "event %d: %v", ev.Seq, err)
		}
	}
	return nil
}

func event(ctx context.Context, ev storage.Event) error {
	msg, err := commit.Decode(ev.Kind, ev.Payload)
	if err != nil {
		return err
	}
	if msg, ok := msg.(*commit.Event); ok {
		v := commit.Verifier{
			Limits: commit.Limits{Ops: len(msg.Ops) + 1, Blocks: len(msg.Blocks) + 1},
			Now:    msg.Rev.Time, // a revision from the future is no damage: see Report.Ahead
		}
		if _, _, err := v.Commit(ctx, commit.State{Rev: msg.Since, Data: msg.PrevData}, msg); err != nil {
			return err
		}
	}
	if about := msg.About(); about != ev.DID {
		return fmt.Errorf("the message is about %s", about)
	}
	return nil
}

package source

import (
	"context"
	"errors"
	"fmt"
	"strings"
	"sync"
	"time"

	"github.com/ipfs/go-cid"

	"github.com/pdskit/pdskit/commit"
	"github.com/pdskit/pdskit/crypto"
	"github.com/pdskit/pdskit/examples/statusphere/internal/index"
	"github.com/pdskit/pdskit/examples/statusphere/internal/status"
	"github.com/pdskit/pdskit/lexicon/data"
	"github.com/pdskit/pdskit/lexicon/syntax"
	"github.com/pdskit/pdskit/xrpc/atproto/api"
	"github.com/pdskit/pdskit/xrpc/stream"
)

// firehose follows one PDS or relay.
type firehose struct {
	*Network
	progress
	host     string // its URL, which names the stream in the index
	verifier *commit.Verifier
	list     chan struct{} // has an element when all accounts are to be listed
	patience time.Duration // for which the stream may wait for the servers of did:web accounts
	waited   time.Time     // when it last did
}

// Firehose follows the stream of a PDS or relay, "https://relay.example.net", until the context
// ends. A stream that is followed for the first time begins with what comes next; what the
// repositories have by then is read from them.
func (n *Network) Firehose(ctx context.Context, host string) {
	f := &firehose{Network: n, host: strings.TrimSuffix(host, "/"), list: make(chan struct{}, 1)}
	f.progress = progress{index: n.Index, source: f.host}
	f.verifier = &commit.Verifier{Key: f.key, Now: n.Now}
	ctx, cancel := context.WithCancel(ctx)
	var listing sync.WaitGroup
	listing.Go(func() { f.listWhenAsked(ctx) })
	for ctx.Err() == nil {
		err := f.follow(ctx)
		if ctx.Err() != nil {
			break
		}
		n.log().Error("the stream ended", "source", f.host, "error", err)
		if serr := (*stream.Error)(nil); errors.As(err, &serr) && serr.Name == stream.ErrFutureCursor.Name || errors.Is(err, stream.ErrSequence) {
			// Its numbers are not those of before: it was restored, or is another server.
			if err = n.Index.Restart(ctx, f.host); err != nil {
				n.log().Error("the position could not be reset", "error", err)
			}
		}
		sleep(ctx, time.Second)
	}
	cancel()
	listing.Wait()
	f.store(context.WithoutCancel(ctx))
}

// follow reads the stream until it fails for good.
func (f *firehose) follow(ctx context.Context) error {
	seq, listed, found, err := f.Index.Cursor(ctx, f.host)
	if err != nil {
		return err
	}
	c := stream.Consumer{URL: f.host + "/xrpc/" + api.SyncSubscribeReposNSID, HTTP: f.Operator, Retry: func(err error) error {
		f.log().Warn("the stream broke; it will be followed again", "source", f.host, "error", err)
		return nil
	}}
	if found && seq >= 0 {
		c.Cursor = &seq
	} else if listed = false; found {
		// It was followed, but said nothing. What it has said since then was missed: what is new is
		// in the list, and the known repositories are read again, as some may not be active any more.
		if err := f.Index.Restart(ctx, f.host); err != nil {
			return err
		}
	}
	if !listed {
		// What is written while the list is made comes over the stream, which is connected by then.
		c.Connected = f.listAll
	}
	f.begin()
	for frame, err := range c.Frames(ctx) {
		if err != nil {
			return err
		}
		if err := f.handle(ctx, frame); err != nil {
			return err
		}
	}
	return ctx.Err()
}

// handle applies one event.
func (f *firehose) handle(ctx context.Context, frame stream.Frame) error {
	if frame.Kind == "#info" {
		var info struct {
			Name string `cbor:"name"`
		}
		if data.Unmarshal(frame.Payload, &info) == nil && info.Name == stream.OutdatedCursor {
			f.log().Warn("events were missed: all repositories are read again", "source", f.host)
			if err := f.Index.Restart(ctx, f.host); err != nil {
				return err
			}
			f.listAll()
		}
		return nil
	}
	at := index.Position{Source: f.host, Seq: frame.Seq}
	m, err := commit.Decode(frame.Kind, frame.Payload)
	switch {
	case errors.Is(err, commit.ErrUnknownKind):
		return f.pass(ctx, at)
	case err == nil && frame.Seq <= 0:
		err = errors.New("it has no number")
		fallthrough
	case err != nil:
		f.log().Warn("a malformed event was skipped", "source", f.host, "seq", frame.Seq, "error", err)
		return nil
	}
	known, err := f.Index.State(ctx, m.About())
	if err != nil {
		return err
	}
	if e, ok := m.(*commit.Event); ok {
		if known.Known || touches(e) {
			return f.commit(ctx, at, known, e)
		}
		return f.pass(ctx, at)
	}
	if !known.Known {
		return f.pass(ctx, at)
	}
	switch m := m.(type) {
	case *commit.Sync:
		return f.sync(ctx, at, known, m)
	case *commit.Identity:
		f.Resolver.Purge(syntax.AtIdentifier(m.DID))
		return f.done(f.Index.Identity(ctx, at, m.DID))
	case *commit.Account:
		return f.done(f.Index.Account(ctx, at, m.DID, m.Active, m.Status))
	}
	return f.pass(ctx, at)
}

// For how long the stream waits for the server of a did:web account, and the least for which it is
// worth asking.
const (
	maxPatience = 2 * time.Second
	minPatience = 100 * time.Millisecond
)

// key returns the signing key of an account. The document of a did:web account is at a server of its
// own, which may never answer, and there may be any number of such accounts. So the stream waits for
// them for a tenth of the time. When it cannot wait, the repository is read instead, beside it.
func (f *firehose) key(ctx context.Context, did syntax.DID, refresh bool) (*crypto.PublicKey, error) {
	if did.Method() != "web" {
		return f.Network.key(ctx, did, refresh)
	}
	began := time.Now()
	f.patience = min(maxPatience, f.patience+began.Sub(f.waited)/10)
	f.waited = began
	if f.patience < minPatience {
		return nil, errors.New("the stream has waited too long for accounts of this kind")
	}
	ctx, cancel := context.WithTimeout(ctx, f.patience)
	defer cancel()
	key, err := f.Network.key(ctx, did, refresh)
	f.waited = time.Now()
	f.patience -= f.waited.Sub(began)
	return key, err
}

// touches reports whether a commit is about a status.
func touches(e *commit.Event) bool {
	for _, op := range e.Ops {
		if strings.HasPrefix(op.Path, string(status.Collection)+"/") {
			return true
		}
	}
	return false
}

// commit verifies and applies a commit.
func (f *firehose) commit(ctx context.Context, at index.Position, known index.State, e *commit.Event) error {
	last, err := stateOf(known)
	if err != nil {
		return err
	}
	next, records, err := f.verifier.Commit(ctx, last, e)
	gap := errors.Is(err, commit.ErrOutOfSync) || last == (commit.State{}) && e.Since != ""
	switch {
	case err == nil, errors.Is(err, commit.ErrOutOfSync):
	case errors.Is(err, commit.ErrStale):
		return f.pass(ctx, at)
	case ended(err) && ctx.Err() != nil:
		return err
	default:
		// It is wrong, or its key could not be had. The repository itself says what is right.
		f.log().Info("a commit does not verify: the repository is read instead", "did", e.Repo, "error", err)
		return f.done(f.Index.Fetch(ctx, at, e.Repo))
	}
	c := index.Commit{DID: e.Repo, Rev: next.Rev, Data: next.Data.String(), Gap: gap}
	for _, op := range e.Ops {
		f.op(&c, op, records[op.Path])
	}
	return f.done(f.Index.Commit(ctx, at, c))
}

// op adds an operation to a commit, if it is of a status or of the profile.
func (n *Network) op(c *index.Commit, op commit.Op, record []byte) {
	collection, rkey, err := syntax.ParsePath(op.Path)
	switch {
	case err != nil:
	case collection == profileCollection && rkey == profileKey:
		name := displayName(record)
		c.Name = &name
	case collection == status.Collection:
		o := index.Op{RKey: rkey}
		if op.Action != commit.Delete {
			// A record that is none is as good as none: it takes the place of a valid one.
			if s, err := n.Type.CBOR(rkey, record); err == nil {
				o.Status, o.CID = &s, op.CID.String()
			}
		}
		c.Ops = append(c.Ops, o)
	}
}

// sync has the repository read if it is not in the state that a #sync event announces.
func (f *firehose) sync(ctx context.Context, at index.Position, known index.State, s *commit.Sync) error {
	last, err := stateOf(known)
	if err != nil {
		return err
	}
	next, err := f.verifier.Sync(ctx, last, s)
	switch {
	case errors.Is(err, commit.ErrStale), err == nil && next == last:
		return f.pass(ctx, at)
	case err != nil && ctx.Err() != nil:
		return err
	}
	return f.done(f.Index.Fetch(ctx, at, s.DID))
}

// stateOf is what a commit has to follow.
func stateOf(s index.State) (commit.State, error) {
	if s.Data == "" {
		return commit.State{}, nil
	}
	root, err := cid.Decode(s.Data)
	if err != nil {
		return commit.State{}, fmt.Errorf("the index has a malformed CID: %w", err)
	}
	return commit.State{Rev: s.Rev, Data: root}, nil
}

// listAll asks for a list of all accounts.
func (f *firehose) listAll() {
	select {
	case f.list <- struct{}{}:
	default: // that was asked for already
	}
}

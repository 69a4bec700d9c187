package edge

import (
	"context"
	"errors"
	"fmt"
	"iter"
	"net/http"
	"strings"
	"sync"
	"time"

	"github.com/pdskit/pdskit/lexicon/syntax"
	"github.com/pdskit/pdskit/repo"
	accounts "github.com/pdskit/pdskit/repo/account"
	"github.com/pdskit/pdskit/storage"
	"github.com/pdskit/pdskit/storage/bucket"
	"github.com/pdskit/pdskit/storage/cloudflare"
	"github.com/pdskit/pdskit/storage/durable"
	"github.com/pdskit/pdskit/xrpc/oauth/dpop"
	"github.com/pdskit/pdskit/xrpc/pds"
)

// Part is what an object is of a server with an object for each account. It is the object's name
// too: the directory, the desk, or the DID of an account.
//
//	          ┌─▶ account ──┐   records, blobs, sessions, keys of one account
//	request ──┤    ▲        ├─▶ directory   names, invites, heads, the event log, relays, mail
//	          └─▶ desk ─────┘   pages, OAuth, sign-up: what begins before an account is known
//
// Each part is a whole PDS over the same store, as several nodes of one server are: a part only
// reads near what it has, and far what others have. So any part answers any request that reads no
// records of another's account, and which one is asked is a matter of cost: see routes.mjs. A
// change of an account is carried out in its object, and then entered in the directory, with its
// events; until then nobody sees it.
type Part string

// The parts that are there once. Every other one is an account.
const (
	Directory Part = "directory"
	Desk      Part = "desk"
)

// ParsePart reads the name of an object. It is not a part if it is a host name.
func ParsePart(name string) (Part, bool) {
	_, err := syntax.ParseDID(name)
	return Part(name), err == nil || Part(name) == Directory || Part(name) == Desk
}

// Place is where a part is.
type Place struct {
	// Object opens a table of the object.
	Object func(table string) (durable.Object, error)
	// Bucket has the blobs.
	Bucket bucket.Bucket
	// Call makes calls of another object, by its name, which answers with Node.Answer.
	Call func(name Part) cloudflare.Call
	// Platform is what the server runs on; its Store is not used, and Subscribe only by the
	// directory.
	Platform Platform
	// Open, if not nil, is called when the store is open, before the server is.
	Open func(s storage.Store, p *Platform)
}

// Node is a part that runs.
type Node struct {
	*Server
	// Answer answers the calls of other objects.
	Answer cloudflare.Call
}

// mirrored is the key of an account of which the directory has a copy: its names and status, of
// which lists of accounts are made.
func mirrored(key string) bool { return key == "account" }

// OpenPart starts a part.
func OpenPart(ctx context.Context, cfg Config, part Part, at Place) (*Node, error) {
	n := new(Node)
	p := at.Platform
	p.call = at.Call
	answers := map[string]cloudflare.Call{}
	var err error
	far := &cloudflare.RemoteRepos{Mirror: mirrored, Account: func(did syntax.DID) cloudflare.Call { return at.Call(Part(did)) }}
	if part == Directory {
		var shared storage.Store
		if shared, err = openSolo(ctx, at.Object, "kv", p.Now); err == nil {
			answers["directory"] = cloudflare.AnswerDirectory(durable.NewDirectory(shared))
			answers["kv"], answers["events"] = cloudflare.AnswerKV(shared.KV), cloudflare.AnswerEvents(shared.Events)
			entries := shared
			entries.Blobs = nil
			answers["repo"] = cloudflare.AnswerRepos(entries, "")
			far.Directory = cloudflare.Answers(answers)
			p.Store = storage.Store{Repos: far, Events: shared.Events, KV: shared.KV, Blobs: noBlobs{}}
		}
	} else {
		far.Directory = at.Call(Directory)
		p.Store = storage.Store{Repos: far, Events: cloudflare.RemoteEvents(far.Directory), KV: cloudflare.RemoteKV(far.Directory, p.Now)}
		if part == Desk {
			p.Store.Blobs = noBlobs{} // it has none, and an account's object deletes its own
		} else {
			err = openAccount(ctx, &p, syntax.DID(part), at, far)
			answers["repo"] = cloudflare.AnswerRepos(storage.Store{Repos: p.Store.Repos, Blobs: p.Store.Blobs}, syntax.DID(part))
			answers["kv"] = cloudflare.AnswerKV(p.near) // for proofs
		}
	}
	if err != nil {
		return nil, err
	}
	if at.Open != nil {
		at.Open(p.Store, &p)
	}
	if n.Server, err = newServer(cfg, cfg.Host, part, p); err != nil {
		return nil, err
	}
	if part == Directory {
		if err := n.Accounts.Repair(ctx); err != nil {
			return nil, err
		}
		answers["find"] = n.find
	}
	n.Answer = n.planned(cloudflare.Answers(answers))
	return n, nil
}

// openSolo opens a store in a table of the object.
func openSolo(ctx context.Context, open func(table string) (durable.Object, error), table string, now func() time.Time) (s storage.Store, err error) {
	solo, err := durable.OpenSolo(ctx, func(context.Context) (durable.Object, error) { return open(table) }, durable.SoloConfig{Now: now})
	if err != nil {
		return s, err
	}
	return solo.Store(), nil
}

// openAccount opens what an account's object has itself: the account, its blobs, and keys of its
// own for the rows of those and for proofs that were used.
func openAccount(ctx context.Context, p *Platform, did syntax.DID, at Place, far *cloudflare.RemoteRepos) error {
	var turn sync.Mutex
	open := func(table string) (durable.Object, error) {
		o, err := at.Object(table)
		return turns{o, &turn}, err
	}
	db, err := durable.New(ctx, durable.Config{
		Shared: storage.Store{Repos: far}, Directory: cloudflare.RemoteDirectory(far.Directory), Mirror: mirrored,
		Objects: &own{open: func() (durable.Object, error) { return open("kv") }, guard: p.Guard}, MaxOpen: 1, Now: p.Now,
	})
	if err != nil {
		return err
	}
	near, err := openSolo(ctx, open, "own", p.Now)
	if err != nil {
		return err
	}
	now := p.Now
	if now == nil {
		now = time.Now
	}
	p.Store.Repos = repos{
		RemoteRepos: far, own: did, near: db.Store().Repos,
		deleting: func() error { return at.Platform.Alarm(now().Add(deletedAfter)) },
	}
	p.near = near.KV
	p.recovered = func() int64 { return db.Stats().Recovered }
	p.Store.Blobs, err = bucket.Open(ctx, bucket.Config{KV: near.KV, Bucket: at.Bucket})
	return err
}

// turns lets the transactions of the tables of an object come one after the other: they are all
// transactions of its one database.
type turns struct {
	durable.Object
	turn *sync.Mutex
}

func (o turns) Transact(fn func() error) error {
	o.turn.Lock()
	defer o.turn.Unlock()
	return o.Object.Transact(fn)
}

// own is the store of the one account that an object has. It is a durable.Marker: while the
// directory is not told of a change, there is an alarm.
type own struct {
	open  func() (durable.Object, error)
	guard func() (done func())
	done  func()
}

// Mark implements durable.Marker.
func (x *own) Mark(syntax.DID) error {
	if x.done == nil && x.guard != nil {
		x.done = x.guard()
	}
	return nil
}

// Unmark implements durable.Marker.
func (x *own) Unmark(syntax.DID) error {
	if x.done != nil {
		x.done()
		x.done = nil
	}
	return nil
}

// Marked implements durable.Marker. What is left undone is seen to by the alarm.
func (x *own) Marked() []syntax.DID { return nil }

// Open implements durable.Objects.
func (x *own) Open(_ context.Context, _ syntax.DID, create bool) (durable.Object, error) {
	o, err := x.open()
	if err != nil || create {
		return o, err
	}
	empty := true
	err = o.Scan(durable.Scan{Rows: 1, MaxValue: durable.KeysOnly}, func(string, []byte) bool { empty = false; return false })
	if err == nil && empty {
		err = storage.ErrNotFound
	}
	if err != nil {
		return nil, errors.Join(err, o.Close())
	}
	return o, nil
}

// Remove implements durable.Objects.
func (x *own) Remove(syntax.DID) error {
	o, err := x.open()
	if err != nil {
		return err
	}
	return errors.Join(o.Transact(func() error { return o.Delete("", "") }), o.Close())
}

// repos are the repositories as an account's object has them: its own, and those of others far
// away.
type repos struct {
	*cloudflare.RemoteRepos
	own  syntax.DID
	near storage.Repos
	// deleting is called before the account is deleted.
	deleting func() error
}

func (x repos) of(did syntax.DID) storage.Repos {
	if did == x.own {
		return x.near
	}
	return x.RemoteRepos
}

// Head implements storage.Repos.
func (x repos) Head(ctx context.Context, did syntax.DID) (storage.Head, error) {
	return x.of(did).Head(ctx, did)
}

// View implements storage.Repos.
func (x repos) View(ctx context.Context, did syntax.DID, fn func(storage.Reader) error) error {
	return x.of(did).View(ctx, did, fn)
}

// Apply implements storage.Repos.
func (x repos) Apply(ctx context.Context, did syntax.DID, c *storage.Change) (int64, error) {
	return x.of(did).Apply(ctx, did, c)
}

// Replace implements storage.Repos.
func (x repos) Replace(ctx context.Context, did syntax.DID, records iter.Seq2[storage.RecordChange, error], final func() (*storage.Change, error)) (int64, error) {
	return x.of(did).Replace(ctx, did, records, final)
}

// Delete implements storage.Repos. If the object ends before it has told the directory and deleted
// the blobs, nobody may ever ask it again: so there is an alarm.
func (x repos) Delete(ctx context.Context, did syntax.DID, events []storage.Event) (int64, error) {
	if did == x.own {
		if err := x.deleting(); err != nil {
			return 0, err
		}
	}
	return x.of(did).Delete(ctx, did, events)
}

// find answers which account has a DID, a handle or an e-mail address: its DID, or nothing.
func (n *Node) find(ctx context.Context, _ string, id []byte) ([]byte, error) {
	a, err := n.Accounts.Find(ctx, string(id))
	if errors.Is(err, accounts.ErrNotFound) {
		return nil, nil
	}
	return []byte(a.DID), err
}

// planned answers calls, after which the directory may have something to do: mail to send, a relay
// to ask.
func (n *Node) planned(answer cloudflare.Call) cloudflare.Call {
	return func(ctx context.Context, method string, body []byte) ([]byte, error) {
		out, err := answer(ctx, method, body)
		if method == "kv.write" || strings.HasPrefix(method, "directory.") {
			n.plan(ctx)
		}
		if method == "repo.delete" {
			n.tidyAlarmSet.Store(false)
		}
		return out, err
	}
}

// partOf is what is different where the server has an object for each account.
func (s *Server) partOf(c *pds.Config) {
	c.Node = pds.Node{ID: strings.Map(nodeName, string(s.part)), Shared: true, SkipRepair: true}
	c.Node.ID = c.Node.ID[:min(len(c.Node.ID), 64)]
	if s.part != Directory {
		c.Relays = nil // the directory asks them
	}
	c.OAuth.Replays = proofs{s}
}

// proofs remembers the proofs of calls in the object of the account whose token came along. That is
// where such calls go, so it is near as a rule; an object that gets one nevertheless asks there, so
// that no proof is good once more at another object.
type proofs struct{ at *Server }

// Use implements dpop.Replays.
func (p proofs) Use(ctx context.Context, u dpop.Use, now time.Time) error {
	kv := p.at.platform.near
	if u.Account != string(p.at.part) {
		kv = cloudflare.RemoteKV(p.at.platform.call(Part(u.Account)), p.at.now)
	}
	return (&dpop.Stored{KV: kv, Prefix: "oauth/call/"}).Use(ctx, u, now)
}

func nodeName(r rune) rune {
	if r == ':' || r == '%' {
		return '.'
	}
	return r
}

// setTidyAlarm sets the alarm at which an account's object deletes what it does not need, after a
// request that may leave such.
func (s *Server) setTidyAlarm(r *http.Request) {
	if s.part == "" || s.part == Directory || s.part == Desk || r.Method != http.MethodPost ||
		!strings.HasPrefix(r.URL.Path, "/xrpc/com.atproto.repo.") || s.tidyAlarmSet.Swap(true) {
		return
	}
	if err := s.platform.Alarm(s.now().Add(tidyAfter)); err != nil {
		s.log.Error("the alarm cannot be set", "err", err)
		s.tidyAlarmSet.Store(false)
	}
}

// Blobs that no record has are deleted when they are a day old.
const (
	unusedBlobs = 24 * time.Hour
	tidyAfter   = unusedBlobs + time.Hour
	// deletedAfter is when an object looks whether its account was deleted with all its blobs.
	deletedAfter = time.Minute
)

// tidyAccount tells the directory of a change that it does not know of, deletes blobs that no
// record of the account has, or all if it was deleted, and returns when to do so again; zero: after
// the next write.
func (s *Server) tidyAccount(ctx context.Context) time.Time {
	if s.part == Desk {
		return time.Time{}
	}
	s.tidyAlarmSet.Store(false)
	did, before := syntax.DID(s.part), s.now().Add(-unusedBlobs)
	owed := s.platform.recovered()
	err := s.platform.Store.Repos.View(ctx, did, func(storage.Reader) error { return nil })
	gone := errors.Is(err, storage.ErrNotFound)
	if gone {
		err = s.platform.Store.Blobs.DeleteAll(ctx, did)
	} else if err == nil {
		if _, err = s.platform.Store.Blobs.Collect(ctx, before); err == nil {
			_, err = s.Host.SweepBlobs(ctx, did, before)
		}
	}
	if err != nil && !errors.Is(err, repo.ErrRepoNotFound) {
		s.log.Error("maintenance of the account", "err", err)
		s.tidyAlarmSet.Store(true)
		s.mu.Lock()
		defer s.mu.Unlock()
		s.wait = min(max(2*s.wait, retryFirst), retryLast)
		return s.now().Add(s.wait)
	}
	s.mu.Lock()
	defer s.mu.Unlock()
	if s.wait = 0; s.platform.recovered() > owed && !gone { // that alarm was in the place of the one of tend
		s.tidyAlarmSet.Store(true)
		return s.now().Add(tidyAfter)
	}
	return time.Time{}
}

// String is for logs.
func (p Part) String() string { return fmt.Sprintf("%.100s", string(p)) }

package storagetest

import (
	"context"
	"errors"
	"iter"
	"strings"
	"testing"

	"github.com/ipfs/go-cid"
	"github.com/pdskit/pdskit/commit"
	"github.com/pdskit/pdskit/crypto"
	"github.com/pdskit/pdskit/internal/dag"
	"github.com/pdskit/pdskit/lexicon/syntax"
	"github.com/pdskit/pdskit/storage"
	"github.com/pdskit/pdskit/storage/memory"
)

// Each case makes one contradiction, which CheckStore must find.
func TestCheckStore(t *testing.T) {
	blobs := blobInfos(2)
	read := func(e *env, change func(r storage.Reader) hookReader) {
		repos := e.Repos
		e.Repos = hookRepos{Repos: repos, view: func(ctx context.Context, did syntax.DID, fn func(storage.Reader) error) error {
			return repos.View(ctx, did, func(r storage.Reader) error {
				h := change(r)
				h.Reader = r
				return fn(h)
			})
		}}
	}
	all := Options{Key: keyOf, Blobs: true}
	cases := []struct {
		name  string
		spoil func(e *env, a *account)
		opt   Options
		want  string // in the error; empty: none
	}{
		{"nothing", func(*env, *account) {}, all, ""},
		{"another key", func(*env, *account) {}, Options{Key: func(syntax.DID) *crypto.PublicKey { return keyOf("did:web:other.example") }}, "signature"},
		{"no keys", func(*env, *account) {}, Options{}, ""},
		{"no key for the account", func(*env, *account) {}, Options{Key: func(syntax.DID) *crypto.PublicKey { return nil }}, ""},
		{"lost record", func(e *env, a *account) {
			s := a.change(note("x", "x"))
			s.Records = nil
			e.apply(a, s)
		}, all, "make tree"},
		{"other record", func(e *env, a *account) {
			s := a.change(note("x", "x"))
			s.Records[0].Data = note("x", "y").record
			e.apply(a, s)
		}, all, "does not match its CID"},
		{"other commit block", func(e *env, a *account) {
			s := a.change(note("x", "x"))
			s.Commit = []byte("x")
			e.apply(a, s)
		}, all, "does not match the head"},
		{"commit of another account", func(e *env, a *account) {
			b := newAccount("did:web:b.example")
			s := b.change()
			s.Events = nil
			if _, err := e.Repos.Apply(e.ctx, "did:web:c.example", &s.Change); err != nil {
				t.Fatal(err)
			}
		}, Options{}, "the commit is"},
		{"head of another tree", func(e *env, a *account) {
			s := a.change(note("x", "x"))
			s.Head.Data = dag.Sum(dag.CBOR, nil)
			e.apply(a, s)
		}, all, "the head is"},
		{"missing reference", func(e *env, a *account) {
			s := a.change(note("x", "x", blobs[0]))
			s.Records[0].Blobs = nil
			e.apply(a, s)
		}, Options{}, "the index of blobs has"},
		{"reference too many", func(e *env, a *account) {
			s := a.change(note("x", "x"))
			s.Records[0].Blobs = []cid.Cid{blobs[0].CID}
			e.apply(a, s)
		}, Options{}, "the index of blobs has"},
		{"missing blob", func(e *env, a *account) { e.write(a, note("x", "x", blobs[0])) }, all, "is lost"},
		{"blob left over", func(e *env, a *account) { e.promoted(a.did, "blob") }, all, "no record refers to"},
		{"commit without an event", func(e *env, a *account) {
			s := a.change(note("x", "x"))
			s.Events = nil
			e.apply(a, s)
		}, all, "the last event leads to"},
		{"commit without an event, allowed", func(e *env, a *account) {
			s := a.change(note("x", "x"))
			s.Events = nil
			e.apply(a, s)
		}, Options{Silent: true}, ""},
		{"lost event", func(e *env, a *account) {
			s := a.change(note("x", "x"))
			s.Events = nil
			e.apply(a, s)
			e.write(a, note("y", "y"))
		}, all, "does not follow"},
		{"event without an operation", func(e *env, a *account) {
			s := a.change(note("x", "x"), note("y", "y"))
			msg, err := commit.DecodeEvent(s.Events[0].Payload)
			if err != nil {
				t.Fatal(err)
			}
			msg.Ops = msg.Ops[:1]
			s.Events[0].Payload = msg.Payload()
			e.apply(a, s)
		}, all, "operations do not lead"},
		{"event of another account", func(e *env, a *account) {
			s := a.aside()
			s.Events = []storage.Event{newAccount("did:web:other.example").event()}
			s.Events[0].DID = a.did
			e.apply(a, s)
		}, all, "another account"},
		{"malformed event", func(e *env, a *account) {
			s := a.aside()
			s.Events = []storage.Event{{DID: a.did, Kind: "#commit", Payload: []byte("x")}}
			e.apply(a, s)
		}, all, "invalid message"},
		{"unknown event", func(e *env, a *account) {
			s := a.aside()
			s.Events = []storage.Event{{DID: a.did, Kind: "#other"}}
			e.apply(a, s)
		}, all, "unknown kind"},
		{"commits of a deleted repository", func(e *env, a *account) {
			b := e.account()
			s := a.aside()
			s.Events = b.change().Events
			e.apply(a, s)
		}, all, "no repository"},
		{"events out of order", func(e *env, a *account) {
			events := e.Events
			e.Events = hookEvents{Events: events, since: func(ctx context.Context, seq int64) iter.Seq2[storage.Event, error] {
				return func(yield func(storage.Event, error) bool) {
					for ev, err := range events.Since(ctx, seq) {
						ev.Seq = 7
						if !yield(ev, err) {
							return
						}
					}
				}
			}}
			e.apply(a, &step{tree: a.tree, Change: storage.Change{Prev: a.head, Head: a.head, Events: []storage.Event{a.event(), a.event()}}})
		}, all, "comes after"},
		{"bounds crossed", func(e *env, a *account) {
			e.Events = hookEvents{Events: e.Events, bounds: func(context.Context) (int64, int64, error) { return 9, 3, nil }}
		}, Options{}, "bounds"},
		{"record not found by CID", func(e *env, a *account) {
			read(e, func(r storage.Reader) hookReader {
				return hookReader{recordByCID: func(ctx context.Context, c cid.Cid) (storage.Record, error) {
					return storage.Record{}, storage.ErrNotFound
				}}
			})
		}, all, "not found by its CID"},
		{"wrong record by CID", func(e *env, a *account) {
			read(e, func(r storage.Reader) hookReader {
				return hookReader{recordByCID: func(ctx context.Context, c cid.Cid) (storage.Record, error) {
					return r.Record(ctx, path("001"))
				}}
			})
		}, all, "another record is found"},
		{"record of a later revision", func(e *env, a *account) {
			read(e, func(r storage.Reader) hookReader {
				return hookReader{records: func(ctx context.Context, rng storage.Range) iter.Seq2[storage.Record, error] {
					return func(yield func(storage.Record, error) bool) {
						for rec, err := range r.Records(ctx, rng) {
							rec.Rev = "7777777777777"
							if !yield(rec, err) {
								return
							}
						}
					}
				}}
			})
		}, all, "was written in"},
		{"lists in the wrong order", func(e *env, a *account) {
			e.newRepo()
			repos := e.Repos
			e.Repos = hookRepos{Repos: repos, list: func(ctx context.Context, after syntax.DID) iter.Seq2[storage.RepoInfo, error] {
				return func(yield func(storage.RepoInfo, error) bool) {
					list, _ := collect(repos.List(ctx, after))
					_ = yield(list[1], nil) && yield(list[0], nil)
				}
			}}
		}, all, "List yields"},
	}
	for _, c := range cases {
		t.Run(strings.ReplaceAll(c.name, " ", "_"), func(t *testing.T) {
			e := &env{TB: t, Store: memory.New(memory.Config{}), ctx: context.Background()}
			a := e.newRepo(notes(3)...)
			c.spoil(e, a)
			err := CheckStore(e.ctx, e.Store, c.opt)
			if c.want == "" {
				if err != nil {
					t.Errorf("error %v", err)
				}
			} else if err == nil || !errors.Is(err, storage.ErrCorrupt) || !strings.Contains(err.Error(), c.want) {
				t.Errorf("error %v, want one that says %q", err, c.want)
			}
		})
	}
}

package storagetest

import (
	"fmt"
	"slices"
	"strings"

	"github.com/pdskit/pdskit/lexicon/syntax"
	"github.com/pdskit/pdskit/storage"
)

// oddNames: names compare as bytes, whatever bytes they are.
func oddNames(e *env) {
	dids := []syntax.DID{"did:web:a.example", "did:web:A.example", "did:web:a.example%3A8080", "did:web:a.exampl", syntax.DID("did:web:" + strings.Repeat("long.", 400) + "example")}
	slices.Sort(dids)
	keys := []string{"\x00", "\x00\x00", " ", "A", "A/", "a", "a\x00", "a\x00b", "a/", "a/\xff", "a\xff", "é", "\xc3", "\xff", "\xff\xff", "%", "_", "'", `"`}
	slices.Sort(keys)
	var names []string
	for _, n := range []string{"A", "a", "aa", "Aa", "aA", "-", ".a", "_", "~", "~~", ":", "0", "9", "z", "Z", strings.Repeat("z", 512)} {
		names = append(names, path(n))
	}
	names = append(names, "com.example.notes/a", "com.example.Note/a", "com.example.note-x.y/a")
	slices.Sort(names)
	for i, did := range dids {
		a := newAccount(did)
		var edits []edit
		for _, n := range names {
			x := note("", fmt.Sprint(i, n))
			x.path = n
			edits = append(edits, x)
		}
		s := a.change(edits...)
		for _, k := range keys {
			s.KV = append(s.KV, storage.KVWrite{Key: k, Value: []byte(fmt.Sprint(i, k))})
		}
		e.apply(a, s)
	}
	for i, did := range dids {
		e.view(did, func(r storage.Reader) {
			var got []string
			for rec, err := range r.Records(e.ctx, storage.Range{}) {
				e.ok(err, "Records")
				got = append(got, rec.Path)
			}
			e.same(got, names, "paths of %s", did)
			got = nil
			for p, err := range r.Keys(e.ctx, storage.Range{}) {
				e.ok(err, "Keys")
				got = append(got, p.Key)
				e.same(string(p.Value), fmt.Sprint(i, p.Key), "value of %q in %s", p.Key, did)
				one, err := r.Get(e.ctx, p.Key)
				e.ok(err, "Get(%q)", p.Key)
				e.same(string(one), string(p.Value), "Get(%q)", p.Key)
			}
			e.same(fmt.Sprintf("%q", got), fmt.Sprintf("%q", keys), "keys of %s", did)
		})
	}
	infos, err := collect(e.Repos.List(e.ctx, ""))
	e.ok(err, "List")
	var got []syntax.DID
	for _, info := range infos {
		got = append(got, info.DID)
	}
	e.same(got, dids, "List")
}

func deleteRepo(e *env) {
	b := blobInfos(2)
	a, other := e.newRepo(note("000", "x", b[0])), e.newRepo(note("000", "x", b[0]))
	for _, x := range []*account{a, other} {
		s := x.aside(storage.KVWrite{Key: "a", Value: []byte("1")})
		s.Events = []storage.Event{x.event()}
		e.apply(x, s)
	}
	wantEvents := func(want ...storage.Event) {
		e.Helper()
		var got, w []string
		for _, ev := range e.events(0) {
			got = append(got, fmt.Sprintf("%s %s %s", ev.DID, ev.Kind, shown(ev.Payload)))
		}
		for _, ev := range want {
			w = append(w, fmt.Sprintf("%s %s %s", ev.DID, ev.Kind, shown(ev.Payload)))
		}
		e.same(strings.Join(got, "\n"), strings.Join(w, "\n"), "events")
	}
	kept := slices.DeleteFunc(e.events(0), func(ev storage.Event) bool { return ev.DID == a.did })
	gone := a.gone()
	seq, err := e.Repos.Delete(e.ctx, a.did, []storage.Event{gone})
	e.ok(err, "Delete")
	wantEvents(append(kept, gone)...)
	if list := e.events(0); list[len(list)-1].Seq != seq {
		e.Errorf("Delete returned %d, but its event has %d", seq, list[len(list)-1].Seq)
	}
	_, err = e.Repos.Head(e.ctx, a.did)
	e.fails(err, storage.ErrNotFound, "Head")
	_, err = e.Repos.Delete(e.ctx, a.did, nil)
	e.fails(err, storage.ErrNotFound, "second Delete")
	e.hasRecords(other, note("000", "x", b[0]))
	e.same(e.value(other.did, "a"), `"1"`, "another account's key")

	// Nothing of the old one is in a new repository of the same name.
	again := newAccount(a.did)
	again.ticks = a.ticks
	s := again.change(note("001", "y"))
	s.Checks = []storage.KVCheck{{Key: "a"}}
	e.apply(again, s)
	e.hasRecords(again, note("001", "y"))
	e.same(e.value(a.did, "a"), "missing", "a key of the deleted repository")
	e.view(a.did, func(r storage.Reader) {
		ok, err := r.HasBlobRef(e.ctx, b[0].CID)
		if ok || err != nil {
			e.Errorf("a reference of the deleted repository is left (%v)", err)
		}
	})
	seq, err = e.Repos.Delete(e.ctx, a.did, nil)
	e.ok(err, "Delete without events")
	e.same(seq, 0, "sequence number of Delete without events")
	wantEvents(kept...)
}

func listRepos(e *env) {
	infos, err := collect(e.Repos.List(e.ctx, ""))
	e.ok(err, "List")
	e.same(len(infos), 0, "repositories of an empty store")
	var all []*account
	for range 12 {
		all = append(all, e.newRepo(notes(1)...))
	}
	e.write(all[3], note("000", "changed"))
	_, err = e.Repos.Delete(e.ctx, all[5].did, nil)
	e.ok(err, "Delete")
	all = slices.Delete(all, 5, 6)
	slices.SortFunc(all, func(x, y *account) int { return strings.Compare(string(x.did), string(y.did)) })
	after := []syntax.DID{"", "did", "did:web:account5.example", "did:zzz"}
	for _, a := range all {
		after = append(after, a.did)
	}
	for _, from := range after {
		infos, err := collect(e.Repos.List(e.ctx, from))
		e.ok(err, "List")
		var got, want []string
		for _, info := range infos {
			got = append(got, string(info.DID)+headString(info.Head))
		}
		for _, a := range all {
			if a.did > from {
				want = append(want, string(a.did)+headString(a.head))
			}
		}
		e.same(got, want, "List after %q", from)
	}
	for range e.Repos.List(e.ctx, "") {
		break
	}
}

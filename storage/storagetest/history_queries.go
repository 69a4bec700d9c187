package storagetest

import (
	"fmt"
	"slices"
	"strings"
	"time"

	"github.com/ipfs/go-cid"
	"github.com/pdskit/pdskit/internal/dag"
	"github.com/pdskit/pdskit/lexicon/syntax"
	"github.com/pdskit/pdskit/storage"
)

// query runs fn on views of one repository in both stores. Its results are added up.
func (h *history) query(name string, fn func(r storage.Reader, add func(string, error)) error) {
	did := pick(h, h.accounts).did
	h.both(name, func(st storage.Store) (string, error) {
		var out strings.Builder
		err := st.Repos.View(h.ctx, did, func(r storage.Reader) error {
			return fn(r, func(s string, err error) { fmt.Fprintf(&out, "%s (%s)\n", s, class(err)) })
		})
		return out.String(), err
	})
}

func (h *history) queryRecords() {
	paths := []string{path(""), path("~"), "com.example.a/x", "zzz"}
	for _, n := range h.names {
		paths = append(paths, path(n))
	}
	rng, one := h.rangeOf(paths), pick(h, paths)
	text := note("", fmt.Sprint("text ", h.rng.IntN(6))).record
	h.query(fmt.Sprintf("Records(%+v)", rng), func(r storage.Reader, add func(string, error)) error {
		rec, err := r.Record(h.ctx, one)
		add(recordString(rec), err)
		rec, err = r.RecordByCID(h.ctx, dag.Sum(dag.CBOR, text))
		add(fmt.Sprintf("%s %s", rec.CID, shown(rec.Data)), err) // which of several is not said
		for rec, err := range r.Records(h.ctx, rng) {
			add(recordString(rec), err)
		}
		return nil
	})
}

func (h *history) queryKeys() {
	rng, key := h.rangeOf(kvNames), pick(h, kvNames)
	h.query(fmt.Sprintf("Keys(%+v)", rng), func(r storage.Reader, add func(string, error)) error {
		v, err := r.Get(h.ctx, key)
		add(fmt.Sprintf("%q", v), err)
		for p, err := range r.Keys(h.ctx, rng) {
			add(pairString(p), err)
		}
		return nil
	})
}

func (h *history) queryRefs() {
	after := pick(h, append(blobInfos(8), storage.BlobInfo{CID: cid.Undef})).CID
	since := pick(h, []syntax.TID{"", pick(h, h.accounts).head.Rev, h.older[h.accounts[0].did].Rev})
	h.query("BlobRefs", func(r storage.Reader, add func(string, error)) error {
		ok, err := r.HasBlobRef(h.ctx, after)
		add(fmt.Sprint(ok), err)
		for ref, err := range r.BlobRefs(h.ctx, after, since) {
			add(fmt.Sprint(ref.Blob, ref.Path, ref.Rev), err)
		}
		return nil
	})
}

func (h *history) querySince() {
	a := pick(h, h.accounts)
	rev := pick(h, []syntax.TID{"", a.head.Rev, h.older[a.did].Rev, syntax.NewTID(start.Add(100*time.Millisecond), 0)})
	h.query("RecordsSince", func(r storage.Reader, add func(string, error)) error {
		list, err := collect(r.RecordsSince(h.ctx, rev))
		slices.SortFunc(list, func(x, y storage.Record) int { return strings.Compare(x.Path, y.Path) })
		for _, rec := range list {
			add(recordString(rec), nil)
		}
		return err
	})
}

func (h *history) queryList() {
	after := pick(h, []syntax.DID{"", pick(h, h.accounts).did})
	h.both("List", func(st storage.Store) (out string, err error) {
		for info, err := range st.Repos.List(h.ctx, after) {
			if err != nil {
				return "", err
			}
			out += string(info.DID) + headString(info.Head) + ";"
		}
		head, err := st.Repos.Head(h.ctx, after)
		return out + headString(head), err
	})
}

// queryEvents reads the log from a random position. Numbers differ from the
// model's, so positions are counted.
func (h *history) queryEvents() {
	at := h.rng.IntN(30)
	h.both("Since", func(st storage.Store) (string, error) {
		all, err := collect(st.Events.Since(h.ctx, 0))
		if err != nil {
			return "", err
		}
		since := int64(0)
		if at < len(all) {
			since = all[at].Seq
		}
		oldest, newest, err := st.Events.Bounds(h.ctx)
		if err != nil {
			return "", err
		}
		if len(all) > 0 && all[len(all)-1].Seq > newest {
			return "an event newer than the newest", nil
		}
		kept, err := collect(st.Events.Since(h.ctx, oldest-1))
		if err != nil {
			return "", err
		}
		out := fmt.Sprint(len(kept), oldest == 1)
		for ev, err := range st.Events.Since(h.ctx, since) {
			if err != nil {
				return "", err
			}
			out += fmt.Sprintf("\n%s %s %d %d %s", ev.DID, ev.Kind, ev.Time.UnixMilli(), ev.Numbers(), shown(ev.Payload))
		}
		return out, nil
	})
}

package relay_test

import (
	"bytes"
	"fmt"
	"strings"
	"testing"
	"time"

	"github.com/pdskit/pdskit/car"
	"github.com/pdskit/pdskit/commit"
	"github.com/pdskit/pdskit/internal/cbor"
	"github.com/pdskit/pdskit/internal/dag"
	"github.com/pdskit/pdskit/lexicon/syntax"
	"github.com/pdskit/pdskit/xrpc/relay"
)

func TestR16Limits(t *testing.T) {
	inWorld(t, func(w *world) {
		h := w.host("pds1.test")
		r := w.relay("")
		r.follow(h)
		big := func(name string, e *commit.Event, rule relay.Rule, a *account) {
			t.Helper()
			h.say(e)
			w.settle()
			r.wantRule(h, rule, 1)
			for _, m := range r.log() {
				if m.Kind() == commit.KindCommit && m.About() == a.did {
					t.Errorf("%s: passed on", name)
				}
			}
		}
		a := h.account("record")
		e := a.write(t, map[string]string{"com.example.note/x": "x"})
		huge := record(strings.Repeat("x", commit.MaxRecord-8))
		e.Ops[0].CID = huge.CID
		e.Blocks = car.AppendBlocks(e.Blocks, huge)
		big("a record of more than 1,000,000 bytes", e, relay.RuleRecord, a)

		b := h.account("blocks")
		e = b.write(t, map[string]string{"com.example.note/x": "x"})
		pad := bytes.Repeat([]byte{1}, commit.MaxBlocks+1-len(e.Blocks)-39)
		e.Blocks = car.AppendBlocks(e.Blocks, car.Block{CID: dag.Sum(dag.Raw, pad), Data: pad})
		if len(e.Blocks) != commit.MaxBlocks+1 {
			t.Fatal(len(e.Blocks))
		}
		big("blocks of more than 2,000,000 bytes", e, relay.RuleSize, b)

		c := h.account("ops")
		texts := make(map[string]string)
		for i := range commit.MaxOps {
			texts[fmt.Sprintf("com.example.note/%03d", i)] = "x"
		}
		e = c.write(t, texts)
		extra := e.Ops[0]
		extra.Path += "x"
		e.Ops = append(e.Ops, extra)
		h.say(e)
		w.settle()
		r.wantRule(h, relay.RuleSize, 2)

		d := h.account("frame")
		h.post(d)
		w.settle()
		m := cbor.AppendMap(nil, 3)
		m = cbor.AppendText(cbor.AppendText(m, "did"), string(d.did))
		m = cbor.AppendText(cbor.AppendText(m, "pad"), strings.Repeat("x", 5_000_000))
		m = cbor.AppendText(cbor.AppendText(m, "time"), string(syntax.NewDatetime(time.Now())))
		h.sayRaw(d.did, commit.KindIdentity, m)
		w.settle()
		r.wantRule(h, relay.RuleSize, 3)
		h.post(d)
		w.settle()
		r.wantHead(d)
	})
}

func TestR17UnknownKindsAndFields(t *testing.T) {
	inWorld(t, func(w *world) {
		h := w.host("pds1.test")
		a := h.account("alice")
		r := w.relay("")
		r.follow(h)
		h.sayRaw(a.did, "#novelty", cbor.AppendText(cbor.AppendText(cbor.AppendMap(nil, 1), "did"), string(a.did)))
		e := a.write(t, map[string]string{"com.example.note/x": "x"})
		plain := e.Payload()
		// One more field, whose key comes first, and one that comes last.
		rd := cbor.NewReader(plain)
		n, err := rd.Map()
		w.must(err)
		odd := cbor.AppendMap(nil, n+2)
		odd = cbor.AppendBool(cbor.AppendText(odd, "x"), true)
		odd = append(odd, plain[rd.Pos():]...)
		odd = cbor.AppendText(cbor.AppendText(odd, "somethingNew"), "kept")
		h.sayRaw(a.did, commit.KindCommit, odd)
		w.settle()
		r.wantRule(h, relay.RuleKind, 1)
		r.want("#commit alice")
		for e, err := range r.Store.Events.Since(w.ctx, 0) {
			if w.must(err); !bytes.Equal(e.Payload, odd) {
				t.Errorf("%q", e.Payload)
			}
		}
		if info, _ := r.Host(w.ctx, h.name); info.Seq != 2 {
			t.Errorf("the cursor is at %d", info.Seq)
		}
	})
}

func TestR18Status(t *testing.T) {
	inWorld(t, func(w *world) {
		h := w.host("pds1.test")
		a := h.account("alice")
		r := w.relay("relay.test")
		r.follow(h)
		h.post(a)
		h.setActive(a, false, "deactivated")
		h.post(a)
		w.settle()
		r.wantRule(h, relay.RuleInactive, 1)
		r.wantStatus(a, "deactivated")
		r.want("#commit alice", "#account alice deactivated")
		h.setActive(a, true, "")
		h.post(a)
		w.pass(time.Minute)
		r.wantStatus(a, "")
		r.wantHead(a)
		r.want("#commit alice", "#account alice deactivated", "#account alice", "#sync alice")
		h.post(a)
		w.settle()
		r.wantHead(a)
	})
}

// The message that an account is active again was lost: its host is asked.
func TestR18StatusWasLost(t *testing.T) {
	inWorld(t, func(w *world) {
		h := w.host("pds1.test")
		a := h.account("alice")
		r := w.relay("")
		r.follow(h)
		h.post(a)
		h.setActive(a, false, "suspended")
		w.pass(time.Minute)
		h.setStatus(a, "")
		h.post(a)
		w.pass(time.Minute)
		r.wantStatus(a, "")
		r.wantHead(a)
		r.want("#commit alice", "#account alice suspended", "#account alice", "#sync alice")
	})
}

func TestR18Deleted(t *testing.T) {
	inWorld(t, func(w *world) {
		h := w.host("pds1.test")
		a := h.account("alice")
		r := w.relay("")
		r.follow(h)
		h.post(a)
		last := h.post(a)
		h.setActive(a, false, "deleted")
		w.settle()
		r.want("#account alice deleted") // the events of before are gone
		r.wantStatus(a, "deleted")
		if info, _ := r.Host(w.ctx, h.name); info.Accounts != 0 {
			t.Errorf("%+v", info)
		}
		h.say(last) // does not bring it back
		w.settle()
		r.want("#account alice deleted")
		w.pass(time.Minute)
		h.setActive(a, true, "")
		h.say(last)
		w.pass(time.Minute)
		h.post(a)
		w.pass(time.Minute)
		r.wantHead(a)
		r.wantStatus(a, "")
	})
}

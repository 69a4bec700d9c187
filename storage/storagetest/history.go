package storagetest

import (
	"errors"
	"fmt"
	"math/rand/v2"
	"strings"
	"testing"
	"time"

	"github.com/pdskit/pdskit/lexicon/syntax"
	"github.com/pdskit/pdskit/storage"
	"github.com/pdskit/pdskit/storage/memory"
)

// historyChecks compare a backend with the model.
func historyChecks() []check {
	var list []check
	for seed := range uint64(6) {
		list = append(list, check{name: fmt.Sprint("History/", seed), law: func(e *env) { randomHistory(e, seed) }})
	}
	return list
}

// history is a random sequence of calls on a backend and on the model.
type history struct {
	*env
	model    storage.Store
	rng      *rand.Rand
	accounts []*account
	older    map[syntax.DID]storage.Head
	names    []string
	now      time.Time
	trace    []string // of the last calls
}

// reopensIn is how many calls lie between two reopenings of a history, on average: few for one
// seed, some for the other odd ones, for which more calls meet a store that has been open for a
// while.
func reopensIn(seed uint64) int {
	switch {
	case seed == 1:
		return 5
	case seed%2 == 1:
		return 12
	}
	return 0 // never
}

// reopenAtTimes reopens the store after a random few of the calls, for odd seeds.
func (h *history) reopenAtTimes(seed uint64) {
	h.Helper()
	if n := reopensIn(seed); n > 0 && h.rng.IntN(n) == 0 {
		h.reopen()
		h.trace = append(h.trace, "reopen")
	}
}

// randomHistory runs a history. Odd seeds reopen the store at times.
func randomHistory(e *env, seed uint64) {
	if testing.Short() && seed > 1 {
		e.Skip("one that reopens the store and one that does not are enough")
	}
	h := &history{env: e, model: memory.New(memory.Config{}), rng: rand.New(rand.NewPCG(seed, 42)), older: map[syntax.DID]storage.Head{}, now: time.Now().Truncate(time.Millisecond)}
	for range 4 {
		h.accounts = append(h.accounts, e.account())
	}
	for i := range 12 {
		h.names = append(h.names, fmt.Sprintf("%02d", i))
	}
	steps := 400
	if testing.Short() {
		steps = 100
	}
	calls := h.calls()
	for i := range steps {
		call := calls[h.rng.IntN(len(calls))]
		call()
		h.reopenAtTimes(seed)
		if i%10 == 9 || i == steps-1 {
			h.compareAll()
		}
		if e.Failed() {
			e.Fatalf("history %d, step %d; the last calls were:\n%s", seed, i, strings.Join(h.trace[max(0, len(h.trace)-12):], "\n"))
		}
	}
	e.ok(CheckStore(e.ctx, e.Store, Options{Key: keyOf}), "check of the whole store")
}

func (h *history) compareAll() {
	h.Helper()
	want, err := dump(h.ctx, h.model)
	h.ok(err, "read the model")
	h.sameLines(h.dump(), want, "the store differs from the model")
}

// class names the kind of an error.
func class(err error) string {
	for name, target := range map[string]error{
		"not found": storage.ErrNotFound, "exists": storage.ErrExists, "conflict": storage.ErrConflict, "invalid": storage.ErrInvalid, "too large": storage.ErrTooLarge, "over quota": storage.ErrQuota, "broken": errBroken,
	} {
		if errors.Is(err, target) {
			return name
		}
	}
	if err != nil {
		return "another error: " + err.Error()
	}
	return "no error"
}

var errBroken = errors.New("broken")

// both carries out a call on store and model, which must answer the same. It
// reports whether the call succeeded.
func (h *history) both(name string, call func(s storage.Store) (string, error)) bool {
	h.Helper()
	want, modelErr := call(h.model)
	got, err := call(h.Store)
	h.trace = append(h.trace, fmt.Sprintf("%s: %s", name, class(modelErr)))
	h.same(class(err), class(modelErr), "%s", name)
	h.same(got, want, "%s", name)
	return modelErr == nil
}

func pick[T any](h *history, list []T) T { return list[h.rng.IntN(len(list))] }

// calls are the kinds of calls; those that are there more than once are more frequent.
func (h *history) calls() []func() {
	return []func(){
		h.applyEdits, h.applyEdits, h.applyEdits, h.applyEdits, h.applyEdits, h.applyAside, h.applyAside, h.applyWrong,
		h.replace, h.replaceWrong, h.delete, h.trim,
		h.kvWrite, h.kvWrite, h.kvRead,
		h.stage, h.stage, h.setMIME, h.promote, h.deleteBlob, h.collect,
		h.queryRecords, h.queryRecords, h.queryKeys, h.queryRefs, h.querySince, h.queryList, h.queryEvents, h.queryBlobs,
	}
}

// edits are some random edits that are possible for an account.
func (h *history) edits(a *account) (edits []edit) {
	for _, n := range h.names {
		if h.rng.IntN(4) != 0 {
			continue
		}
		_, there, err := a.tree.Get(path(n))
		h.ok(err, "Get")
		switch {
		case there && h.rng.IntN(3) == 0:
			edits = append(edits, remove(n))
		default: // with few texts, so that records are equal now and then
			edits = append(edits, note(n, fmt.Sprint("text ", h.rng.IntN(6)), h.randomBlobs()...))
		}
	}
	return edits
}

var kvNames = []string{"a", "a/1", "a/2", "a0", "b", "b/x", "\x00", "z\xff"}

func (h *history) value() ([]byte, time.Time) {
	value := fmt.Append(nil, h.rng.IntN(3))
	if h.rng.IntN(5) == 0 {
		value = []byte{}
	}
	switch h.rng.IntN(5) {
	case 0:
		return value, h.now.Add(time.Hour)
	case 1:
		return value, h.now.Add(-time.Hour)
	}
	return value, time.Time{}
}

func (h *history) kv() (list []storage.KVWrite) {
	for range h.rng.IntN(4) {
		w := storage.KVWrite{Key: pick(h, kvNames)}
		if h.rng.IntN(3) > 0 {
			w.Value, w.Expires = h.value()
		}
		list = append(list, w)
	}
	return list
}

func (h *history) checks() (list []storage.KVCheck) {
	if h.rng.IntN(5) == 0 {
		c := storage.KVCheck{Key: pick(h, kvNames)}
		if h.rng.IntN(3) == 0 {
			c.Value, _ = h.value()
		}
		list = append(list, c)
	}
	return list
}

// applyStep applies a step to both stores.
func (h *history) applyStep(name string, a *account, s *step) {
	older := a.head
	if h.both(name, func(st storage.Store) (string, error) {
		seq, err := st.Repos.Apply(h.ctx, a.did, &s.Change)
		return fmt.Sprint(seq > 0), err
	}) {
		if older != s.Head {
			h.older[a.did] = older
		}
		a.took(s)
	}
}

func (h *history) applyEdits() {
	a := pick(h, h.accounts)
	s := a.change(h.edits(a)...)
	s.KV, s.Checks = h.kv(), h.checks()
	s.Events = append(s.Events, h.events(a, h.rng.IntN(3))...)
	h.applyStep("Apply edits", a, s)
}

func (h *history) applyAside() {
	a := pick(h, h.accounts)
	s := a.aside(h.kv()...)
	s.Checks = h.checks()
	s.Events = h.events(a, h.rng.IntN(2))
	h.applyStep("Apply aside", a, s)
}

// events are some events, a few of which take several numbers, and few take one that cannot be.
func (h *history) events(a *account, n int) (list []storage.Event) {
	for range n {
		ev := a.event()
		if h.rng.IntN(3) == 0 {
			ev.Weight = pick(h, []int{1, 2, 7, storage.MaxWeight, storage.MaxWeight + 1})
		}
		list = append(list, ev)
	}
	return list
}

// applyWrong applies a step from a head that is not the present one.
func (h *history) applyWrong() {
	a := pick(h, h.accounts)
	s := a.change(h.edits(a)...)
	if h.rng.IntN(2) == 0 {
		s = a.aside(h.kv()...)
	}
	switch h.rng.IntN(3) {
	case 0:
		s.Prev = h.older[a.did]
	case 1:
		s.Prev = pick(h, h.accounts).head
	case 2:
		s.Prev = storage.Head{}
	}
	if s.Prev == a.head {
		return
	}
	h.both("Apply from a wrong head", func(st storage.Store) (string, error) {
		_, err := st.Repos.Apply(h.ctx, a.did, &s.Change)
		return "", err
	})
}

func (h *history) replace() {
	a := pick(h, h.accounts)
	empty := newAccount(a.did)
	records, s := a.replacement(h.edits(empty)...)
	s.KV, s.Checks = h.kv(), h.checks()
	older := a.head
	if h.both("Replace", func(st storage.Store) (string, error) {
		seq, err := st.Repos.Replace(h.ctx, a.did, stream(records, nil), func() (*storage.Change, error) { return &s.Change, nil })
		return fmt.Sprint(seq > 0), err
	}) {
		h.older[a.did] = older
		a.took(s)
	}
}

func (h *history) replaceWrong() {
	a := pick(h, h.accounts)
	records, s := a.replacement(h.edits(newAccount(a.did))...)
	kind := h.rng.IntN(3)
	if kind == 2 {
		s.Prev = h.older[a.did]
		if s.Prev == a.head {
			return
		}
	}
	h.both("Replace that fails", func(st storage.Store) (string, error) {
		err := [...]error{errBroken, nil, nil}[kind]
		_, err = st.Repos.Replace(h.ctx, a.did, stream(records, err), func() (*storage.Change, error) {
			if kind == 1 {
				return nil, errBroken
			}
			return &s.Change, nil
		})
		return "", err
	})
}

func (h *history) delete() {
	i := h.rng.IntN(len(h.accounts))
	a := h.accounts[i]
	var events []storage.Event
	if h.rng.IntN(2) == 0 {
		events = []storage.Event{a.gone()}
	}
	if h.both("Delete", func(st storage.Store) (string, error) {
		seq, err := st.Repos.Delete(h.ctx, a.did, events)
		return fmt.Sprint(seq > 0), err
	}) {
		again := newAccount(a.did)
		again.ticks = a.ticks
		h.accounts[i] = again
		h.older[a.did] = a.head
	}
}

func (h *history) trim() {
	if h.rng.IntN(3) > 0 { // not too often
		return
	}
	at := start.Add(time.Duration(h.rng.IntN(200)) * time.Millisecond)
	h.both("Trim", func(st storage.Store) (string, error) { return "", st.Events.Trim(h.ctx, at) })
}

func (h *history) kvWrite() {
	writes := append(h.kv(), h.kv()...)
	fail := h.rng.IntN(4) == 0
	h.both("KV.Write", func(st storage.Store) (string, error) {
		var seen string
		err := st.KV.Write(h.ctx, func(tx storage.KVTx) error {
			seen = ""
			for _, w := range writes {
				v, err := tx.Get(h.ctx, w.Key)
				seen += fmt.Sprintf("%q %s;", v, class(err))
				if w.Value == nil {
					err = tx.Delete(h.ctx, w.Key)
				} else {
					err = tx.Set(h.ctx, w.Key, w.Value, w.Expires)
				}
				if err != nil {
					return err
				}
			}
			if fail {
				return errBroken
			}
			return nil
		})
		return seen, err
	})
}

func (h *history) rangeOf(names []string) storage.Range {
	r := storage.Range{Reverse: h.rng.IntN(2) == 0, KeysOnly: h.rng.IntN(2) == 0}
	if h.rng.IntN(3) > 0 {
		r.From = pick(h, names)
	}
	if h.rng.IntN(3) > 0 {
		r.To = pick(h, names)
	}
	return r
}

func (h *history) kvRead() {
	rng, key := h.rangeOf(kvNames), pick(h, kvNames)
	h.both(fmt.Sprintf("KV.Read of %+v", rng), func(st storage.Store) (out string, err error) {
		err = st.KV.Read(h.ctx, func(r storage.KVReader) error {
			v, err := r.Get(h.ctx, key)
			out = fmt.Sprintf("%q %s;", v, class(err))
			for p, err := range r.Keys(h.ctx, rng) {
				if err != nil {
					return err
				}
				out += pairString(p) + ";"
			}
			return nil
		})
		return out, err
	})
}

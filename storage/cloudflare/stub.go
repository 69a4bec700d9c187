//go:build js

package cloudflare

import (
	"context"
	"fmt"
	"syscall/js"

	"github.com/pdskit/pdskit/lexicon/syntax"
	"github.com/pdskit/pdskit/storage"
	"github.com/pdskit/pdskit/storage/durable"
)

// OnCall sets the function that answers the calls that other objects make through Host.Stub. Nobody
// else can make such calls: they are not HTTP requests. Call it before Serve.
func (h *Host) OnCall(fn Call) {
	h.mu.Lock()
	defer h.mu.Unlock()
	h.answer = fn
}

// call is called with a method, bytes, and functions for success and failure.
func (h *Host) call(_ js.Value, args []js.Value) any {
	h.mu.Lock()
	answer := h.answer
	h.mu.Unlock()
	method, resolve, reject := args[0].String(), args[2], args[3]
	body := make([]byte, args[1].Length())
	js.CopyBytesToGo(body, args[1])
	go func() {
		out, err := []byte(nil), fmt.Errorf("cloudflare: no method %.100q", method)
		defer func() {
			if r := recover(); r != nil {
				fmt.Printf("cloudflare: panic in the call %s: %v\n", method, r)
				reject.Invoke("panic")
			}
		}()
		if answer != nil {
			out, err = answer(context.Background(), method, body)
		}
		if err != nil {
			reject.Invoke(err.Error())
			return
		}
		resolve.Invoke(toJS(out))
	}()
	return nil
}

// Stub is another Durable Object.
type Stub struct {
	host *Host
	stub js.Value
}

// Stub returns the object with a name, of the class that is bound to a namespace.
func (h *Host) Stub(binding, name string) (*Stub, error) {
	ns := h.object.Get("env").Get(binding)
	if !ns.Truthy() {
		return nil, fmt.Errorf("cloudflare: no namespace is bound to %.100q", binding)
	}
	stub, err := try(func() js.Value { return ns.Call("get", ns.Call("idFromName", name)) })
	if err != nil {
		return nil, err
	}
	return &Stub{h, stub}, nil
}

// Call calls the other object. Do not call it within a transaction of this object. After an error
// that the other object did not return itself, it is unknown whether the call had an effect.
func (s *Stub) Call(ctx context.Context, method string, body []byte) ([]byte, error) {
	v, err := s.host.invoke(ctx, s.stub, "call", method, toJS(body))
	if err != nil {
		return nil, err
	}
	b := make([]byte, v.Length())
	js.CopyBytesToGo(b, v)
	return b, nil
}

// toJS copies bytes to JavaScript.
func toJS(b []byte) js.Value {
	v := js.Global().Get("Uint8Array").New(len(b))
	js.CopyBytesToJS(v, b)
	return v
}

// Objects returns the object store of the single account of a Durable Object, in a table, for
// durable.Config. It is for hosts with one object for each account: see Host.Directory. A change
// may be undelivered, because the directory did not respond or the program ended. The next use of
// the account delivers it. A function of OnAlarm that uses the account, by a View, is called for
// that a minute later: see Guard.
func (h *Host) Objects(table string) (durable.Objects, error) {
	o, err := h.Object(table)
	if err != nil {
		return nil, err
	}
	return &oneAccount{Object: o}, nil
}

// oneAccount is a durable.Marker: what is marked is guarded.
type oneAccount struct {
	*Object
	done func() // ends the guard
}

// Mark implements durable.Marker.
func (o *oneAccount) Mark(syntax.DID) error {
	if o.done == nil {
		o.done = o.host.Guard()
	}
	return nil
}

// Unmark implements durable.Marker.
func (o *oneAccount) Unmark(syntax.DID) error {
	if o.done != nil {
		o.done()
		o.done = nil
	}
	return nil
}

// Marked implements durable.Marker. It returns none, since completing changes at the start would
// delay a request.
func (o *oneAccount) Marked() []syntax.DID { return nil }

// Open implements durable.Objects.
func (o *oneAccount) Open(_ context.Context, _ syntax.DID, create bool) (durable.Object, error) {
	empty := true
	err := o.Scan(durable.Scan{Rows: 1, MaxValue: durable.KeysOnly}, func(string, []byte) bool { empty = false; return false })
	if err == nil && empty && !create {
		err = storage.ErrNotFound
	}
	return o.Object, err
}

// Remove implements durable.Objects.
func (o *oneAccount) Remove(syntax.DID) error { return o.writeNow(appendOp(nil, opDelete, "", "")) }

// Directory returns the directory in another object, which answers with AnswerDirectory, for
// durable.Config. The platform sends a call only when everything that this object has written
// before is durable, so the directory never learns of a change that the account might lose.
func (h *Host) Directory(binding, name string) (durable.Directory, error) {
	s, err := h.Stub(binding, name)
	if err != nil {
		return nil, err
	}
	return directory{remote{s.Call}}, nil
}

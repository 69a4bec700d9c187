package cloudflare

import (
	"context"
	"errors"
	"fmt"
	"time"

	"github.com/ipfs/go-cid"

	"github.com/pdskit/pdskit/internal/cbor"
	"github.com/pdskit/pdskit/lexicon/syntax"
	"github.com/pdskit/pdskit/storage"
	"github.com/pdskit/pdskit/storage/durable"
)

// The methods of a durable.Directory as calls between objects. Requests and responses are CBOR
// arrays. A response begins with the number of its error. After 0, for no error, come the values;
// after another number, the error's text.
const (
	methodEntry    = "directory.entry"
	methodDeliver  = "directory.deliver"
	methodRemove   = "directory.remove"
	methodAnnounce = "directory.announce"
)

// sentinels are the errors that callers branch on, by their numbers, from 2 on. 1 is any other
// error.
var sentinels = []error{
	storage.ErrNotFound, storage.ErrExists, storage.ErrConflict, storage.ErrCorrupt, storage.ErrInvalid, storage.ErrBusy, storage.ErrFull,
}

// remoteError is an error of another object.
type remoteError struct {
	text string
	is   error // one of sentinels, or nil
}

func (e *remoteError) Error() string { return "cloudflare: another object: " + e.text }
func (e *remoteError) Unwrap() error { return e.is }

// Call makes or answers a call between objects. Its body and result are bytes. See Host.OnCall.
type Call func(ctx context.Context, method string, body []byte) ([]byte, error)

// directory is the directory in another object.
type directory struct{ remote }

var _ durable.Directory = directory{}

// RemoteDirectory returns the directory in another object, which answers with [AnswerDirectory],
// for durable.Config. Inside a Durable Object, see Host.Directory.
func RemoteDirectory(call Call) durable.Directory { return directory{remote{call}} }

// CallTime is how long an object waits for the response of another one. An account waits for its
// directory, and all users of the account wait with it.
const CallTime = 30 * time.Second

// ErrNoAnswer: another object has not responded within CallTime. It is unknown whether the call had
// an effect.
var ErrNoAnswer error = noAnswer("cloudflare: another object does not answer")

type noAnswer string

func (e noAnswer) Error() string { return string(e) }

// Unavailable tells package xrpc that a retry may succeed.
func (noAnswer) Unavailable() bool { return true }

// ask makes a call and returns what reads its answer.
func (d remote) ask(ctx context.Context, method string, body []byte) (*cbor.Reader, error) {
	patience, cancel := context.WithTimeoutCause(ctx, CallTime, ErrNoAnswer)
	defer cancel()
	b, err := d.call(patience, method, body)
	switch {
	case ctx.Err() != nil:
		return nil, ctx.Err()
	case patience.Err() != nil:
		return nil, fmt.Errorf("%w: %s", context.Cause(patience), method)
	case err != nil:
		return nil, err
	}
	r := cbor.NewReader(b)
	_, _ = r.Array()
	code, err := r.Uint()
	if err != nil {
		return nil, err
	}
	if code == 0 {
		return r, nil
	}
	e := new(remoteError)
	if n := int(min(code, 100)) - 2; n >= 0 && n < len(sentinels) {
		e.is = sentinels[n]
	}
	e.text, _ = r.Text()
	if err := r.Done(); err != nil {
		return nil, err
	}
	return nil, e
}

// Entry implements durable.Directory.
func (d directory) Entry(ctx context.Context, did syntax.DID) (head storage.Head, number uint64, err error) {
	r, err := d.ask(ctx, methodEntry, cbor.AppendText(nil, string(did)))
	if err != nil {
		return head, 0, err
	}
	head = readHead(r)
	number, _ = r.Uint()
	return head, number, r.Done()
}

// Deliver implements durable.Directory.
func (d directory) Deliver(ctx context.Context, did syntax.DID, c *storage.Change) (int64, error) {
	return d.seq(ctx, methodDeliver, appendChange(nil, did, c))
}

// Remove implements durable.Directory.
func (d directory) Remove(ctx context.Context, did syntax.DID, events []storage.Event) (int64, error) {
	b := cbor.AppendArray(nil, 2)
	b = cbor.AppendText(b, string(did))
	return d.seq(ctx, methodRemove, appendEvents(b, events))
}

// Announce implements durable.Directory.
func (d directory) Announce(ctx context.Context, did syntax.DID, at time.Time) error {
	b := cbor.AppendArray(nil, 2)
	b = cbor.AppendText(b, string(did))
	r, err := d.ask(ctx, methodAnnounce, cbor.AppendInt(b, at.UnixMicro()))
	if err != nil {
		return err
	}
	return r.Done()
}

func (d directory) seq(ctx context.Context, method string, body []byte) (int64, error) {
	r, err := d.ask(ctx, method, body)
	if err != nil {
		return 0, err
	}
	seq, _ := r.Int()
	return seq, r.Done()
}

// AnswerDirectory returns a function that answers the calls that a directory gets from other
// objects: see Host.OnCall and Host.Directory. A call of another method is an error.
func AnswerDirectory(d durable.Directory) Call {
	return func(ctx context.Context, method string, body []byte) ([]byte, error) {
		r := cbor.NewReader(body)
		var values []byte
		n := 1
		err := error(nil)
		switch method {
		case methodEntry:
			did, _ := r.Text()
			if err = r.Done(); err == nil {
				var head storage.Head
				var number uint64
				head, number, err = d.Entry(ctx, syntax.DID(did))
				values, n = cbor.AppendUint(appendHead(nil, head), number), 3
			}
		case methodDeliver:
			did, c, err2 := readChange(r)
			if err = err2; err == nil {
				var seq int64
				seq, err = d.Deliver(ctx, did, c)
				values, n = cbor.AppendInt(nil, seq), 2
			}
		case methodRemove:
			_, _ = r.Array()
			did, _ := r.Text()
			events := readEvents(r)
			if err = r.Done(); err == nil {
				var seq int64
				seq, err = d.Remove(ctx, syntax.DID(did), events)
				values, n = cbor.AppendInt(nil, seq), 2
			}
		case methodAnnounce:
			_, _ = r.Array()
			did, _ := r.Text()
			us, _ := r.Int()
			if err = r.Done(); err == nil {
				err = d.Announce(ctx, syntax.DID(did), time.UnixMicro(us))
			}
		default:
			return nil, noMethod(method)
		}
		return answered(n, values, err), nil
	}
}

func appendError(err error) []byte {
	code := 1
	for i, s := range sentinels {
		if errors.Is(err, s) {
			code = i + 2
			break
		}
	}
	b := cbor.AppendArray(nil, 2)
	b = cbor.AppendUint(b, uint64(code))
	return cbor.AppendText(b, err.Error())
}

func appendHead(b []byte, h storage.Head) []byte {
	b = cbor.AppendArray(b, 3)
	b = cbor.AppendBytes(b, h.Commit.Bytes())
	b = cbor.AppendBytes(b, h.Data.Bytes())
	return cbor.AppendText(b, string(h.Rev))
}

var errMessage = errors.New("cloudflare: malformed call")

func readHead(r *cbor.Reader) (h storage.Head) {
	expect(r, 3)
	h.Commit, h.Data = readCID(r), readCID(r)
	rev, _ := r.Text()
	h.Rev = syntax.TID(rev)
	return h
}

// expect reads the head of an array of n items.
func expect(r *cbor.Reader, n int) {
	if got, err := r.Array(); err == nil && got != n {
		_ = r.Fail(errMessage)
	}
}

func readCID(r *cbor.Reader) cid.Cid {
	b, err := r.Bytes()
	if err != nil || len(b) == 0 {
		return cid.Undef
	}
	c, err := cid.Cast(b)
	if err != nil {
		_ = r.Fail(err)
	}
	return c
}

func appendEvents(b []byte, events []storage.Event) []byte {
	b = cbor.AppendArray(b, len(events))
	for _, e := range events {
		b = cbor.AppendArray(b, 5)
		b = cbor.AppendText(b, string(e.DID))
		b = cbor.AppendText(b, e.Kind)
		b = cbor.AppendInt(b, e.Time.UnixMilli())
		b = cbor.AppendInt(b, int64(e.Weight))
		b = cbor.AppendBytes(b, e.Payload)
	}
	return b
}

func readEvents(r *cbor.Reader) (events []storage.Event) {
	n, _ := r.Array()
	for i := 0; i < n && r.Err() == nil; i++ {
		expect(r, 5)
		did, _ := r.Text()
		kind, _ := r.Text()
		ms, _ := r.Int()
		weight, _ := r.Int()
		payload, _ := r.Bytes()
		events = append(events, storage.Event{
			DID: syntax.DID(did), Kind: kind, Time: time.UnixMilli(ms).UTC(), Weight: int(weight), Payload: payload,
		})
	}
	return events
}

// appendValue appends a value of which nil means none.
func appendValue(b, value []byte) []byte {
	if value == nil {
		return cbor.AppendNull(b)
	}
	return cbor.AppendBytes(b, value)
}

func readValue(r *cbor.Reader) []byte {
	if r.Null() {
		return nil
	}
	b, err := r.Bytes()
	if err == nil && b == nil {
		b = []byte{}
	}
	return b
}

// appendChange appends a change without records: an account has those itself.
func appendChange(b []byte, did syntax.DID, c *storage.Change) []byte {
	b = cbor.AppendArray(b, 7)
	b = cbor.AppendText(b, string(did))
	b = appendHead(b, c.Prev)
	b = appendHead(b, c.Head)
	b = appendValue(b, c.Commit)
	b = appendEvents(b, c.Events)
	b = cbor.AppendArray(b, len(c.Checks))
	for _, k := range c.Checks {
		b = cbor.AppendArray(b, 2)
		b = appendValue(appendKey(b, k.Key), k.Value)
	}
	b = cbor.AppendArray(b, len(c.KV))
	for _, k := range c.KV {
		b = cbor.AppendArray(b, 3)
		b = appendValue(appendKey(b, k.Key), k.Value)
		b = appendTime(b, k.Expires)
	}
	return b
}

func readChange(r *cbor.Reader) (syntax.DID, *storage.Change, error) {
	expect(r, 7)
	did, _ := r.Text()
	c := &storage.Change{Prev: readHead(r), Head: readHead(r), Commit: readValue(r), Events: readEvents(r)}
	n, _ := r.Array()
	for i := 0; i < n && r.Err() == nil; i++ {
		expect(r, 2)
		key := readKey(r)
		c.Checks = append(c.Checks, storage.KVCheck{Key: key, Value: readValue(r)})
	}
	n, _ = r.Array()
	for i := 0; i < n && r.Err() == nil; i++ {
		expect(r, 3)
		key := readKey(r)
		c.KV = append(c.KV, storage.KVWrite{Key: key, Value: readValue(r), Expires: readTime(r)})
	}
	return syntax.DID(did), c, r.Done()
}

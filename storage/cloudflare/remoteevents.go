package cloudflare

import (
	"context"
	"errors"
	"iter"
	"time"

	"github.com/pdskit/pdskit/internal/cbor"
	"github.com/pdskit/pdskit/lexicon/syntax"
	"github.com/pdskit/pdskit/storage"
)

const (
	methodEventsBounds = "events.bounds"
	methodEventsSince  = "events.since"
	methodEventsOf     = "events.of"
)

// Limits on a page of events.
const (
	eventRows  = 100
	eventBytes = 2 << 20
)

// RemoteEvents returns the event log of another object, which answers with [AnswerEvents]. It
// cannot wait for new events: Wait returns if there is one already, or when its context ends. The
// other object trims the log.
func RemoteEvents(call Call) storage.Events { return remoteEvents{remote{call}} }

type remoteEvents struct{ remote }

var _ storage.AccountEvents = remoteEvents{}

// Bounds implements storage.Events.
func (x remoteEvents) Bounds(ctx context.Context) (oldest, newest int64, err error) {
	r, err := x.ask(ctx, methodEventsBounds, nil)
	if err != nil {
		return 0, 0, err
	}
	oldest, _ = r.Int()
	newest, _ = r.Int()
	return oldest, newest, r.Done()
}

// Since implements storage.Events.
func (x remoteEvents) Since(ctx context.Context, seq int64) iter.Seq2[storage.Event, error] {
	return func(yield func(storage.Event, error) bool) {
		_, newest, err := x.Bounds(ctx)
		if err != nil {
			yield(storage.Event{}, err)
			return
		}
		x.pages(ctx, methodEventsSince, cbor.AppendInt(nil, newest), seq, yield)
	}
}

// OfAccount implements storage.AccountEvents.
func (x remoteEvents) OfAccount(ctx context.Context, did syntax.DID) iter.Seq2[storage.Event, error] {
	return func(yield func(storage.Event, error) bool) {
		x.pages(ctx, methodEventsOf, cbor.AppendText(nil, string(did)), 0, yield)
	}
}

// pages yields events from a position on.
func (x remoteEvents) pages(ctx context.Context, method string, of []byte, at int64, yield func(storage.Event, error) bool) {
	for {
		r, err := x.ask(ctx, method, cbor.AppendInt(append(cbor.AppendArray(nil, 2), of...), at))
		if err != nil {
			yield(storage.Event{}, err)
			return
		}
		more, _ := r.Bool()
		n, _ := r.Array()
		var page []storage.Event
		for i := 0; i < n && r.Err() == nil; i++ {
			seq, _ := r.Int()
			for _, e := range readEvents(r) {
				e.Seq, at = seq, seq
				page = append(page, e)
			}
		}
		if err := r.Done(); err != nil {
			yield(storage.Event{}, err)
			return
		}
		for _, e := range page {
			if !yield(e, nil) {
				return
			}
		}
		if !more || len(page) == 0 {
			return
		}
	}
}

// Wait implements storage.Events.
func (x remoteEvents) Wait(ctx context.Context, seq int64) error {
	_, newest, err := x.Bounds(ctx)
	if err != nil || newest > seq {
		return err
	}
	<-ctx.Done()
	return ctx.Err()
}

// Trim implements storage.Events.
func (x remoteEvents) Trim(context.Context, time.Time) error { return ErrElsewhere }

// AnswerEvents returns a function that answers the calls of [RemoteEvents] from a log.
func AnswerEvents(events storage.Events) Call {
	return func(ctx context.Context, method string, body []byte) ([]byte, error) {
		r := cbor.NewReader(body)
		var values []byte
		n := 3
		var err error
		switch method {
		case methodEventsBounds:
			var oldest, newest int64
			oldest, newest, err = events.Bounds(ctx)
			values = cbor.AppendInt(cbor.AppendInt(nil, oldest), newest)
		case methodEventsSince:
			expect(r, 2)
			last, _ := r.Int()
			seq, _ := r.Int()
			if err = r.Done(); err == nil {
				values, err = answerEvents(events.Since(ctx, seq), func(e storage.Event) bool { return true }, func(e storage.Event) bool { return e.Seq > last })
			}
		case methodEventsOf:
			expect(r, 2)
			did, _ := r.Text()
			before, _ := r.Int()
			of, ok := events.(storage.AccountEvents)
			if err = r.Done(); err == nil && !ok {
				err = errors.New("cloudflare: the log has no index of accounts")
			}
			if err == nil {
				values, err = answerEvents(of.OfAccount(ctx, syntax.DID(did)), func(e storage.Event) bool { return before == 0 || e.Seq < before }, func(storage.Event) bool { return false })
			}
		default:
			return nil, noMethod(method)
		}
		return answered(n, values, err), nil
	}
}

// answerEvents is a page of events, of those that are wanted, up to the first that is beyond.
func answerEvents(list iter.Seq2[storage.Event, error], wanted, beyond func(storage.Event) bool) ([]byte, error) {
	var b []byte
	n, more := 0, false
	for e, err := range list {
		if err != nil {
			return nil, err
		}
		if beyond(e) {
			break
		}
		if !wanted(e) {
			continue
		}
		if more = n == eventRows || len(b) >= eventBytes; more {
			break
		}
		n++
		b = appendEvents(cbor.AppendInt(b, e.Seq), []storage.Event{e})
	}
	return append(cbor.AppendArray(cbor.AppendBool(nil, more), n), b...), nil
}

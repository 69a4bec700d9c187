package follow

import (
	"context"
	"errors"
	"fmt"
	"iter"
	"time"

	"github.com/ipfs/go-cid"
	"github.com/pdskit/pdskit/car"
	"github.com/pdskit/pdskit/commit"
	"github.com/pdskit/pdskit/lexicon/data"
	"github.com/pdskit/pdskit/lexicon/syntax"
	"github.com/pdskit/pdskit/storage"
)

// ErrPosition: the log does not continue from a position. The error is a *PositionError.
var ErrPosition = errors.New("follow: the log does not continue from the position")

// PositionError says that the log does not continue from a position: later events were trimmed, or
// the log is that of a store restored from an older copy. It matches [ErrPosition].
type PositionError struct {
	After  int64 // the last sequence number that was read
	Oldest int64 // the log is complete for who has seen Oldest-1
	Newest int64 // the greatest number ever assigned
}

func (e *PositionError) Error() string {
	if e.After > e.Newest {
		return fmt.Sprintf("follow: position %d is ahead of the log, which ends at %d", e.After, e.Newest)
	}
	return fmt.Sprintf("follow: position %d is too old, the log begins at %d", e.After, e.Oldest)
}

// Is reports whether target is ErrPosition.
func (e *PositionError) Is(target error) bool { return target == ErrPosition }

// Event is a decoded event of the log.
type Event struct {
	Seq  int64
	DID  syntax.DID
	Time time.Time // when the host made the event
	// Message is a *commit.Event, *commit.Sync, *commit.Identity or *commit.Account. It is nil for
	// a kind that package commit does not know.
	Message commit.Message
	// Ops are the operations of a commit, with the records in the event. They are what was written
	// then, which may differ from the present records.
	Ops []Op
}

// Op is the change of one record in an event or in a step of a Feed.
type Op struct {
	Action     commit.Action
	Collection syntax.NSID
	RKey       syntax.RecordKey
	CID        cid.Cid // undefined for a delete
	Record     []byte  // DAG-CBOR, at most commit.MaxRecord bytes; nil for a delete
}

// Path returns the collection, a slash and the record key.
func (o *Op) Path() string { return string(o.Collection) + "/" + string(o.RKey) }

// Value decodes the record: see package data for the types. It returns an error for a record of an
// old repository that breaks the rules of the data model.
func (o *Op) Value() (map[string]any, error) {
	v, err := data.Decode(o.Record, data.Limits{})
	if err != nil {
		return nil, fmt.Errorf("follow: record %s: %w", o.Path(), err)
	}
	m, ok := v.(map[string]any)
	if !ok {
		return nil, fmt.Errorf("follow: record %s is not an object", o.Path())
	}
	return m, nil
}

// Limits on what is read ahead of the caller.
const (
	pageEvents = 128
	pageBytes  = 1 << 20
)

// Events yields the events of a log with sequence numbers greater than after, in ascending order,
// and waits for more until the context ends. It ends with an error: the context's, a
// [*PositionError], storage.ErrCorrupt for an event that cannot be read, or an error of the store.
//
// Numbers have gaps. The events of a deleted account are gone, except those that announce the
// deletion. If after is 0, it begins with the first event; if that was trimmed, [*PositionError]
// says where the log begins. Memory is bounded to some 2 MiB and one event. The log is not locked
// while the loop body runs, so the loop may write to the store.
func Events(ctx context.Context, log storage.Events, after int64) iter.Seq2[Event, error] {
	if log == nil {
		panic("follow: Events needs a log: the Events of the host's store")
	}
	return func(yield func(Event, error) bool) {
		for at := after; ; {
			page, err := readPage(ctx, log, at)
			if err == nil && len(page) == 0 {
				err = log.Wait(ctx, at)
			}
			if err != nil {
				yield(Event{}, err)
				return
			}
			for _, stored := range page {
				ev, err := decode(stored)
				if err != nil {
					yield(Event{}, fmt.Errorf("%w: event %d of %s: %w", storage.ErrCorrupt, stored.Seq, stored.DID, err))
					return
				}
				if !yield(ev, nil) {
					return
				}
				at = ev.Seq
			}
		}
	}
}

// readPage reads events after a position. The bounds are read last: what was not trimmed then was
// not trimmed before either.
func readPage(ctx context.Context, log storage.Events, at int64) (page []storage.Event, err error) {
	size := 0
	for ev, err := range log.Since(ctx, at) {
		if err != nil {
			return nil, err
		}
		page = append(page, ev)
		if size += len(ev.Payload); size >= pageBytes || len(page) == pageEvents {
			break
		}
	}
	return page, covers(ctx, log, at)
}

// covers checks that the log has all events after a position.
func covers(ctx context.Context, log storage.Events, at int64) error {
	oldest, newest, err := log.Bounds(ctx)
	if err == nil && (at < oldest-1 || at > newest) {
		err = &PositionError{After: at, Oldest: oldest, Newest: newest}
	}
	return err
}

// decode reads an event and takes its records out of its slice.
func decode(stored storage.Event) (ev Event, err error) {
	ev = Event{Seq: stored.Seq, DID: stored.DID, Time: stored.Time}
	ev.Message, err = commit.Decode(stored.Kind, stored.Payload)
	if errors.Is(err, commit.ErrUnknownKind) {
		return ev, nil
	}
	msg, ok := ev.Message.(*commit.Event)
	if err != nil || !ok || len(msg.Ops) == 0 {
		return ev, err
	}
	_, blocks, err := car.ReadAll(msg.Blocks, car.Limits{TotalBytes: int64(len(msg.Blocks))})
	if err != nil {
		return ev, err
	}
	byCID := make(map[cid.Cid][]byte, len(blocks))
	for _, b := range blocks {
		byCID[b.CID] = b.Data
	}
	ev.Ops = make([]Op, len(msg.Ops))
	for i, op := range msg.Ops {
		out := &ev.Ops[i]
		*out = Op{Action: op.Action, CID: op.CID}
		if out.Collection, out.RKey, err = syntax.ParsePath(op.Path); err != nil {
			return ev, err
		}
		if op.Action == commit.Delete {
			continue
		}
		if out.Record, ok = byCID[op.CID]; !ok {
			return ev, fmt.Errorf("the slice does not have record %s", op.Path)
		}
	}
	return ev, nil
}

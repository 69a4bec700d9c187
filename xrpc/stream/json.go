package stream

import (
	"bytes"
	"encoding/json"
	"errors"
	"fmt"
	"time"

	"github.com/pdskit/pdskit/car"
	"github.com/pdskit/pdskit/commit"
	"github.com/pdskit/pdskit/lexicon/data"
	"github.com/pdskit/pdskit/lexicon/syntax"
	"github.com/pdskit/pdskit/storage"
)

// jsonEvent is a message of a JSONView.
type jsonEvent struct {
	DID      syntax.DID    `json:"did"`
	Time     int64         `json:"time_us"`
	Cursor   int64         `json:"cursor"`
	Kind     string        `json:"kind"`
	Commit   *jsonCommit   `json:"commit,omitempty"`
	Identity *jsonIdentity `json:"identity,omitempty"`
	Account  *jsonAccount  `json:"account,omitempty"`
}

// jsonCommit is one operation of a commit.
type jsonCommit struct {
	Rev        syntax.TID       `json:"rev"`
	Operation  commit.Action    `json:"operation"`
	Collection syntax.NSID      `json:"collection"`
	RKey       syntax.RecordKey `json:"rkey"`
	Record     json.RawMessage  `json:"record,omitempty"`
	CID        string           `json:"cid,omitempty"`
}

type jsonIdentity struct {
	DID    syntax.DID    `json:"did"`
	Handle syntax.Handle `json:"handle,omitempty"`
	Seq    int64         `json:"seq"`
	Time   string        `json:"time"`
}

type jsonAccount struct {
	Active bool       `json:"active"`
	DID    syntax.DID `json:"did"`
	Seq    int64      `json:"seq"`
	Status string     `json:"status,omitempty"`
	Time   string     `json:"time"`
}

// jsonItem encodes an event as JSON: a commit as one message for each of its operations. Events of
// other kinds have none.
func jsonItem(e storage.Event) (*item, error) {
	it := &item{seq: e.Seq, did: e.DID}
	if e.Kind == commit.KindSync { // version 1 never had them
		return it, nil
	}
	m, err := commit.Decode(e.Kind, e.Payload)
	if errors.Is(err, commit.ErrUnknownKind) {
		return it, nil
	}
	switch m := m.(type) {
	case *commit.Event:
		err = eachOp(e, m, func(seq int64, c *jsonCommit) error {
			return it.add(seq, jsonEvent{Kind: "commit", Commit: c})
		})
	case *commit.Identity:
		err = it.add(e.Seq, jsonEvent{Kind: "identity", Identity: &jsonIdentity{m.DID, m.Handle, e.Seq, jsonTime(m.Time)}})
	case *commit.Account:
		err = it.add(e.Seq, jsonEvent{Kind: "account", Account: &jsonAccount{m.Active, m.DID, e.Seq, m.Status, jsonTime(m.Time)}})
	}
	if err != nil {
		return nil, fmt.Errorf("%w: event %d: %w", storage.ErrCorrupt, e.Seq, err)
	}
	return it, nil
}

func jsonTime(t time.Time) string { return string(syntax.NewDatetime(t)) }

// eachOp calls fn with each operation of a commit, and its number: the event takes a number for each.
// One that was stored when all events took a single one has that for all its operations.
func eachOp(e storage.Event, m *commit.Event, fn func(seq int64, c *jsonCommit) error) error {
	_, list, err := car.ReadAll(m.Blocks, car.Limits{})
	if err != nil {
		return err
	}
	for i, op := range m.Ops {
		collection, rkey, err := syntax.ParsePath(op.Path)
		if err != nil {
			return err
		}
		c := &jsonCommit{Rev: m.Rev, Operation: op.Action, Collection: collection, RKey: rkey}
		if op.CID.Defined() {
			c.CID = op.CID.String()
			for _, b := range list {
				if b.CID == op.CID {
					if c.Record, err = data.AppendRecordJSON(nil, b.Data); err != nil {
						return err
					}
					break
				}
			}
			if c.Record == nil {
				return fmt.Errorf("%s is not in its CAR slice", op.Path)
			}
		}
		if err := fn(min(e.First()+int64(i), e.Seq), c); err != nil {
			return err
		}
	}
	return nil
}

// add encodes a message.
func (it *item) add(seq int64, ev jsonEvent) error {
	ev.DID, ev.Time, ev.Cursor = it.did, seq, seq
	m := message{seq: seq}
	if ev.Commit != nil {
		m.collection = ev.Commit.Collection
	}
	var err error
	m.bytes, err = appendJSON(nil, ev)
	it.messages = append(it.messages, m)
	return err
}

// appendJSON appends a value as JSON, with "<", ">" and "&" as they are.
func appendJSON(b []byte, v any) ([]byte, error) {
	buf := bytes.NewBuffer(b)
	enc := json.NewEncoder(buf)
	enc.SetEscapeHTML(false)
	err := enc.Encode(v)
	return bytes.TrimSuffix(buf.Bytes(), []byte("\n")), err
}

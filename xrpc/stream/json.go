package stream

import (
	"bytes"
	"encoding/json"
	"errors"
	"fmt"
	"time"

	"github.com/ipfs/go-cid"

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
// other kinds have none. The error, if any, says what could not be shown; the item has the rest.
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
		err = it.eachOp(e, m, func(seq int64, c *jsonCommit) error {
			return it.add(seq, jsonEvent{Kind: "commit", Commit: c})
		})
	case *commit.Identity:
		err = it.add(e.Seq, jsonEvent{Kind: "identity", Identity: &jsonIdentity{m.DID, m.Handle, e.Seq, jsonTime(m.Time)}})
	case *commit.Account:
		err = it.add(e.Seq, jsonEvent{Kind: "account", Account: &jsonAccount{m.Active, m.DID, e.Seq, m.Status, jsonTime(m.Time)}})
	}
	return it, err
}

func jsonTime(t time.Time) string { return string(syntax.NewDatetime(t)) }

// maxEventJSON bounds the messages of one event, in bytes. A commit has at most 2 MB of blocks, but
// its operations may all have the same record.
const maxEventJSON = 16 << 20

// eachOp calls fn, which adds a message, with each operation of a commit that can be shown, and its
// number: the event takes a number for each. One that was stored when all events took a single one
// has that for all its operations. The error says which operations were left out.
func (it *item) eachOp(e storage.Event, m *commit.Event, fn func(seq int64, c *jsonCommit) error) error {
	records, fault := recordsJSON(m)
	var omitted []error
	if fault != nil {
		omitted = append(omitted, fault)
	}
	size := 0
	for i, op := range m.Ops {
		c, err := jsonOp(m, op, records[op.CID])
		if err == nil && size+len(c.Record) > maxEventJSON {
			err = fmt.Errorf("the messages of this event are larger than %d bytes", maxEventJSON)
		}
		if err == nil {
			size += len(c.Record)
			err = fn(min(e.First()+int64(i), e.Seq), c)
		}
		if err != nil && len(omitted) < 8 {
			omitted = append(omitted, fmt.Errorf("%.600q: %w", op.Path, err))
		}
	}
	return errors.Join(omitted...)
}

// recordsJSON returns the records that a commit's operations create, those that its blocks have and
// that can be shown, each once.
func recordsJSON(m *commit.Event) (map[cid.Cid][]byte, error) {
	_, blocks, err := car.ReadAll(m.Blocks, car.Limits{})
	if err != nil {
		return nil, err
	}
	wanted := make(map[cid.Cid]bool, len(m.Ops))
	for _, op := range m.Ops {
		wanted[op.CID] = op.CID.Defined()
	}
	records := make(map[cid.Cid][]byte, len(wanted))
	for _, b := range blocks {
		if wanted[b.CID] {
			wanted[b.CID] = false
			text, e := data.AppendRecordJSON(nil, b.Data)
			if e != nil {
				err = fmt.Errorf("record %v: %w", b.CID, e)
				continue
			}
			records[b.CID] = text
		}
	}
	return records, err
}

// jsonOp is an operation of a commit. The record is nil if there is none to show.
func jsonOp(m *commit.Event, op commit.Op, record []byte) (*jsonCommit, error) {
	collection, rkey, err := syntax.ParsePath(op.Path)
	if err != nil {
		return nil, err
	}
	c := &jsonCommit{Rev: m.Rev, Operation: op.Action, Collection: collection, RKey: rkey}
	if !op.CID.Defined() {
		return c, nil
	}
	if record == nil {
		return nil, errors.New("the blocks do not have the record")
	}
	c.CID, c.Record = op.CID.String(), record
	return c, nil
}

// add encodes a message.
func (it *item) add(seq int64, ev jsonEvent) error {
	ev.DID, ev.Time, ev.Cursor = it.did, seq, seq
	m := message{seq: seq}
	if ev.Commit != nil {
		m.collection = ev.Commit.Collection
	}
	var err error
	if m.bytes, err = appendJSON(nil, ev); err == nil {
		it.messages = append(it.messages, m)
	}
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

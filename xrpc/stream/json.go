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
	if e.Kind == commit.KindSync {
		return it, nil
	}
	m, err := commit.Decode(e.Kind, e.Payload)
	if errors.Is(err, commit.ErrUnknownKind) {
		return it, nil
	}
	switch m := m.(type) {
	case *commit.Event:
		err = it.addCommit(m)
	case *commit.Identity:
		err = it.add("", jsonEvent{Kind: "identity", Identity: &jsonIdentity{m.DID, m.Handle, e.Seq, jsonTime(m.Time)}})
	case *commit.Account:
		err = it.add("", jsonEvent{Kind: "account", Account: &jsonAccount{m.Active, m.DID, e.Seq, m.Status, jsonTime(m.Time)}})
	}
	if err != nil {
		return nil, fmt.Errorf("%w: event %d: %w", storage.ErrCorrupt, e.Seq, err)
	}
	return it, nil
}

func jsonTime(t time.Time) string { return string(syntax.NewDatetime(t)) }

// addCommit adds the operations of a commit.
func (it *item) addCommit(m *commit.Event) error {
	_, list, err := car.ReadAll(m.Blocks, car.Limits{})
	if err != nil {
		return err
	}
	for _, op := range m.Ops {
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
		if err := it.add(collection, jsonEvent{Kind: "commit", Commit: c}); err != nil {
			return err
		}
	}
	return nil
}

// add encodes a message.
func (it *item) add(collection syntax.NSID, ev jsonEvent) error {
	ev.DID, ev.Time = it.did, it.seq
	var b bytes.Buffer
	enc := json.NewEncoder(&b)
	enc.SetEscapeHTML(false)
	if err := enc.Encode(ev); err != nil {
		return err
	}
	it.messages = append(it.messages, message{collection, bytes.TrimSuffix(b.Bytes(), []byte("\n"))})
	return nil
}

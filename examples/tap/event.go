package main

import (
	"encoding/json"

	"github.com/pdskit/pdskit/commit"
	"github.com/pdskit/pdskit/lexicon/data"
	"github.com/pdskit/pdskit/lexicon/syntax"
	"github.com/pdskit/pdskit/xrpc/indexer"
)

// message is an event as clients get it.
type message struct {
	ID       int64          `json:"id"`
	Type     string         `json:"type"`
	Record   *recordEvent   `json:"record,omitempty"`
	Identity *identityEvent `json:"identity,omitempty"`
}

// recordEvent says that a record was created, updated or deleted.
type recordEvent struct {
	Live       bool             `json:"live"`
	DID        syntax.DID       `json:"did"`
	Rev        syntax.TID       `json:"rev"`
	Collection syntax.NSID      `json:"collection"`
	RKey       syntax.RecordKey `json:"rkey"`
	Action     commit.Action    `json:"action"`
	Record     json.RawMessage  `json:"record,omitempty"`
	CID        string           `json:"cid,omitempty"`
}

// identityEvent says what the handle and the status of an account are now.
type identityEvent struct {
	DID      syntax.DID    `json:"did"`
	Handle   syntax.Handle `json:"handle"`
	IsActive bool          `json:"is_active"`
	Status   string        `json:"status"`
}

// recordMessage encodes an operation. A record that is no JSON in any way is told as deleted, as
// clients cannot have it.
func recordMessage(id int64, op *indexer.Op) ([]byte, error) {
	e := &recordEvent{Live: op.Live, DID: op.DID, Rev: op.Rev, Collection: op.Collection, RKey: op.RKey, Action: op.Action}
	if op.Action != commit.Delete {
		text, err := data.AppendRecordJSON(nil, op.Record)
		if err == nil && json.Valid(text) {
			e.Record, e.CID = text, op.CID.String()
		} else {
			e.Action = commit.Delete
		}
	}
	return json.Marshal(message{ID: id, Type: "record", Record: e})
}

// identityOf is what there is to tell of an account.
func identityOf(a *indexer.Account) identityEvent {
	e := identityEvent{DID: a.DID, Handle: a.Handle, IsActive: a.Active, Status: "active"}
	if e.Handle == "" {
		e.Handle = syntax.InvalidHandle
	}
	if !a.Active {
		switch a.Status {
		case "takendown", "suspended", "deactivated", "deleted":
			e.Status = a.Status
		default: // clients know no others
			e.Status = "deactivated"
		}
	}
	return e
}

func (e *identityEvent) message(id int64) ([]byte, error) {
	return json.Marshal(message{ID: id, Type: "identity", Identity: e})
}

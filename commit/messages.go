package commit

import (
	"errors"
	"fmt"
	"time"

	"github.com/ipfs/go-cid"
	"github.com/pdskit/pdskit/car"
	"github.com/pdskit/pdskit/internal/cbor"
	"github.com/pdskit/pdskit/lexicon/syntax"
)

// The types of messages of com.atproto.sync.subscribeRepos, as frames name them.
const (
	KindCommit   = "#commit"
	KindSync     = "#sync"
	KindIdentity = "#identity"
	KindAccount  = "#account"
	KindInfo     = "#info"
)

// ErrMessage: the bytes are not a valid message. Errors wrap it with the reason.
var ErrMessage = errors.New("commit: invalid message")

// ErrUnknownKind: this package has no type for the kind of message. The protocol may grow, so
// readers of a stream skip such messages.
var ErrUnknownKind = errors.New("commit: unknown kind of message")

// Deleted is the status of a permanently deleted account, in its last #account message.
const Deleted = "deleted"

// Message is a message about an account: an *Event, *Sync, *Identity or *Account.
type Message interface {
	// Kind returns the type of the message, as frames name it.
	Kind() string
	// About returns the account's DID.
	About() syntax.DID
	// At returns the time of the message.
	At() time.Time
	// Payload encodes the message as DAG-CBOR without the field "seq", which is only known once the
	// message is stored.
	Payload() []byte
}

// Action is what an operation does to a record.
type Action string

// The actions.
const (
	Create Action = "create"
	Update Action = "update"
	Delete Action = "delete"
)

// Op is an operation of a commit.
type Op struct {
	Action Action
	Path   string  // collection "/" record key
	CID    cid.Cid // undefined for a delete
	Prev   cid.Cid // undefined for a create
}

// Event is a #commit message.
//
// [Decode] reads all messages with or without the field "seq". Deprecated fields that are still
// required (rebase, tooBig, blobs) are written with constant values.
type Event struct {
	Seq      int64 // 0: none
	Repo     syntax.DID
	Commit   cid.Cid
	Rev      syntax.TID
	Since    syntax.TID // the revision before; empty (null) for the first commit
	PrevData cid.Cid    // the root before; undefined (absent) for the first commit
	Ops      []Op
	Blocks   []byte // CAR slice, its root the commit
	Time     time.Time
}

// Sync is a #sync message: the state of a repository, without operations.
type Sync struct {
	Seq    int64
	DID    syntax.DID
	Rev    syntax.TID
	Commit car.Block
	Time   time.Time
}

// Identity is an #identity message: the DID document or handle may have changed.
type Identity struct {
	Seq    int64
	DID    syntax.DID
	Handle syntax.Handle // may be empty
	Time   time.Time
}

// Account is an #account message: the hosting status of the account on the sender.
type Account struct {
	Seq    int64
	DID    syntax.DID
	Active bool
	Status string // why it is not active: "takendown", "suspended", "deleted", "deactivated", …
	Time   time.Time
}

// Kind returns KindCommit.
func (e *Event) Kind() string { return KindCommit }

// About returns e.Repo.
func (e *Event) About() syntax.DID { return e.Repo }

// At returns e.Time.
func (e *Event) At() time.Time { return e.Time }

// Kind returns KindSync.
func (s *Sync) Kind() string { return KindSync }

// About returns s.DID.
func (s *Sync) About() syntax.DID { return s.DID }

// At returns s.Time.
func (s *Sync) At() time.Time { return s.Time }

// Kind returns KindIdentity.
func (i *Identity) Kind() string { return KindIdentity }

// About returns i.DID.
func (i *Identity) About() syntax.DID { return i.DID }

// At returns i.Time.
func (i *Identity) At() time.Time { return i.Time }

// Kind returns KindAccount.
func (a *Account) Kind() string { return KindAccount }

// About returns a.DID.
func (a *Account) About() syntax.DID { return a.DID }

// At returns a.Time.
func (a *Account) At() time.Time { return a.Time }

func appendField(b []byte, name, v string) []byte {
	return cbor.AppendText(cbor.AppendText(b, name), v)
}

func appendTime(b []byte, t time.Time) []byte {
	return appendField(b, "time", string(syntax.NewDatetime(t)))
}

// Payload encodes the message without "seq".
func (e *Event) Payload() []byte {
	fields := 10
	if e.PrevData.Defined() {
		fields++
	}
	b := cbor.AppendMap(make([]byte, 0, len(e.Blocks)+256+160*len(e.Ops)), fields)
	b = cbor.AppendArray(cbor.AppendText(b, "ops"), len(e.Ops))
	for _, op := range e.Ops {
		b = op.append(b)
	}
	b = appendField(b, "rev", string(e.Rev))
	b = appendField(b, "repo", string(e.Repo))
	b = appendTime(b, e.Time)
	b = cbor.AppendArray(cbor.AppendText(b, "blobs"), 0)
	if b = cbor.AppendText(b, "since"); e.Since == "" {
		b = cbor.AppendNull(b)
	} else {
		b = cbor.AppendText(b, string(e.Since))
	}
	b = cbor.AppendBytes(cbor.AppendText(b, "blocks"), e.Blocks)
	b = cbor.AppendLink(cbor.AppendText(b, "commit"), e.Commit.KeyString())
	b = cbor.AppendBool(cbor.AppendText(b, "rebase"), false)
	b = cbor.AppendBool(cbor.AppendText(b, "tooBig"), false)
	if e.PrevData.Defined() {
		b = cbor.AppendLink(cbor.AppendText(b, "prevData"), e.PrevData.KeyString())
	}
	return b
}

// check checks that an operation has a known action, and the CIDs that belong to it.
func (op *Op) check() error {
	var want [2]bool // of CID and Prev
	switch op.Action {
	case Create:
		want = [2]bool{true, false}
	case Update:
		want = [2]bool{true, true}
	case Delete:
		want = [2]bool{false, true}
	default:
		return fmt.Errorf("unknown action %.40q", op.Action)
	}
	if got := [2]bool{op.CID.Defined(), op.Prev.Defined()}; got != want {
		return fmt.Errorf("%s of %q with a CID: %v, with a prev: %v", op.Action, op.Path, got[0], got[1])
	}
	return nil
}

func (op *Op) append(b []byte) []byte {
	fields := 3
	if op.Prev.Defined() {
		fields++
	}
	b = cbor.AppendText(cbor.AppendMap(b, fields), "cid")
	if op.CID.Defined() {
		b = cbor.AppendLink(b, op.CID.KeyString())
	} else {
		b = cbor.AppendNull(b)
	}
	b = appendField(b, "path", op.Path)
	if op.Prev.Defined() {
		b = cbor.AppendLink(cbor.AppendText(b, "prev"), op.Prev.KeyString())
	}
	return appendField(b, "action", string(op.Action))
}

// Payload encodes the message without "seq".
func (s *Sync) Payload() []byte {
	b := cbor.AppendMap(make([]byte, 0, 512), 4)
	b = appendField(b, "did", string(s.DID))
	b = appendField(b, "rev", string(s.Rev))
	b = appendTime(b, s.Time)
	return cbor.AppendBytes(cbor.AppendText(b, "blocks"), car.Append(nil, []cid.Cid{s.Commit.CID}, s.Commit))
}

// Payload encodes the message without "seq".
func (i *Identity) Payload() []byte {
	fields := 2
	if i.Handle != "" {
		fields++
	}
	b := cbor.AppendMap(nil, fields)
	b = appendField(b, "did", string(i.DID))
	b = appendTime(b, i.Time)
	if i.Handle != "" {
		b = appendField(b, "handle", string(i.Handle))
	}
	return b
}

// Payload encodes the message without "seq".
func (a *Account) Payload() []byte {
	fields := 3
	if a.Status != "" {
		fields++
	}
	b := cbor.AppendMap(nil, fields)
	b = appendField(b, "did", string(a.DID))
	b = appendTime(b, a.Time)
	b = cbor.AppendBool(cbor.AppendText(b, "active"), a.Active)
	if a.Status != "" {
		b = appendField(b, "status", a.Status)
	}
	return b
}

package commit

import (
	"errors"
	"fmt"
	"time"

	"github.com/ipfs/go-cid"
	"github.com/pdskit/pdskit/car"
	"github.com/pdskit/pdskit/internal/cbor"
	"github.com/pdskit/pdskit/internal/dag"
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

// ErrMessage says that bytes are not a valid message. The error that wraps it
// says why.
var ErrMessage = errors.New("commit: invalid message")

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
// All messages have a Payload method that returns their DAG-CBOR without the field
// "seq", which is not known before they are stored, and a Decode function that reads them with
// or without it. Deprecated fields that are still required (rebase, tooBig, blobs) are
// written with their fixed values.
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

// Account is an #account message: the hosting status at its sender.
type Account struct {
	Seq    int64
	DID    syntax.DID
	Active bool
	Status string // why it is not active: "takendown", "suspended", "deleted", "deactivated", …
	Time   time.Time
}

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

// fields reads the map of a message: each known field by its function, once; others are
// skipped, as messages may grow. The names of those that must be there are required.
func fields(payload []byte, known map[string]func(*cbor.Reader) error, required ...string) error {
	if err := cbor.Scan(payload, cbor.Limits{Bytes: maxMessage}); err != nil {
		return fmt.Errorf("%w: %w", ErrMessage, err)
	}
	r := cbor.NewReader(payload)
	n, err := r.Map()
	seen := make(map[string]bool, n)
	for range n {
		name, _ := r.Text()
		seen[name] = true
		read := known[name]
		if read == nil {
			err = r.Skip()
		} else {
			err = read(r)
		}
		if err != nil {
			return fmt.Errorf("%w: field %.40q: %w", ErrMessage, name, err)
		}
	}
	if err == nil {
		err = r.Done()
	}
	if err != nil {
		return fmt.Errorf("%w: %w", ErrMessage, err)
	}
	for _, name := range required {
		if !seen[name] {
			return fmt.Errorf("%w: field %q is missing", ErrMessage, name)
		}
	}
	return nil
}

// maxMessage is the limit of a message in bytes (Sync specification).
const maxMessage = 5_000_000

// text reads a string of a syntax.
func text[T ~string](into *T, parse func(string) (T, error)) func(*cbor.Reader) error {
	return func(r *cbor.Reader) error {
		s, err := r.Text()
		if err == nil {
			*into, err = parse(s)
		}
		return err
	}
}

func link(into *cid.Cid) func(*cbor.Reader) error {
	return func(r *cbor.Reader) error {
		b, err := r.Link()
		if err != nil {
			return err
		}
		codec, digest, ok := dag.SplitBytes(b)
		if !ok {
			return cbor.ErrLink
		}
		*into = dag.CID(codec, &digest)
		return nil
	}
}

func optionalLink(into *cid.Cid) func(*cbor.Reader) error {
	return func(r *cbor.Reader) error {
		if r.Null() {
			return nil
		}
		return link(into)(r)
	}
}

func seqField(into *int64) func(*cbor.Reader) error {
	return func(r *cbor.Reader) (err error) {
		*into, err = r.Int()
		return err
	}
}

func timeField(into *time.Time) func(*cbor.Reader) error {
	return func(r *cbor.Reader) error {
		s, err := r.Text()
		if err != nil {
			return err
		}
		d, err := syntax.ParseDatetime(s)
		*into = d.Time()
		return err
	}
}

// DecodeEvent reads a #commit message.
func DecodeEvent(payload []byte) (*Event, error) {
	e := new(Event)
	ignore := func(r *cbor.Reader) error { return r.Skip() }
	err := fields(payload, map[string]func(*cbor.Reader) error{
		"seq":    seqField(&e.Seq),
		"repo":   text(&e.Repo, syntax.ParseDID),
		"commit": link(&e.Commit),
		"rev":    text(&e.Rev, syntax.ParseTID),
		"since": func(r *cbor.Reader) error {
			if r.Null() {
				return nil
			}
			return text(&e.Since, syntax.ParseTID)(r)
		},
		"prevData": optionalLink(&e.PrevData),
		"blocks": func(r *cbor.Reader) (err error) {
			e.Blocks, err = r.Bytes()
			return err
		},
		"ops":   e.readOps,
		"time":  timeField(&e.Time),
		"blobs": ignore, "rebase": ignore, "tooBig": ignore,
	}, "repo", "commit", "rev", "since", "blocks", "ops", "time", "blobs", "rebase", "tooBig")
	if err != nil {
		return nil, err
	}
	return e, nil
}

func (e *Event) readOps(r *cbor.Reader) error {
	n, err := r.Array()
	if err != nil {
		return err
	}
	if n > 10*MaxOps { // what is over the limit is for the Verifier to refuse; this is for memory
		return cbor.ErrItems
	}
	for range n {
		var op Op
		raw, err := r.Raw(cbor.Limits{})
		if err != nil {
			return err
		}
		err = fields(raw, map[string]func(*cbor.Reader) error{
			"action": text(&op.Action, func(s string) (Action, error) {
				switch a := Action(s); a {
				case Create, Update, Delete:
					return a, nil
				}
				return "", fmt.Errorf("unknown action %.20q", s)
			}),
			"path": text(&op.Path, func(s string) (string, error) { return s, nil }),
			"cid":  optionalLink(&op.CID),
			"prev": optionalLink(&op.Prev),
		}, "action", "path", "cid")
		if err != nil {
			return err
		}
		e.Ops = append(e.Ops, op)
	}
	return nil
}

// DecodeSync reads a #sync message, with the commit block out of its CAR.
func DecodeSync(payload []byte) (*Sync, error) {
	s := new(Sync)
	var blocks []byte
	err := fields(payload, map[string]func(*cbor.Reader) error{
		"seq":  seqField(&s.Seq),
		"did":  text(&s.DID, syntax.ParseDID),
		"rev":  text(&s.Rev, syntax.ParseTID),
		"time": timeField(&s.Time),
		"blocks": func(r *cbor.Reader) (err error) {
			blocks, err = r.Bytes()
			return err
		},
	}, "did", "rev", "time", "blocks")
	if err != nil {
		return nil, err
	}
	roots, all, err := car.ReadAll(blocks, car.Limits{TotalBytes: 10_000, Blocks: 16})
	if err != nil {
		return nil, fmt.Errorf("%w: %w", ErrMessage, err)
	}
	for _, b := range all {
		if len(roots) > 0 && b.CID == roots[0] {
			s.Commit = b
			return s, nil
		}
	}
	return nil, fmt.Errorf("%w: the blocks do not have the commit", ErrMessage)
}

// DecodeIdentity reads an #identity message.
func DecodeIdentity(payload []byte) (*Identity, error) {
	i := new(Identity)
	err := fields(payload, map[string]func(*cbor.Reader) error{
		"seq":    seqField(&i.Seq),
		"did":    text(&i.DID, syntax.ParseDID),
		"time":   timeField(&i.Time),
		"handle": text(&i.Handle, syntax.ParseHandle),
	}, "did", "time")
	if err != nil {
		return nil, err
	}
	return i, nil
}

// DecodeAccount reads an #account message.
func DecodeAccount(payload []byte) (*Account, error) {
	a := new(Account)
	err := fields(payload, map[string]func(*cbor.Reader) error{
		"seq":  seqField(&a.Seq),
		"did":  text(&a.DID, syntax.ParseDID),
		"time": timeField(&a.Time),
		"active": func(r *cbor.Reader) (err error) {
			a.Active, err = r.Bool()
			return err
		},
		"status": text(&a.Status, func(s string) (string, error) { return s, nil }),
	}, "did", "time", "active")
	if err != nil {
		return nil, err
	}
	return a, nil
}

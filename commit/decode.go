package commit

import (
	"fmt"
	"time"

	"github.com/ipfs/go-cid"
	"github.com/pdskit/pdskit/car"
	"github.com/pdskit/pdskit/internal/cbor"
	"github.com/pdskit/pdskit/internal/dag"
	"github.com/pdskit/pdskit/lexicon/syntax"
)

// maxMessage is the limit of a message in bytes (Sync specification).
const maxMessage = 5_000_000

// message reads the map of a message. See object.
func message(payload []byte, required []string, read func(r *cbor.Reader, name []byte) error) error {
	err := cbor.Scan(payload, cbor.Limits{Bytes: maxMessage})
	if err == nil {
		err = object(cbor.NewReader(payload), required, read)
	}
	if err != nil {
		return fmt.Errorf("%w: %w", ErrMessage, err)
	}
	return nil
}

// object reads a map of canonical CBOR: read is called with the name of each
// field, and reads its value or skips it, as messages may grow. The required fields must be
// there.
func object(r *cbor.Reader, required []string, read func(r *cbor.Reader, name []byte) error) error {
	n, err := r.Map()
	if err != nil {
		return err
	}
	seen := uint(0)
	for range n {
		name, err := r.TextBytes()
		if err == nil {
			err = read(r, name)
		}
		if err != nil {
			return fmt.Errorf("field %.40q: %w", name, err)
		}
		for i := range required {
			if string(name) == required[i] {
				seen |= 1 << i
			}
		}
	}
	for i, name := range required {
		if seen&(1<<i) == 0 {
			return fmt.Errorf("field %q is missing", name)
		}
	}
	return nil
}

// text reads a string of a syntax.
func text[T ~string](r *cbor.Reader, into *T, parse func(string) (T, error)) error {
	s, err := r.Text()
	if err == nil {
		*into, err = parse(s)
	}
	return err
}

func readLink(r *cbor.Reader, into *cid.Cid) error {
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

func readOptionalLink(r *cbor.Reader, into *cid.Cid) error {
	if r.Null() {
		return nil
	}
	return readLink(r, into)
}

func readTime(r *cbor.Reader, into *time.Time) error {
	var d syntax.Datetime
	err := text(r, &d, syntax.ParseDatetime)
	*into = d.Time()
	return err
}

// The fields that messages must have.
var (
	eventFields    = []string{"repo", "commit", "rev", "since", "blocks", "ops", "time", "blobs", "rebase", "tooBig"}
	opFields       = []string{"action", "path", "cid"}
	syncFields     = []string{"did", "rev", "time", "blocks"}
	identityFields = []string{"did", "time"}
	accountFields  = []string{"did", "time", "active"}
)

// Decode reads a message of the given kind: an *Event, *Sync, *Identity or *Account. For any other
// kind, including #info, the error wraps ErrUnknownKind. For bytes that are not a message of the
// kind, it wraps ErrMessage. The message may share the memory of payload.
func Decode(kind string, payload []byte) (Message, error) {
	switch kind {
	case KindCommit:
		return asMessage(DecodeEvent(payload))
	case KindSync:
		return asMessage(DecodeSync(payload))
	case KindIdentity:
		return asMessage(DecodeIdentity(payload))
	case KindAccount:
		return asMessage(DecodeAccount(payload))
	}
	return nil, fmt.Errorf("%w: %.40q", ErrUnknownKind, kind)
}

// asMessage keeps a nil pointer out of the interface.
func asMessage[M Message](m M, err error) (Message, error) {
	if err != nil {
		return nil, err
	}
	return m, nil
}

// DecodeEvent reads a #commit message. Its Blocks are part of payload.
func DecodeEvent(payload []byte) (*Event, error) {
	e := new(Event)
	err := message(payload, eventFields, func(r *cbor.Reader, name []byte) (err error) {
		switch string(name) {
		case "seq":
			e.Seq, err = r.Int()
		case "repo":
			err = text(r, &e.Repo, syntax.ParseDID)
		case "commit":
			err = readLink(r, &e.Commit)
		case "rev":
			err = text(r, &e.Rev, syntax.ParseTID)
		case "since":
			if !r.Null() {
				err = text(r, &e.Since, syntax.ParseTID)
			}
		case "prevData":
			err = readOptionalLink(r, &e.PrevData)
		case "blocks":
			e.Blocks, err = r.Bytes()
		case "ops":
			err = e.readOps(r)
		case "time":
			err = readTime(r, &e.Time)
		default:
			err = r.Skip()
		}
		return err
	})
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
	if n > 0 {
		e.Ops = make([]Op, n)
	}
	for i := range e.Ops {
		op := &e.Ops[i]
		err := object(r, opFields, func(r *cbor.Reader, name []byte) (err error) {
			switch string(name) {
			case "action":
				op.Action, err = readAction(r)
			case "path":
				op.Path, err = r.Text()
			case "cid":
				err = readOptionalLink(r, &op.CID)
			case "prev":
				err = readOptionalLink(r, &op.Prev)
			default:
				err = r.Skip()
			}
			return err
		})
		if err != nil {
			return err
		}
	}
	return nil
}

func readAction(r *cbor.Reader) (Action, error) {
	s, err := r.TextBytes()
	if err != nil {
		return "", err
	}
	switch string(s) {
	case string(Create):
		return Create, nil
	case string(Update):
		return Update, nil
	case string(Delete):
		return Delete, nil
	}
	return "", fmt.Errorf("unknown action %.20q", s)
}

// DecodeSync reads a #sync message and takes the commit block out of its CAR. The block is part of
// payload.
func DecodeSync(payload []byte) (*Sync, error) {
	s := new(Sync)
	var blocks []byte
	err := message(payload, syncFields, func(r *cbor.Reader, name []byte) (err error) {
		switch string(name) {
		case "seq":
			s.Seq, err = r.Int()
		case "did":
			err = text(r, &s.DID, syntax.ParseDID)
		case "rev":
			err = text(r, &s.Rev, syntax.ParseTID)
		case "time":
			err = readTime(r, &s.Time)
		case "blocks":
			blocks, err = r.Bytes()
		default:
			err = r.Skip()
		}
		return err
	})
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

// DecodeIdentity reads the payload of an #identity message. Errors wrap [ErrMessage].
func DecodeIdentity(payload []byte) (*Identity, error) {
	i := new(Identity)
	err := message(payload, identityFields, func(r *cbor.Reader, name []byte) (err error) {
		switch string(name) {
		case "seq":
			i.Seq, err = r.Int()
		case "did":
			err = text(r, &i.DID, syntax.ParseDID)
		case "time":
			err = readTime(r, &i.Time)
		case "handle":
			err = text(r, &i.Handle, syntax.ParseHandle)
		default:
			err = r.Skip()
		}
		return err
	})
	if err != nil {
		return nil, err
	}
	return i, nil
}

// DecodeAccount reads the payload of an #account message. Errors wrap [ErrMessage].
func DecodeAccount(payload []byte) (*Account, error) {
	a := new(Account)
	err := message(payload, accountFields, func(r *cbor.Reader, name []byte) (err error) {
		switch string(name) {
		case "seq":
			a.Seq, err = r.Int()
		case "did":
			err = text(r, &a.DID, syntax.ParseDID)
		case "time":
			err = readTime(r, &a.Time)
		case "active":
			a.Active, err = r.Bool()
		case "status":
			a.Status, err = r.Text()
		default:
			err = r.Skip()
		}
		return err
	})
	if err != nil {
		return nil, err
	}
	return a, nil
}

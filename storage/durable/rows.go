package durable

import (
	"encoding/binary"
	"errors"
	"fmt"
	"time"

	"github.com/ipfs/go-cid"
	"github.com/pdskit/pdskit/internal/cbor"
	"github.com/pdskit/pdskit/internal/dag"
	"github.com/pdskit/pdskit/lexicon/syntax"
	"github.com/pdskit/pdskit/storage"
)

// The keys of an object of one account.
//
//	\x00lSET     a set that is not, or no longer, the account's → nothing
//	\x00mKEY N   piece of a long value (see values)
//	\x00o        outbox
//	\x00s        state
//	b/CID PATH   reference to a blob → revision
//	c/CID PATH   record by its CID → nothing
//	k/KEY        the account's key → expiry, value
//	r/PATH       record
//	x/TIME KEY   key that expires → nothing
//
// CIDs are binary, 36 bytes long. An empty revision stands for state.base, so that Replace can
// write records before it knows their revision.
//
// Records with their references, and the account's keys, are in sets. The keys above are those of
// set 0. In another set, r/ becomes r.SET/, and likewise the others. SET has 16 hexadecimal digits.
// state.set is the set of the account's records, and state.keys that of its keys. So one small
// transaction can exchange or remove all records, or all that an account has. The old set is then
// deleted in pieces.
const (
	keyLoose     = "\x00l"
	keyPiece     = "\x00m"
	keyPieceEnd  = "\x00n"
	keyOutbox    = "\x00o"
	keyState     = "\x00s"
	prefixBlob   = "b/"
	prefixCID    = "c/"
	prefixKV     = "k/"
	prefixRecord = "r/"
	prefixExpiry = "x/"
)

// end is the least key after all that begin with a prefix of ours, which has a slash at its end.
func end(prefix string) string { return prefix[:len(prefix)-1] + "0" } // '0' follows '/'

// in is a prefix of records, CIDs or blobs in a set.
func in(set uint64, prefix string) string {
	if set == 0 {
		return prefix
	}
	return prefix[:1] + "." + setName(set) + "/"
}

func setName(set uint64) string { return fmt.Sprintf("%016x", set) }

var errRow = errors.New("malformed row")

func corrupt(what string, err error) error {
	return fmt.Errorf("%w: %s: %w", storage.ErrCorrupt, what, err)
}

// state is an object's row of that name.
type state struct {
	did    syntax.DID
	head   storage.Head // zero: there is no repository
	block  []byte       // commit
	base   syntax.TID
	outbox uint64 // number of the last outbox
	set    uint64 // of the records
	keys   uint64 // set of the keys

	headless bool // the account is there, without a head
}

// exists reports whether there is an account.
func (s *state) exists() bool { return s.head != (storage.Head{}) || s.headless }

func (s *state) encode() []byte {
	n := 7
	switch {
	case s.headless:
		n = 10
	case s.keys != 0:
		n = 9
	case s.set != 0:
		n = 8
	}
	b := cbor.AppendArray(nil, n)
	b = cbor.AppendText(b, string(s.did))
	b = cbor.AppendBytes(b, s.head.Commit.Bytes())
	b = cbor.AppendBytes(b, s.head.Data.Bytes())
	b = cbor.AppendText(b, string(s.head.Rev))
	b = cbor.AppendBytes(b, s.block)
	b = cbor.AppendText(b, string(s.base))
	b = cbor.AppendUint(b, s.outbox)
	if n > 7 {
		b = cbor.AppendUint(b, s.set)
	}
	if n > 8 {
		b = cbor.AppendUint(b, s.keys)
	}
	if n > 9 {
		b = cbor.AppendUint(b, 1)
	}
	return b
}

func decodeState(b []byte) (s state, err error) {
	r := cbor.NewReader(b)
	n, _ := r.Array()
	if n < 7 || n > 10 {
		return s, corrupt("state", errors.Join(errRow, r.Err()))
	}
	did, _ := r.Text()
	s.head.Commit = readCID(r)
	s.head.Data = readCID(r)
	rev, _ := r.Text()
	s.block, _ = r.Bytes()
	base, _ := r.Text()
	s.outbox, _ = r.Uint()
	if n > 7 {
		s.set, _ = r.Uint()
	}
	if n > 8 {
		s.keys, _ = r.Uint()
	}
	flag := uint64(1)
	if n > 9 {
		flag, _ = r.Uint()
		s.headless = true
	}
	if n == 8 && s.set == 0 || n == 9 && s.keys == 0 || flag != 1 || s.headless && s.head.Commit.Defined() {
		return state{}, corrupt("state", errors.Join(errRow, r.Err()))
	}
	s.did, s.head.Rev, s.base = syntax.DID(did), syntax.TID(rev), syntax.TID(base)
	if err := r.Done(); err != nil {
		return state{}, corrupt("state", err)
	}
	return s, nil
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

// outbox is what a step has to tell the shared log, and the writes of keys of which the directory
// has a copy. It is an array of events, or, with such writes, of those and an array of events.
type outbox struct {
	events []storage.Event
	copies []storage.KVWrite
}

func (o outbox) encode() (b []byte) {
	if len(o.copies) > 0 {
		b = cbor.AppendText(cbor.AppendArray(b, 3), "copies")
		b = cbor.AppendArray(b, len(o.copies))
		for _, w := range o.copies {
			b = cbor.AppendBytes(cbor.AppendArray(b, 2), []byte(w.Key))
			if w.Value == nil {
				b = cbor.AppendNull(b)
			} else {
				b = cbor.AppendBytes(b, w.Value)
			}
		}
	}
	b = cbor.AppendArray(b, len(o.events))
	for _, e := range o.events {
		n := 4
		if e.Weight > 1 {
			n = 5
		}
		b = cbor.AppendArray(b, n)
		b = cbor.AppendText(b, string(e.DID))
		b = cbor.AppendText(b, e.Kind)
		b = cbor.AppendInt(b, e.Time.UnixMilli())
		b = cbor.AppendBytes(b, e.Payload)
		if n == 5 {
			b = cbor.AppendUint(b, uint64(e.Weight))
		}
	}
	return b
}

func decodeOutbox(b []byte) (o outbox, err error) {
	r := cbor.NewReader(b)
	n, _ := r.Array()
	if r.Major() == cbor.MajorText {
		word, _ := r.Text()
		copies, _ := r.Array()
		if n != 3 || word != "copies" || copies == 0 {
			return outbox{}, corrupt("outbox", errors.Join(errRow, r.Err()))
		}
		for i := 0; i < copies && r.Err() == nil; i++ {
			if fields, _ := r.Array(); fields != 2 {
				return outbox{}, corrupt("outbox", errors.Join(errRow, r.Err()))
			}
			key, _ := r.Bytes()
			w := storage.KVWrite{Key: string(key)}
			if !r.Null() {
				if w.Value, _ = r.Bytes(); w.Value == nil {
					w.Value = []byte{}
				}
			}
			o.copies = append(o.copies, w)
		}
		n, _ = r.Array()
	}
	for range n {
		n, _ := r.Array()
		if n != 4 && n != 5 {
			return outbox{}, corrupt("outbox", errors.Join(errRow, r.Err()))
		}
		did, _ := r.Text()
		kind, _ := r.Text()
		ms, _ := r.Int()
		payload, _ := r.Bytes()
		weight := uint64(0)
		if n == 5 {
			if weight, _ = r.Uint(); weight < 2 || weight > storage.MaxWeight {
				return outbox{}, corrupt("outbox", errors.Join(errRow, r.Err()))
			}
		}
		o.events = append(o.events, storage.Event{DID: syntax.DID(did), Kind: kind, Time: time.UnixMilli(ms).UTC(), Payload: payload, Weight: int(weight)})
	}
	if err := r.Done(); err != nil {
		return outbox{}, corrupt("outbox", err)
	}
	return o, nil
}

// encodeMark encodes the number of an outbox; no number is no value.
func encodeMark(n uint64) []byte {
	if n == 0 {
		return nil
	}
	return cbor.AppendUint(nil, n)
}

func decodeMark(b []byte) (uint64, error) {
	r := cbor.NewReader(b)
	n, _ := r.Uint()
	if err := r.Done(); err != nil {
		return 0, corrupt("mark", err)
	}
	return n, nil
}

// row is a record's row: its CID, revision and blobs, with their lengths before
// them, and the data.
type row struct {
	cid   cid.Cid
	rev   syntax.TID
	blobs []cid.Cid
	data  []byte
}

// rowHead is how many bytes of a row have the CID and the revision.
const rowHead = dag.CIDLen + 1 + 255

func (r *row) encode() []byte {
	b := make([]byte, 0, dag.CIDLen+1+len(r.rev)+binary.MaxVarintLen64+len(r.blobs)*dag.CIDLen+len(r.data))
	b = append(b, r.cid.KeyString()...)
	b = append(b, byte(len(r.rev)))
	b = append(b, r.rev...)
	b = binary.AppendUvarint(b, uint64(len(r.blobs)))
	for _, c := range r.blobs {
		b = append(b, c.KeyString()...)
	}
	return append(b, r.data...)
}

// decodeRow reads a row, or, if headOnly, the CID and revision of one of which the
// rest may be missing.
func decodeRow(b []byte, headOnly bool) (r row, err error) {
	if len(b) < dag.CIDLen+1 {
		return r, corrupt("record", errRow)
	}
	if r.cid, err = castCID(b[:dag.CIDLen]); err != nil {
		return r, corrupt("record", err)
	}
	n := int(b[dag.CIDLen])
	b = b[dag.CIDLen+1:]
	if n > len(b) {
		return r, corrupt("record", errRow)
	}
	r.rev, b = syntax.TID(b[:n]), b[n:]
	if headOnly {
		return r, nil
	}
	count, n := binary.Uvarint(b)
	if n <= 0 || count > uint64(len(b)-n)/dag.CIDLen || n != len(binary.AppendUvarint(nil, count)) {
		return r, corrupt("record", errRow)
	}
	for b = b[n:]; count > 0; count-- {
		c, err := castCID(b[:dag.CIDLen])
		if err != nil {
			return r, corrupt("record", err)
		}
		r.blobs, b = append(r.blobs, c), b[dag.CIDLen:]
	}
	r.data = b
	return r, nil
}

// castCID reads a CID of the blessed shape.
func castCID[T string | []byte](b T) (cid.Cid, error) {
	codec, digest, ok := dag.SplitBytes(b)
	if !ok {
		return cid.Undef, errRow
	}
	return dag.CID(codec, &digest), nil
}

// pairHead is how many bytes of an account's key have the expiry.
const pairHead = 8

// encodePair is the value of an account's key.
func encodePair(value []byte, expires time.Time) []byte {
	b := make([]byte, pairHead, pairHead+len(value))
	if !expires.IsZero() {
		us := expires.UnixMicro()
		if us == 0 {
			us = 1 // 0 is never
		}
		binary.BigEndian.PutUint64(b, uint64(us))
	}
	return append(b, value...)
}

func decodePair(b []byte) (value []byte, expires time.Time, err error) {
	if len(b) < pairHead {
		return nil, time.Time{}, corrupt("key", errRow)
	}
	if us := binary.BigEndian.Uint64(b); us != 0 {
		expires = time.UnixMicro(int64(us)).UTC()
	}
	return b[pairHead:], expires, nil
}

// expiryKey is how a key is found, behind prefixExpiry, when it has expired.
func expiryKey(key string, expires time.Time) string {
	var b [8]byte
	binary.BigEndian.PutUint64(b[:], uint64(max(0, expires.UnixMicro())))
	return string(b[:]) + key
}

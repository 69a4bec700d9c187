package durable

import (
	"encoding/binary"
	"math"
	"strings"
	"time"

	"github.com/pdskit/pdskit/internal/cbor"
	"github.com/pdskit/pdskit/lexicon/syntax"
	"github.com/pdskit/pdskit/storage"
)

// The keys of an object that holds a whole store.
//
//	\x00aTIME DID      alarm → nothing
//	\x00dDID           account that was deleted → number of its last event that nobody may read
//	\x00lDID' SET      a set that is not, or no longer, the account's → nothing
//	\x00mKEY N         piece of a long value (see values)
//	\x00t              log: greatest number that was assigned or trimmed, but for later events
//	a/DID' …           rows of an account, as in an object of its own: b/, c/, k/, r/, x/
//	e/SEQ              event
//	f/DID' SEQ         event of an account → nothing
//	h/DID              state of an account; the accounts in order
//	k/KEY, x/TIME KEY  keys of the host
//
// DID' is the DID in the encoding of pieceKey: no account's key prefix is then a prefix of
// another's. Numbers have 8 bytes, big-endian. A commit of one new record writes five rows.
const (
	keyAlarm      = "\x00a"
	keyAlarmEnd   = "\x00b"
	keyDead       = "\x00d"
	keyDeadEnd    = "\x00e"
	keyLog        = "\x00t"
	prefixAccount = "a/"
	prefixEvent   = "e/"
	prefixOf      = "f/"
	prefixState   = "h/"
)

// inSolo are the places of an account that shares an object with others.
func inSolo(did syntax.DID) places {
	name := ordered(string(did))
	return places{prefix: prefixAccount + name, state: prefixState + string(did), loose: keyLoose + name, alarms: true}
}

// ordered encodes a string so that what it begins with can be followed by anything: the encodings
// of two strings are in the order of the strings, and none begins with another. A zero byte is
// followed by 0xff, and the end is a zero and a one.
func ordered(s string) string { return strings.ReplaceAll(s, "\x00", "\x00\xff") + "\x00\x01" }

// cutOrdered decodes a string that was encoded by ordered, and returns what follows it.
func cutOrdered(b string) (s, rest string, ok bool) {
	end := strings.Index(b, "\x00\x01")
	if end < 0 {
		return "", "", false
	}
	s = strings.ReplaceAll(b[:end], "\x00\xff", "\x00")
	return s, b[end+2:], ordered(s) == b[:end+2]
}

func number(n int64) string { return string(binary.BigEndian.AppendUint64(nil, uint64(n))) }

// parseNumber reads a number at the end of a key.
func parseNumber(key string) (int64, bool) {
	if len(key) != 8 {
		return 0, false
	}
	n := binary.BigEndian.Uint64([]byte(key))
	return int64(n), n <= math.MaxInt64
}

func eventKey(seq int64) string { return prefixEvent + number(seq) }

// ofKey is the key of an account's event.
func ofKey(did syntax.DID, seq int64) string { return prefixOf + ordered(string(did)) + number(seq) }

func (a alarm) key() string {
	return keyAlarm + string(binary.BigEndian.AppendUint64(nil, uint64(max(0, a.us)))) + string(a.did)
}

func parseAlarmKey(key string) (a alarm, err error) {
	key = key[len(keyAlarm):]
	if len(key) < 8 {
		return a, corrupt("alarm", errRow)
	}
	us, ok := parseNumber(key[:8])
	if !ok {
		return a, corrupt("alarm", errRow)
	}
	return alarm{us, syntax.DID(key[8:])}, nil
}

// encodeEvent is the row of an event: its time, its account, kind with their lengths before them,
// its weight, and the payload.
func encodeEvent(e *storage.Event) []byte {
	b := make([]byte, 8, 8+4+len(e.DID)+len(e.Kind)+len(e.Payload))
	binary.BigEndian.PutUint64(b, uint64(e.Time.UnixMilli()))
	b = binary.AppendUvarint(b, uint64(len(e.DID)))
	b = append(b, e.DID...)
	b = binary.AppendUvarint(b, uint64(len(e.Kind)))
	b = append(b, e.Kind...)
	b = binary.AppendUvarint(b, uint64(e.Numbers()))
	return append(b, e.Payload...)
}

// eventHead is how many bytes of an event have its time and account, as a rule.
const eventHead = 128

// decodeEvent reads an event, or, if headOnly, the time and account of one of which the rest may be
// missing. Its Payload is part of b.
func decodeEvent(seq int64, b []byte, headOnly bool) (e storage.Event, err error) {
	if len(b) < 8 {
		return e, corrupt("event", errRow)
	}
	e.Seq, e.Time = seq, time.UnixMilli(int64(binary.BigEndian.Uint64(b))).UTC()
	did, b, ok := cutShort(b[8:])
	e.DID = syntax.DID(did)
	if ok && !headOnly {
		if e.Kind, b, ok = cutShort(b); ok {
			var weight uint64
			weight, e.Payload, ok = cutNumber(b)
			e.Weight = int(weight)
			ok = ok && weight > 0 && weight <= storage.MaxWeight
		}
	}
	if !ok {
		return storage.Event{}, corrupt("event", errRow)
	}
	return e, nil
}

// cutShort reads a string with its length before it.
func cutShort(b []byte) (s string, rest []byte, ok bool) {
	n, b, ok := cutNumber(b)
	if !ok || n > uint64(len(b)) {
		return "", nil, false
	}
	return string(b[:n]), b[n:], true
}

// cutNumber reads a number.
func cutNumber(b []byte) (n uint64, rest []byte, ok bool) {
	n, size := binary.Uvarint(b)
	if size <= 0 || size != len(binary.AppendUvarint(nil, n)) {
		return 0, nil, false
	}
	return n, b[size:], true
}

// logRow is what is known of the log besides its events.
type logRow struct {
	newest  int64 // greatest number that was assigned when the row was written
	trimmed int64 // greatest number that Trim deleted
}

func (l logRow) encode() []byte {
	return cbor.AppendInt(cbor.AppendInt(cbor.AppendArray(nil, 2), l.newest), l.trimmed)
}

func decodeLog(b []byte) (l logRow, err error) {
	r := cbor.NewReader(b)
	if n, _ := r.Array(); n != 2 {
		return l, corrupt("log", errRow)
	}
	l.newest, _ = r.Int()
	l.trimmed, _ = r.Int()
	if err := r.Done(); err != nil || l.newest < 0 || l.trimmed < 0 || l.trimmed > l.newest {
		return logRow{}, corrupt("log", errRow)
	}
	return l, nil
}

func encodeDead(seq int64) []byte { return []byte(number(seq)) }

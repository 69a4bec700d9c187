package syntax

import (
	"math/rand/v2"
	"sync"
	"time"
)

// TID is a timestamp identifier: 13 characters of base32-sortable that encode
// microseconds since 1970 (53 bits) and a clock identifier (10 bits). TIDs
// compare as strings like the times they were made. Specification: TID.
type TID string

// ParseTID checks that s is a TID.
func ParseTID(s string) (TID, error) { return TID(s), check("tid", s, checkTID(s)) }

const tidAlphabet = "234567abcdefghijklmnopqrstuvwxyz"

// tidLen is the length of every TID in bytes.
const tidLen = 13

func checkTID(s string) fault {
	if len(s) != tidLen {
		return fault{min(len(s), tidLen), "not 13 characters"}
	}
	var all uint8
	for i := range tidLen {
		all |= tidValues[s[i]]
	}
	if all > 31 {
		i := 0
		for tidValues[s[i]] <= 31 {
			i++
		}
		return fault{i, "illegal character"}
	}
	if s[0] > 'j' { // the topmost bit is 0
		return fault{0, "first character beyond j"}
	}
	return ok
}

// tidValues are the values of the characters, or 255.
var tidValues = func() (t [256]uint8) {
	for c := range t {
		t[c] = 255
	}
	for i := range len(tidAlphabet) {
		t[tidAlphabet[i]] = uint8(i)
	}
	return t
}()

// NewTID returns the TID of a time, in microseconds, and a clock identifier, of
// which the low 10 bits count.
func NewTID(t time.Time, clock uint) TID { return tidOf(uint64(t.UnixMicro()), clock) }

// maxMicros is the last microsecond that a TID can say, in the year 2255.
const maxMicros = 1<<53 - 1

func tidOf(micros uint64, clock uint) TID {
	v := (micros&maxMicros)<<10 | uint64(clock&1023)
	var b [tidLen]byte
	for i := tidLen - 1; i >= 0; i-- {
		b[i] = tidAlphabet[v&31]
		v >>= 5
	}
	return TID(b[:])
}

// Time returns the time in a TID; the zero time if it is not a TID.
func (t TID) Time() time.Time {
	if checkTID(string(t)) != ok {
		return time.Time{}
	}
	return time.UnixMicro(int64(t.value() >> 10)).UTC()
}

// Clock returns the clock identifier of a TID.
func (t TID) Clock() uint { return uint(t.value() & 1023) }

func (t TID) value() (v uint64) {
	for i := range len(t) {
		v = v<<5 | uint64(tidValues[t[i]]&31)
	}
	return v
}

// String returns the TID as a string.
func (t TID) String() string { return string(t) }

// MarshalText implements encoding.TextMarshaler.
func (t TID) MarshalText() ([]byte, error) { return []byte(t), nil }

// UnmarshalText implements encoding.TextUnmarshaler.
func (t *TID) UnmarshalText(b []byte) (err error) {
	*t, err = parseInto(ParseTID, b)
	return err
}

// TIDClock makes TIDs, each greater than all before it. The zero value is ready
// to use, with a random clock identifier, and safe for concurrent use.
//
// When TIDs are asked for faster than one a microsecond, or when the system's
// clock goes back, the clock runs ahead of the time. Over restarts, NextAfter keeps a
// sequence ascending.
type TIDClock struct {
	mu   sync.Mutex
	last uint64 // microseconds
	id   uint   // clock identifier + 1; 0: not chosen yet
}

// NewTIDClock returns a clock with a given identifier, of which the low 10 bits count.
func NewTIDClock(id uint) *TIDClock { return &TIDClock{id: id&1023 + 1} }

// Next returns a TID greater than all that the clock has returned.
func (c *TIDClock) Next() TID { return c.NextAfter("") }

// NextAfter is Next, with a result that is also greater than prev, which may be
// empty. So revisions ascend even if prev was made by a clock that ran ahead. Only after a TID of
// the year 2255, when TIDs end, it is not greater.
func (c *TIDClock) NextAfter(prev TID) TID {
	c.mu.Lock()
	defer c.mu.Unlock()
	if c.id == 0 {
		c.id = rand.UintN(1024) + 1
	}
	now := max(uint64(time.Now().UnixMicro()), c.last+1)
	if checkTID(string(prev)) == ok {
		now = max(now, prev.value()>>10+1)
	}
	now = min(now, maxMicros)
	c.last = now
	return tidOf(now, c.id-1)
}

package syntax

import (
	"math/rand/v2"
	"sync"
	"time"
)

// TID is a timestamp identifier: 13 characters of base32-sortable that encode microseconds since
// 1970 (53 bits) and a clock identifier (10 bits). TIDs sort as strings by their times.
// Specification: TID.
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

// NewTID returns the TID of a time, in microseconds, and the low 10 bits of a clock identifier. A
// time before 1970 becomes 1970, and one after the year 2255 the last moment that a TID can hold.
func NewTID(t time.Time, clock uint) TID { return tidOf(microsOf(t), clock) }

// NextTID returns the TID of a time if that is later than prev; otherwise the TID of the
// microsecond after prev. It keeps one sequence ascending, such as the revisions of a repository,
// even if the clock goes back. An empty or malformed prev is ignored. If prev is the last possible
// TID, in the year 2255, ok is false.
func NextTID(prev TID, now time.Time, clock uint) (next TID, ok bool) {
	micros := microsOf(now)
	if prev.valid() {
		after := prev.value()>>10 + 1
		if after > maxMicros {
			return "", false
		}
		micros = max(micros, after)
	}
	return tidOf(micros, clock), true
}

// maxMicros is the last microsecond that a TID can hold, in the year 2255.
const maxMicros = 1<<53 - 1

// microsOf returns a time in microseconds since 1970, within the range of TIDs.
func microsOf(t time.Time) uint64 {
	switch {
	case t.Before(time.Unix(0, 0)):
		return 0
	case t.After(time.UnixMicro(maxMicros)):
		return maxMicros
	}
	return uint64(t.UnixMicro())
}

func tidOf(micros uint64, clock uint) TID {
	v := micros<<10 | uint64(clock&1023)
	var b [tidLen]byte
	for i := tidLen - 1; i >= 0; i-- {
		b[i] = tidAlphabet[v&31]
		v >>= 5
	}
	return TID(b[:])
}

func (t TID) valid() bool { return checkTID(string(t)) == ok }

// Time returns the time in a TID; the zero time if it is not a TID.
func (t TID) Time() time.Time {
	if !t.valid() {
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

// UnmarshalText implements encoding.TextUnmarshaler.
func (t *TID) UnmarshalText(b []byte) (err error) {
	*t, err = parseInto(ParseTID, b)
	return err
}

// TIDClock makes TIDs, each greater than all before it. The zero value is ready to use, with a
// random clock identifier. It is safe for concurrent use. Do not change its fields after the first
// use.
//
// If TIDs are requested faster than one a microsecond, or if the system's clock goes back, the
// clock runs ahead of the time: see MaxLead. After a restart, NextAfter keeps a sequence ascending.
//
// A TIDClock is for one sequence: NextAfter affects all its users. For independent sequences, such
// as the revisions of many repositories, use [NextTID].
type TIDClock struct {
	// Now is the time. Nil: time.Now.
	Now func() time.Time
	// MaxLead bounds how far the clock may run ahead of the time. Beyond it, the time must have
	// gone back: the clock then follows the time, with another clock identifier. So TIDs stay
	// unique, but do not ascend at that moment. 0: no bound.
	MaxLead time.Duration

	mu   sync.Mutex
	last uint64 // microseconds
	id   uint   // clock identifier + 1; 0: not chosen yet
}

// NewTIDClock returns a clock with the low 10 bits of an identifier.
func NewTIDClock(id uint) *TIDClock { return &TIDClock{id: id&1023 + 1} }

// Next returns a TID greater than all that the clock has returned.
func (c *TIDClock) Next() TID { return c.NextAfter("") }

// NextAfter is [TIDClock.Next], and the result is also greater than prev, which may be empty. So a
// sequence ascends even if prev was made by a clock that ran ahead. The only exception is a prev of
// the year 2255, where TIDs end.
func (c *TIDClock) NextAfter(prev TID) TID {
	c.mu.Lock()
	defer c.mu.Unlock()
	if c.id == 0 {
		c.id = rand.UintN(1024) + 1
	}
	now := time.Now
	if c.Now != nil {
		now = c.Now
	}
	micros := microsOf(now())
	if c.MaxLead > 0 && c.last > micros+uint64(c.MaxLead.Microseconds()) {
		c.last, c.id = 0, c.id%1024+1
	}
	micros = max(micros, c.last+1)
	if prev.valid() {
		micros = max(micros, prev.value()>>10+1)
	}
	c.last = min(micros, maxMicros)
	return tidOf(c.last, c.id-1)
}

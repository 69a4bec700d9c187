package storage

import (
	"errors"
	"fmt"
)

// ErrInvalid: a change contradicts itself, independently of what is stored. Nothing was written. It
// is a fault of the caller. See [Change.Validate].
var ErrInvalid = errors.New("storage: invalid change")

// MaxWeight is the maximum of Event.Weight.
const MaxWeight = 1000

// Numbers returns how many sequence numbers the event takes: its Weight, or 1 if that is 0.
func (e *Event) Numbers() int64 { return int64(max(1, e.Weight)) }

// First returns the first sequence number of the event; Seq is the last one. Operation i of a
// commit, counted from 0, has the number First()+i.
func (e *Event) First() int64 { return e.Seq - e.Numbers() + 1 }

// Validate returns an error that wraps ErrInvalid if no store could carry out the change by Apply.
// Backends call it first.
func (c *Change) Validate() error {
	none := Head{}
	if c.Head == none {
		switch {
		case c.Prev != none:
			return fmt.Errorf("%w: it has the head %s before, and none after", ErrInvalid, c.Prev.Rev)
		case len(c.Records) > 0 || len(c.Commit) > 0:
			return fmt.Errorf("%w: it has records or a commit, but no head", ErrInvalid)
		case len(c.KV) == 0 && len(c.Events) == 0:
			return fmt.Errorf("%w: it has no head, no key-value write and no event", ErrInvalid)
		}
	}
	return ValidateEvents(c.Events)
}

// ValidateReplacement is [Change.Validate] for the change of Repos.Replace.
func (c *Change) ValidateReplacement() error {
	switch {
	case c.Head == Head{}:
		return fmt.Errorf("%w: records are replaced without a head", ErrInvalid)
	case len(c.Records) > 0:
		return fmt.Errorf("%w: it has records besides the stream", ErrInvalid)
	}
	return ValidateEvents(c.Events)
}

// ValidateEvents validates the events of Repos.Delete, as [Change.Validate] does.
func ValidateEvents(list []Event) error {
	for i := range list {
		if w := list[i].Weight; w < 0 || w > MaxWeight {
			return fmt.Errorf("%w: event %d has weight %d; 0 to %d are possible", ErrInvalid, i, w, MaxWeight)
		}
	}
	return nil
}

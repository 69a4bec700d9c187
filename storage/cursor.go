package storage

import (
	"context"
	"iter"

	"github.com/pdskit/pdskit/lexicon/syntax"
)

// Cursor iterates over records in the store's own memory, without copies. What its methods return
// is valid until the next call of Next or Close, and must not be changed. Copy what you keep. It is
// for one goroutine.
//
//	c := storage.Records(ctx, r, rng)
//	defer c.Close()
//	for c.Next() {
//		… c.Path(), c.Data() …
//	}
//	return c.Err()
type Cursor interface {
	// Next moves to the next record; the first call moves to the first one. It returns false at the
	// end, and after an error.
	Next() bool
	// Path returns the record's path.
	Path() []byte
	// CID returns the record's CID in its binary form.
	CID() []byte
	// Rev returns the revision in which the record was last written.
	Rev() syntax.TID
	// Data returns the record, or nil if the Range asked only for keys.
	Data() []byte
	// Err returns the error that made Next return false, or nil.
	Err() error
	// Close ends the iteration. It must be called before the Reader's View ends, and may be called
	// more than once.
	Close()
}

// CursorReader is an optional interface of a [Reader]: it iterates over records without copying
// each. That is much cheaper if records are only passed on. Use [Records], which works with any
// Reader.
type CursorReader interface {
	// Cursor iterates over the same records as the method Records.
	Cursor(ctx context.Context, r Range) Cursor
}

// Records iterates over the records of a range. It uses the cursor of the Reader if there is one.
func Records(ctx context.Context, r Reader, rng Range) Cursor {
	if c, ok := r.(CursorReader); ok {
		return c.Cursor(ctx, rng)
	}
	next, stop := iter.Pull2(r.Records(ctx, rng))
	return &pulled{next: next, stop: stop}
}

// pulled is a cursor over an iterator.
type pulled struct {
	next func() (Record, error, bool)
	stop func()
	rec  Record
	err  error
}

func (p *pulled) Next() bool {
	if p.err != nil {
		return false
	}
	var ok bool
	p.rec, p.err, ok = p.next()
	return ok && p.err == nil
}

func (p *pulled) Path() []byte    { return []byte(p.rec.Path) }
func (p *pulled) CID() []byte     { return p.rec.CID.Bytes() }
func (p *pulled) Rev() syntax.TID { return p.rec.Rev }
func (p *pulled) Data() []byte    { return p.rec.Data }
func (p *pulled) Err() error      { return p.err }
func (p *pulled) Close()          { p.stop() }

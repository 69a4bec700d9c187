package storage

import (
	"context"
	"iter"

	"github.com/pdskit/pdskit/lexicon/syntax"
)

// Cursor goes through records, each in the store's own memory: what its methods return is valid
// until the next call of Next or Close, and must not be changed. Whoever keeps any of it makes a
// copy. It is for one goroutine.
//
//	c := storage.Records(ctx, r, rng)
//	defer c.Close()
//	for c.Next() {
//		… c.Path(), c.Data() …
//	}
//	return c.Err()
type Cursor interface {
	// Next goes to the next record, at first to the first one. It returns false at the end, and
	// where there is an error.
	Next() bool
	// Path returns the record's path.
	Path() []byte
	// CID returns the record's CID in its binary form.
	CID() []byte
	// Rev returns the revision in which the record was last written.
	Rev() syntax.TID
	// Data returns the record, nil if only keys were asked for.
	Data() []byte
	// Err returns the error that made Next return false, or nil.
	Err() error
	// Close ends the reading. It must be called before the Reader's View ends. More calls do no
	// harm.
	Close()
}

// CursorReader is an ability that a Reader may have: to go through records without a copy of each,
// which saves much of the cost where records are only passed on. Use [Records], which works with
// any Reader.
type CursorReader interface {
	// Cursor goes through what Records yields.
	Cursor(ctx context.Context, r Range) Cursor
}

// Records goes through what r.Records yields, with the cursor of the Reader if it has one.
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

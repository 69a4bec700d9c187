// Package plctest is a did:plc directory for tests and for development: the public directory's API
// and rules, in one http.Handler.
//
// It refuses what the public directory refuses, with the same statuses and messages, so code that
// works with it works with the real one. It is in memory, or stores its operations in a file, so
// that a development server keeps its accounts over a restart. It is not meant for public use.
//
// It lacks the streaming export and the administrator's endpoint.
package plctest

import (
	"errors"
	"sync"
	"time"

	"github.com/pdskit/pdskit/identity"
	"github.com/pdskit/pdskit/lexicon/syntax"
)

// Config configures a directory. The zero value is a directory in memory.
type Config struct {
	// Now is the clock; default time.Now. Tests of the recovery window set it.
	Now func() time.Time
	// File stores the operations, one JSON object in each line, appended and synced before the
	// response. It is created if necessary. Only one process may use it at a time. Empty: memory
	// only.
	File string
	// NoRateLimits removes the limits on a DID's operations in an hour (10), a day (30) and a week
	// (100).
	NoRateLimits bool
}

// Directory is a directory. It is safe for concurrent use.
type Directory struct {
	cfg Config

	mu     sync.RWMutex
	logs   map[syntax.DID]*identity.PLCLog
	order  []sequenced // all operations in the order of their acceptance
	last   time.Time   // of acceptance
	file   file        // nil: memory only
	size   int64       // bytes of file that hold whole lines
	broken error       // why nothing can be written any more
}

// sequenced is an operation's place: the sequence number is its index plus 1.
type sequenced struct {
	did   syntax.DID
	index int // in the log's entries
}

// ErrClosed is returned after Close.
var ErrClosed = errors.New("plctest: directory is closed")

// New returns a directory. If the file ends with an incomplete line, which a crash during a write
// leaves, that line is removed: its operation had no response. Any other fault in the file is an
// error.
func New(cfg Config) (*Directory, error) {
	if cfg.Now == nil {
		cfg.Now = time.Now
	}
	d := &Directory{cfg: cfg, logs: map[syntax.DID]*identity.PLCLog{}}
	if cfg.File != "" {
		if err := d.open(cfg.File); err != nil {
			return nil, err
		}
	}
	return d, nil
}

// Close closes the file. Reading still works; writing returns ErrClosed.
func (d *Directory) Close() error {
	d.mu.Lock()
	defer d.mu.Unlock()
	if d.broken == nil {
		d.broken = ErrClosed
	}
	if d.file == nil {
		return nil
	}
	err := d.file.Close()
	d.file = nil
	return err
}

// Submit adds an operation, as POST /:did does. Errors are a *Refusal and those of writing the
// file; the operation is then not added.
func (d *Directory) Submit(did syntax.DID, op *identity.PLCOperation) error {
	if err := checkIncoming(op); err != nil {
		return err
	}
	d.mu.Lock()
	defer d.mu.Unlock()
	if d.broken != nil {
		return d.broken
	}
	log := identity.NewPLCLog(did)
	if old := d.logs[did]; old != nil {
		log = old.Clone() // nothing has happened if the file cannot be written
	}
	at := d.time()
	nullified, err := log.Append(op, at)
	if err != nil {
		return refusal(err)
	}
	// Recoveries are not limited: otherwise whoever stole a key could use up the quota.
	if len(nullified) == 0 && !d.cfg.NoRateLimits {
		if err := checkRate(log, at); err != nil {
			return err
		}
	}
	if err := d.write(log); err != nil {
		return err
	}
	d.add(log, at)
	return nil
}

// time returns the time of the next operation: milliseconds, later than all before,
// so that times can serve as cursors.
func (d *Directory) time() time.Time {
	at := d.cfg.Now().UTC().Truncate(time.Millisecond)
	if !at.After(d.last) {
		at = d.last.Add(time.Millisecond)
	}
	return at
}

// add makes a log with a new operation visible.
func (d *Directory) add(log *identity.PLCLog, at time.Time) {
	d.logs[log.DID()] = log
	d.order = append(d.order, sequenced{log.DID(), log.Len() - 1})
	d.last = at
}

// Log returns a copy of a DID's log, or nil if the DID is not registered.
func (d *Directory) Log(did syntax.DID) *identity.PLCLog {
	if log := d.log(did); log != nil {
		return log.Clone()
	}
	return nil
}

// log returns a DID's log, which nobody changes: Submit replaces it.
func (d *Directory) log(did syntax.DID) *identity.PLCLog {
	d.mu.RLock()
	defer d.mu.RUnlock()
	return d.logs[did]
}

package transfer

import (
	"context"
	"errors"
	"fmt"
	"strings"
	"sync"
	"time"

	"github.com/ipfs/go-cid"
	"github.com/pdskit/pdskit/lexicon/syntax"
	"github.com/pdskit/pdskit/storage"
)

// Config says what is moved where. From and To are required.
type Config struct {
	// From is the source, as the server that uses it has opened it. Its Repos must be
	// storage.Movable.
	From storage.Store
	// To is the target. Its Repos must be a storage.Loader. If only blobs are moved, it is From
	// with other Blobs, whose rows, if they have some, are written through [Moving].
	To storage.Store
	// OnlyBlobs says that From and To are the same but for their Blobs. Not both of these may have
	// their rows among the host's keys: they would be the same rows.
	OnlyBlobs bool
	// SameBlobs says that the Blobs of both have their bytes in the same place, so that they are
	// not copied.
	SameBlobs bool
	// Rows are the beginnings of keys of the host that belong to the Blobs of one side, such as
	// bucket.Keys, and are so left alone. Empty if SameBlobs.
	Rows []string
	// Name says, for people, what the target is, without secrets; Hint what to change in the
	// configuration of the server to use it.
	Name, Hint string
	// Blobs names the kind of place where the target's blobs are, such as "disk". See [Enter].
	Blobs string
	// Workers is how many accounts are copied at a time. 0: 4.
	Workers int
	// Rate bounds how many bytes a second are read from the source while it is in use. 0: no bound.
	Rate int64
	// Sample reads back one of so many blobs of the target. 0 and 1: all of them.
	Sample int
	// AcceptDamaged moves a source that has lost or damaged blobs, without them.
	AcceptDamaged bool
	// Rounds bounds how often changes are caught up with before the source is shut. 0: 20.
	Rounds int
	// Progress, if not nil, is told how far it is, some times a second at most and at each new
	// phase. Its calls take turns.
	Progress func(Progress)
	// Now is the clock. Nil: time.Now.
	Now func() time.Time
}

// Phase is what a Mover is doing.
type Phase string

const (
	Copying    Phase = "copying"
	CatchingUp Phase = "catching up"
	Verifying  Phase = "verifying"
	Finishing  Phase = "finishing" // the source refuses writes
	Done       Phase = "done"
)

// Progress counts what was done since the Mover was made.
type Progress struct {
	Phase    Phase         `json:"phase"`
	Elapsed  time.Duration `json:"elapsedNanoseconds"`
	Accounts int64         `json:"accounts"` // copied, or compared and left as they are
	Records  int64         `json:"records"`
	Keys     int64         `json:"keys"`
	Events   int64         `json:"events"`
	Blobs    int64         `json:"blobs"`
	Bytes    int64         `json:"bytes"`    // of records, keys, events and blobs that were copied
	Verified int64         `json:"verified"` // accounts
	At       syntax.DID    `json:"at,omitempty"`
}

// Damage is a blob that the source has lost, or that is not what it should be.
type Damage struct {
	DID syntax.DID `json:"did"`
	CID cid.Cid    `json:"cid"`
	Why string     `json:"why"`
}

// Report is what a Mover has done.
type Report struct {
	Progress
	// Pause is for how long the source refused writes before the target was ready.
	Pause time.Duration `json:"pauseNanoseconds"`
	// Damaged are blobs that were not copied.
	Damaged []Damage `json:"damaged"`
}

// Errors that callers branch on.
var (
	// ErrNotEmpty: the target has data that is not of this move.
	ErrNotEmpty = errors.New("transfer: the target is not empty")
	// ErrOther: a move of the source to another target is under way.
	ErrOther = errors.New("transfer: the source is being moved to another target")
	// ErrTakenOver: another Mover goes on with the move, or has given it up. This one has left the
	// source and the target to it.
	ErrTakenOver = errors.New("transfer: another one has taken over the move, or given it up")
	// ErrTaken: the target is in use by a server, so that the source cannot have its place back.
	ErrTaken = errors.New("transfer: a server uses the target already")
	// ErrNone: there is no move under way.
	ErrNone = errors.New("transfer: there is no move under way")
	// ErrBehind: the source changes faster than it can be copied.
	ErrBehind = errors.New("transfer: the source changes faster than it can be copied")
	// ErrDamagedBlobs: blobs of the source cannot be copied. See Config.AcceptDamaged.
	ErrDamagedBlobs = errors.New("transfer: blobs of the source are lost or damaged")
)

// VerifyError says in what the target differs from the source. The source is in use.
type VerifyError struct {
	Problems []string // the first hundred
	Found    int      // all of them
}

func (e *VerifyError) Error() string {
	return fmt.Sprintf("transfer: the target is not what the source is, in %d places:\n  %s", e.Found, strings.Join(e.Problems, "\n  "))
}

// maxListed bounds lists of problems.
const maxListed = 100

// Mover moves a store. Its methods are for one goroutine.
//
// One at a time works on a source; the caller sees to that, as by a lock on a file, since one that
// was stopped for long may go on to copy what is old by then. If there are two all the same, the
// one that began later takes over: the other fails with [ErrTakenOver] before it opens or shuts the
// source, or says that the target is ready.
type Mover struct {
	cfg  Config
	from storage.Movable
	to   storage.Loader // nil: only blobs are moved
	note note           // of the source
	mark mark           // of the target

	began time.Time
	rate  limiter

	mu       sync.Mutex
	progress Progress
	shown    time.Time
	damaged  []Damage
	// verifying is set from the beginning of the verification; unverified are the accounts that
	// have changed since they were verified.
	verifying  bool
	unverified map[syntax.DID]bool
	shut       bool
	logged     int64 // the log was verified up to this number
	pause      time.Duration
}

// New returns a Mover. It does nothing yet.
func New(cfg Config) (*Mover, error) {
	m := &Mover{cfg: cfg, unverified: make(map[syntax.DID]bool)}
	var ok bool
	if m.from, ok = cfg.From.Repos.(storage.Movable); !ok {
		return nil, errors.New("transfer: the source is of a kind that cannot be moved while it is in use")
	}
	if m.to, ok = cfg.To.Repos.(storage.Loader); !ok && !cfg.OnlyBlobs {
		return nil, errors.New("transfer: the target is of a kind that cannot be filled")
	}
	switch {
	case cfg.OnlyBlobs && cfg.SameBlobs:
		return nil, errors.New("transfer: there is nothing to move")
	case !cfg.SameBlobs && (cfg.From.Blobs == nil || cfg.To.Blobs == nil):
		return nil, errors.New("transfer: a store has no place for blobs")
	}
	if cfg.OnlyBlobs {
		m.to = nil
	}
	if m.cfg.Workers <= 0 {
		m.cfg.Workers = 4
	}
	if m.cfg.Rounds <= 0 {
		m.cfg.Rounds = 20
	}
	if m.cfg.Now == nil {
		m.cfg.Now = time.Now
	}
	m.rate = limiter{rate: cfg.Rate}
	m.began = time.Now()
	return m, nil
}

// Report returns what was done so far.
func (m *Mover) Report() Report {
	m.mu.Lock()
	defer m.mu.Unlock()
	p := m.progress
	p.Elapsed = time.Since(m.began)
	return Report{Progress: p, Damaged: append([]Damage{}, m.damaged...)}
}

// showEvery is how often Config.Progress is called.
const showEvery = 200 * time.Millisecond

// count changes the progress.
func (m *Mover) count(change func(*Progress)) {
	m.mu.Lock()
	defer m.mu.Unlock()
	before := m.progress.Phase
	change(&m.progress)
	now := time.Now()
	if m.cfg.Progress == nil || m.progress.Phase == before && now.Sub(m.shown) < showEvery {
		return
	}
	m.shown = now
	p := m.progress
	p.Elapsed = now.Sub(m.began)
	m.cfg.Progress(p)
}

func (m *Mover) phase(p Phase) { m.count(func(x *Progress) { x.Phase = p }) }

// lost notes a blob that cannot be copied.
func (m *Mover) lost(did syntax.DID, c cid.Cid, why string) {
	m.mu.Lock()
	defer m.mu.Unlock()
	for _, d := range m.damaged {
		if d.DID == did && d.CID == c {
			return
		}
	}
	m.damaged = append(m.damaged, Damage{did, c, why})
}

// isLost reports whether a blob could not be copied.
func (m *Mover) isLost(did syntax.DID, c cid.Cid) bool {
	m.mu.Lock()
	defer m.mu.Unlock()
	for _, d := range m.damaged {
		if d.DID == did && d.CID == c {
			return true
		}
	}
	return false
}

// skips reports whether a key of the host is not copied: our own, and rows of blobs.
func (m *Mover) skips(key string) bool {
	if strings.HasPrefix(key, ownKeys) {
		return true
	}
	for _, prefix := range m.cfg.Rows {
		if strings.HasPrefix(key, prefix) {
			return true
		}
	}
	return false
}

// each calls fn for a list with a number of workers. The first error ends it.
func (m *Mover) each(ctx context.Context, list []syntax.DID, fn func(context.Context, syntax.DID) error) error {
	ctx, cancel := context.WithCancelCause(ctx)
	defer cancel(nil)
	var wg sync.WaitGroup
	next := make(chan syntax.DID)
	for range min(m.cfg.Workers, len(list)) {
		wg.Go(func() {
			for did := range next {
				if ctx.Err() != nil {
					continue
				}
				if err := fn(ctx, did); err != nil {
					cancel(fmt.Errorf("%s: %w", did, err))
				}
			}
		})
	}
	for _, did := range list {
		next <- did
	}
	close(next)
	wg.Wait()
	return context.Cause(ctx)
}

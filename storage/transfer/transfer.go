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

// Config configures a move. From and To are required.
type Config struct {
	// From is the source, opened as by the server that uses it. Its Repos must be storage.Movable.
	From storage.Store
	// To is the target. Its Repos must be a storage.Loader. If only blobs are moved, To is From
	// with other Blobs. If those have rows in the store, they must be written through
	// [storage.Movable].Moving.
	To storage.Store
	// OnlyBlobs means that From and To differ only in their Blobs. At most one of these may have
	// rows among the host's keys, since they would be the same rows.
	OnlyBlobs bool
	// SameBlobs means that both Blobs have their bytes in the same place, so that they are not
	// copied. Nothing keeps out a process of the source that was paused: if it looked whether it
	// may change blobs before the source was shut, and continues when the target is in use, it may
	// delete blobs that the target's records refer to. So end all servers of the source before the
	// target is used.
	SameBlobs bool
	// Rows are prefixes of the host's keys that belong to the Blobs of one side, such as
	// bucket.Keys. They are not copied. Leave it empty with SameBlobs.
	Rows []string
	// Name describes the target to people, without secrets. Hint says how to change the server's
	// configuration to use it.
	Name, Hint string
	// Blobs is the kind of place of the target's blobs, such as "disk". See [Enter].
	Blobs string
	// Workers is how many accounts are copied concurrently. 0: 4.
	Workers int
	// Rate bounds the bytes that are read from the source in a second while it is in use. 0: no
	// bound.
	Rate int64
	// Sample is n if one of n blobs of the target is read back. 0 and 1: all of them.
	Sample int
	// AcceptDamaged moves a source with lost or damaged blobs, without those.
	AcceptDamaged bool
	// Rounds bounds the rounds of catching up before the source is shut. 0: 20.
	Rounds int
	// Progress, if not nil, is called with the progress, at most a few times a second and at each
	// new phase. Calls do not overlap.
	Progress func(Progress)
	// Now is the clock. Nil: time.Now.
	Now func() time.Time
}

// Phase is a phase of a move.
type Phase string

const (
	Copying    Phase = "copying"
	CatchingUp Phase = "catching up"
	Verifying  Phase = "verifying"
	Finishing  Phase = "finishing" // the source refuses writes
	Done       Phase = "done"
)

// Progress has counts since the Mover was made.
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

// Damage is a lost or damaged blob of the source.
type Damage struct {
	DID syntax.DID `json:"did"`
	CID cid.Cid    `json:"cid"`
	Why string     `json:"why"`
}

// Report is the result of a move.
type Report struct {
	Progress
	// Pause is how long the source refused writes before the target was ready.
	Pause time.Duration `json:"pauseNanoseconds"`
	// Damaged are the blobs that were not copied.
	Damaged []Damage `json:"damaged"`
}

// Errors that callers branch on.
var (
	// ErrNotEmpty: the target has data that does not belong to this move.
	ErrNotEmpty = errors.New("transfer: the target is not empty")
	// ErrOther: a move of the source to another target is in progress.
	ErrOther = errors.New("transfer: the source is being moved to another target")
	// ErrTakenOver: another Mover continues the move, or has aborted it. This Mover has stopped.
	ErrTakenOver = errors.New("transfer: another one has taken over the move, or given it up")
	// ErrTaken: a server uses the target, so the move cannot be aborted.
	ErrTaken = errors.New("transfer: a server uses the target already")
	// ErrNone: no move is in progress.
	ErrNone = errors.New("transfer: there is no move under way")
	// ErrBehind: the source changes faster than it can be copied.
	ErrBehind = errors.New("transfer: the source changes faster than it can be copied")
	// ErrDamagedBlobs: blobs of the source cannot be copied. See Config.AcceptDamaged.
	ErrDamagedBlobs = errors.New("transfer: blobs of the source are lost or damaged")
)

// VerifyError says how the target differs from the source. The source is in use.
type VerifyError struct {
	Problems []string // the first hundred
	Found    int      // all of them
}

func (e *VerifyError) Error() string {
	return fmt.Sprintf("transfer: the target is not what the source is, in %d places:\n  %s", e.Found, strings.Join(e.Problems, "\n  "))
}

// maxListed bounds lists of problems.
const maxListed = 100

// Mover moves a store. It is for one goroutine.
//
// Only one Mover at a time may work on a source. The caller ensures that, for example by a file
// lock, since a Mover that was suspended may continue to copy outdated data. If there are two
// nevertheless, the later one takes over: the other fails with [ErrTakenOver] before it opens or
// shuts the source, or marks the target as ready.
type Mover struct {
	cfg  Config
	from storage.Movable
	to   storage.Loader // nil: only blobs are moved
	note note           // of the source
	mark mark           // of the target

	began time.Time
	rate  limiter

	// mu guards these.
	mu       sync.Mutex
	progress Progress
	shown    time.Time // when the progress was reported last
	damaged  []Damage
	// verifying is set from the beginning of the verification; unverified are the accounts that
	// have changed since they were verified.
	verifying  bool
	unverified map[syntax.DID]bool

	// Only the goroutine of the Mover changes these, and not while accounts or blobs are copied.
	shut   bool          // the source is shut
	logged int64         // the log was verified up to this number
	pause  time.Duration // how long the source was shut
}

// New returns a Mover. It changes nothing yet.
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

// Report returns the result so far.
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

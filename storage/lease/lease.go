package lease

import (
	"context"
	"crypto/rand"
	"encoding/json"
	"errors"
	"fmt"
	"strings"
	"time"

	"github.com/pdskit/pdskit/internal/exactjson"
	"github.com/pdskit/pdskit/storage"
)

// ErrLost: the lease is no longer the caller's.
var ErrLost = errors.New("lease: it was lost")

// Config configures a Lease. KV, Name and Holder are required.
type Config struct {
	KV storage.KV
	// Name is the name of the lease: 1 to 64 ASCII letters, digits and "-_.".
	Name string
	// Holder is a readable name of this process, of up to 128 bytes. Two processes with the same
	// name still exclude each other.
	Holder string
	// Term is how long the lease lasts without a renewal: 1 second to 1 hour. 0: 15 seconds. If
	// processes have different terms, the holder's applies.
	Term time.Duration
	// Changed, if not nil, is called when this process gets or loses the lease. It must not block.
	Changed func(held bool)
	// Failed, if not nil, is called with errors of the store, after which Run retries. It must not
	// block.
	Failed func(error)
}

// Lease is a lease that several processes compete for. Make one with New. Its methods may be called
// concurrently, but Run only once at a time.
type Lease struct {
	cfg Config
	key string
}

const (
	prefix    = "lease/"
	maxName   = 64
	maxHolder = 128
	minTerm   = time.Second
	maxTerm   = time.Hour
	// version is that of what is stored.
	version = 1
)

// New returns a lease. Leases with the same KV and name exclude each other.
func New(cfg Config) (*Lease, error) {
	if cfg.Term == 0 {
		cfg.Term = 15 * time.Second
	}
	switch {
	case cfg.KV == nil:
		return nil, errors.New("lease: Config.KV is missing")
	case len(cfg.Name) == 0 || len(cfg.Name) > maxName || strings.ContainsFunc(cfg.Name, notInName):
		return nil, fmt.Errorf("lease: Config.Name %.100q: 1 to %d ASCII letters, digits and \"-_.\"", cfg.Name, maxName)
	case cfg.Holder == "" || len(cfg.Holder) > maxHolder:
		return nil, fmt.Errorf("lease: Config.Holder has %d bytes: 1 to %d", len(cfg.Holder), maxHolder)
	case cfg.Term < minTerm || cfg.Term > maxTerm:
		return nil, fmt.Errorf("lease: Config.Term is %s: %s to %s", cfg.Term, minTerm, maxTerm)
	}
	return &Lease{cfg, prefix + cfg.Name}, nil
}

func notInName(r rune) bool {
	return !(r >= 'a' && r <= 'z' || r >= 'A' && r <= 'Z' || r >= '0' && r <= '9' || r == '-' || r == '_' || r == '.')
}

// row is what is stored of a lease. It is never deleted, so that the token only rises.
type row struct {
	Version int    `json:"version"`
	Token   int64  `json:"token"`
	Holder  string `json:"holder"` // empty: it is free
	// Beat changes with each renewal.
	Beat string `json:"beat"`
	// Term is the holder's term in milliseconds.
	Term int64 `json:"term"`
}

// term is for how long the row must have been the same before another process takes the lease.
func (x row) term() time.Duration {
	t := time.Duration(x.Term) * time.Millisecond
	return t + t/8
}

// read reads the row; one that is not there is the zero one.
func (l *Lease) read(ctx context.Context, r storage.KVReader) (x row, err error) {
	text, err := r.Get(ctx, l.key)
	if errors.Is(err, storage.ErrNotFound) {
		return x, nil
	}
	if err == nil {
		err = exactjson.UnmarshalPlain(text, &x)
	}
	if err == nil && (x.Version != version || x.Token < 0 || x.Term < 0 || x.Term > maxTerm.Milliseconds()) {
		err = fmt.Errorf("%w: row of version %d", storage.ErrCorrupt, x.Version)
	}
	if err != nil {
		return x, fmt.Errorf("lease %s: %w", l.cfg.Name, err)
	}
	return x, nil
}

func (l *Lease) write(ctx context.Context, tx storage.KVTx, x row) error {
	x.Version, x.Beat = version, rand.Text()
	text, err := json.Marshal(x)
	if err != nil {
		return err
	}
	return tx.Set(ctx, l.key, text, time.Time{})
}

// look reads the row in a snapshot.
func (l *Lease) look(ctx context.Context) (x row, err error) {
	err = l.cfg.KV.Read(ctx, func(r storage.KVReader) error {
		x, err = l.read(ctx, r)
		return err
	})
	return x, err
}

// Holder returns the holder of the lease according to the store, or "" if there is none. A process
// that has died holds it for its term. The token is that of the last time the lease was taken.
func (l *Lease) Holder(ctx context.Context) (holder string, token int64, err error) {
	x, err := l.look(ctx)
	return x.Holder, x.Token, err
}

// take takes the lease if its row is still the given one. ok is false if it is not.
func (l *Lease) take(ctx context.Context, seen row) (token int64, ok bool, err error) {
	err = l.cfg.KV.Write(ctx, func(tx storage.KVTx) error {
		token, ok = 0, false
		x, err := l.read(ctx, tx)
		if err != nil || x != seen {
			return err
		}
		token, ok = x.Token+1, true
		return l.write(ctx, tx, row{Token: token, Holder: l.cfg.Holder, Term: l.cfg.Term.Milliseconds()})
	})
	return token, ok && err == nil, err
}

package bucket

import (
	"context"
	"crypto/rand"
	"errors"
	"fmt"
	"strings"
	"time"

	"github.com/pdskit/pdskit/storage"
)

// Config configures a store. KV and Bucket are required.
type Config struct {
	// KV holds the rows. Another store of this package over another bucket must not share it.
	KV storage.KV
	// Bucket holds the bytes.
	Bucket Bucket
	// Prefix begins the names of all objects, for example "pds/". Empty: none.
	Prefix string
	// OrphanAge is the maximum duration of an upload. Objects that no row names are deleted when
	// they are older. 0: 24 hours.
	OrphanAge time.Duration
	// KeepDeleted is how long an object stays after its blob is deleted, so that an older backup of
	// the rows can still be used. Meanwhile nobody can read the blob. 0: objects are deleted at
	// once.
	KeepDeleted time.Duration
	// SweepObjects is how many listed objects each Collect compares with the rows. 0: 100,000,
	// which take 100 requests. Negative: none.
	SweepObjects int
	// Now is the clock. Nil: time.Now.
	Now func() time.Time
}

// Defaults of Config.
const (
	defaultOrphanAge    = 24 * time.Hour
	defaultSweepObjects = 100_000
)

// Store keeps blobs. It implements [storage.Blobs], and is safe for concurrent use.
type Store struct {
	kv           storage.KV
	bucket       Bucket
	dir          string // begins the names of objects
	orphanAge    time.Duration
	keepDeleted  time.Duration
	sweepObjects int
	now          func() time.Time
}

var (
	_ storage.Blobs       = (*Store)(nil)
	_ storage.StagedBlobs = (*Store)(nil)
)

// Open opens a store. It makes no request to the bucket.
func Open(ctx context.Context, cfg Config) (*Store, error) {
	switch {
	case cfg.KV == nil:
		return nil, errors.New("bucket: Config.KV is missing")
	case cfg.Bucket == nil:
		return nil, errors.New("bucket: Config.Bucket is missing")
	case len(cfg.Prefix) > 256 || strings.ContainsFunc(cfg.Prefix, notInName):
		return nil, fmt.Errorf("bucket: Config.Prefix %.300q: at most 256 ASCII letters, digits and \"-_./\"", cfg.Prefix)
	case cfg.OrphanAge < 0 || cfg.KeepDeleted < 0:
		return nil, errors.New("bucket: a negative duration in Config")
	}
	s := &Store{
		kv: cfg.KV, bucket: cfg.Bucket, orphanAge: cfg.OrphanAge, keepDeleted: cfg.KeepDeleted,
		sweepObjects: cfg.SweepObjects, now: cfg.Now,
	}
	if s.orphanAge == 0 {
		s.orphanAge = defaultOrphanAge
	}
	if s.sweepObjects == 0 {
		s.sweepObjects = defaultSweepObjects
	}
	if s.now == nil {
		s.now = time.Now
	}
	id, err := storeID(ctx, cfg.KV)
	if err != nil {
		return nil, fail("open", err)
	}
	s.dir = cfg.Prefix + id + "/"
	return s, nil
}

func notInName(r rune) bool {
	return !(r >= 'a' && r <= 'z' || r >= 'A' && r <= 'Z' || r >= '0' && r <= '9' || strings.ContainsRune("-_./", r))
}

// storeID returns the number of the store, and makes it if there is none.
func storeID(ctx context.Context, kv storage.KV) (id string, err error) {
	get := func(r storage.KVReader) error {
		b, err := r.Get(ctx, keyID)
		if err == nil {
			id = string(b)
		}
		return err
	}
	if err := kv.Read(ctx, get); !errors.Is(err, storage.ErrNotFound) {
		return id, err
	}
	made := strings.ToLower(rand.Text()[:16])
	err = kv.Write(ctx, func(tx storage.KVTx) error {
		err := get(tx) // made by another process meanwhile
		if errors.Is(err, storage.ErrNotFound) {
			id = made
			err = tx.Set(ctx, keyID, []byte(id), time.Time{})
		}
		return err
	})
	return id, err
}

// newName returns the name of a new object, without s.dir, and its time. That is never before the
// cutoff, whatever the clock says.
func (s *Store) newName(ctx context.Context) (name string, micros int64, err error) {
	err = s.kv.Read(ctx, func(r storage.KVReader) error {
		cutoff, err := number(ctx, r, keyCutoff)
		micros = max(s.now().UnixMicro(), cutoff)
		return err
	})
	return nameAt(micros) + "-" + strings.ToLower(rand.Text()), micros, err
}

// nameAt is how the names of objects of a time begin.
func nameAt(micros int64) string { return fmt.Sprintf("%014x", micros) }

// isName reports whether an object, named without s.dir, can be one of ours.
func isName(name string) bool {
	if len(name) != 14+1+26 || name[14] != '-' {
		return false
	}
	return !strings.ContainsFunc(name[:14], func(r rune) bool { return !(r >= '0' && r <= '9' || r >= 'a' && r <= 'f') }) &&
		!strings.ContainsFunc(name[15:], func(r rune) bool { return !(r >= '2' && r <= '7' || r >= 'a' && r <= 'z') })
}

// objects are the full names of objects.
func (s *Store) objects(names []string) []string {
	full := make([]string, len(names))
	for i, n := range names {
		full[i] = s.dir + n
	}
	return full
}

// fail says what failed.
func fail(what string, err error) error { return fmt.Errorf("bucket: %s: %w", what, err) }

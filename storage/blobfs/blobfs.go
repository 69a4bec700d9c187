// Package blobfs keeps blobs as files in a directory:
//
//	tmp/                       what is being written or deleted
//	staged/HASH.CID            uploaded, not referred to yet
//	blobs/HA/HASH/CID          promoted
//	locks/NN                   of the accounts whose HASH is in group NN
//
// HASH is the SHA-256 of the DID in hexadecimal (printf %s DID | sha256sum), so
// that no DID, however long or odd, can name a path of its own; CID is made from a
// parsed digest. A file holds the blob's bytes from offset 0 and ends with a short
// trailer of size, age and MIME type, so that a blob and what is known of it
// are one file.
//
// # Crash safety
//
// Files never change. One is written under tmp, synced, and moved to its place by
// a rename, after which the directory is synced. Promoting is a rename from
// staged to blobs. Deleting an account moves its folder to tmp first. So after
// a crash every blob is in exactly the state before or after the call that was
// interrupted, and what lies under tmp is of no value; Open removes it. On systems
// that cannot sync directories, a blob may be lost if the power fails soon after
// Stage or Promote.
//
// # Quotas
//
// How many bytes an account has follows from its files: nothing else is written, so a crash
// cannot make it wrong. A store goes through the account's folder when it is first asked, and then
// counts along. A file under locks has the number of changes of its group of accounts, by which one
// process sees that another has made some, and counts again.
//
// # Sharing
//
// Several processes may use one directory: changes of a group of accounts exclude each other by a
// lock on its file. Where the system has no such locks (not on Unix), the worst that a race between
// processes does is that Promote does not find a blob, older than the age of collection, that is
// staged again at the very moment when Collect looks at it, and that an account exceeds its quota
// by what the others have staged.
//
// Blobs are spread over no further folders: modern file systems are good at large
// ones. Collect looks only at staged blobs, of which there are few.
package blobfs

import (
	"context"
	"crypto/sha256"
	"encoding/hex"
	"errors"
	"fmt"
	"io"
	"io/fs"
	"os"
	"path/filepath"
	"strings"
	"time"

	"github.com/ipfs/go-cid"
	"github.com/pdskit/pdskit/internal/dag"
	"github.com/pdskit/pdskit/internal/diskfull"
	"github.com/pdskit/pdskit/lexicon/syntax"
	"github.com/pdskit/pdskit/storage"
)

// Config has what a store can be told. The zero value works.
type Config struct {
	// Now is the clock for the age of blobs. Nil: time.Now.
	Now func() time.Time
	// TempAge is how long a file under tmp must not have been written to
	// before Open takes it for the remains of a crashed process. 0: one hour.
	TempAge time.Duration
}

// Store keeps blobs in a directory. It implements storage.Blobs.
type Store struct {
	dir string
	now func() time.Time
	// groups order changes of one account's folders. An account's group is picked by its hash.
	groups [64]group

	// For tests that make them fail.
	rename   func(from, to string) error
	syncFile func(*os.File) error
}

var (
	_ storage.Blobs       = (*Store)(nil)
	_ storage.StagedBlobs = (*Store)(nil)
)

// Open opens the store in a directory, which is created if it does not exist,
// and removes what crashed processes have left under tmp.
func Open(dir string, cfg Config) (*Store, error) {
	if dir == "" {
		return nil, errors.New("blobfs: no directory")
	}
	s := &Store{dir: dir, now: cfg.Now, rename: os.Rename, syncFile: (*os.File).Sync}
	if s.now == nil {
		s.now = time.Now
	}
	if cfg.TempAge == 0 {
		cfg.TempAge = time.Hour
	}
	for _, sub := range []string{"tmp", "staged", "blobs", "locks"} {
		if err := s.makeDir(filepath.Join(dir, sub)); err != nil {
			return nil, fail("open", err)
		}
	}
	if err := s.cleanTemp(time.Now().Add(-cfg.TempAge)); err != nil {
		return nil, fail("open", err)
	}
	return s, nil
}

// The beginnings of names under tmp.
const (
	tempUpload  = "upload-"
	tempCollect = "collect-"
	tempDeleted = "deleted-"
)

// cleanTemp removes what was deleted by halves, and files that nobody has
// written to since before.
func (s *Store) cleanTemp(before time.Time) error {
	tmp := filepath.Join(s.dir, "tmp")
	return eachName(tmp, func(name string) error {
		path := filepath.Join(tmp, name)
		if !strings.HasPrefix(name, tempDeleted) {
			switch info, err := os.Stat(path); {
			case errors.Is(err, fs.ErrNotExist):
				return nil
			case err != nil:
				return err
			case !info.ModTime().Before(before):
				return nil
			}
		}
		return os.RemoveAll(path)
	})
}

// account is where the blobs of one account are.
type account struct {
	hash   string
	dir    string // of promoted blobs
	staged string // start of the paths of staged blobs
}

func (s *Store) account(did syntax.DID) account {
	h := sha256.Sum256([]byte(did))
	name := hex.EncodeToString(h[:])
	return account{
		hash:   name,
		dir:    filepath.Join(s.dir, "blobs", name[:2], name),
		staged: filepath.Join(s.dir, "staged", name+"."),
	}
}

// paths returns where a blob is when it is promoted, and when it is staged. It
// reports false for CIDs that no blob can have.
func (a account) paths(c cid.Cid) (promoted, staged string, ok bool) {
	name, ok := fileName(c)
	return filepath.Join(a.dir, name), a.staged + name, ok
}

// fileName returns the name of a blob's file. Only CIDs that blobs can have
// have one.
func fileName(c cid.Cid) (string, bool) {
	codec, digest, ok := dag.Split(c)
	return dag.CID(dag.Raw, &digest).String(), ok && codec == dag.Raw
}

// parseName is the reverse of fileName. It reports false for other files, such as
// those that some file systems keep for deleted files that are still open.
func parseName(name string) (digest dag.Digest, ok bool) {
	c, err := cid.Decode(name)
	if err != nil {
		return digest, false
	}
	canonical, ok := fileName(c)
	_, digest, _ = dag.Split(c)
	return digest, ok && canonical == name
}

// fail says what failed, and gives an error of the system the meaning that the contract has for it.
func fail(what string, err error) error {
	if diskfull.Is(err) && !errors.Is(err, storage.ErrFull) {
		err = fmt.Errorf("%w: %w", storage.ErrFull, err)
	}
	return fmt.Errorf("blobfs: %s: %w", what, err)
}

func notFound(c cid.Cid) error {
	return fmt.Errorf("%w: blob %s", storage.ErrNotFound, c)
}

// open opens a blob, wherever it is. Since Promote may move it at any time, it looks
// for promoted blobs once more at the end.
func (s *Store) open(ctx context.Context, did syntax.DID, c cid.Cid) (f *os.File, info storage.BlobInfo, promoted bool, err error) {
	if err := ctx.Err(); err != nil {
		return nil, info, false, err
	}
	blob, staged, ok := s.account(did).paths(c)
	if !ok {
		return nil, info, false, notFound(c)
	}
	for _, path := range []string{blob, staged, blob} {
		f, info, err = openFile(path, c)
		if !errors.Is(err, fs.ErrNotExist) {
			return f, info, path == blob, err
		}
	}
	return nil, info, false, notFound(c)
}

// Stat implements storage.Blobs.
func (s *Store) Stat(ctx context.Context, did syntax.DID, c cid.Cid) (storage.BlobInfo, bool, error) {
	f, info, promoted, err := s.open(ctx, did, c)
	if err != nil {
		return storage.BlobInfo{}, false, err
	}
	return info, promoted, f.Close()
}

// Open implements storage.Blobs. Where the system can delete open files (not on
// Windows), the blob stays readable until it is closed.
func (s *Store) Open(ctx context.Context, did syntax.DID, c cid.Cid) (io.ReadSeekCloser, storage.BlobInfo, error) {
	f, info, _, err := s.open(ctx, did, c)
	if err != nil {
		return nil, storage.BlobInfo{}, err
	}
	return &blobReader{io.NewSectionReader(f, 0, info.Size), f}, info, nil
}

// blobReader reads a file without its trailer.
type blobReader struct {
	*io.SectionReader
	f *os.File
}

func (r *blobReader) Close() error { return r.f.Close() }

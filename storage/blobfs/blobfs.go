// Package blobfs keeps blobs as files in a directory:
//
//	tmp/                       files that are being written or deleted
//	staged/HASH.CID            uploaded, not referred to yet
//	blobs/HA/HASH/CID          promoted
//	locks/NN                   of the accounts whose HASH is in group NN
//
// HASH is the SHA-256 of the DID in hexadecimal (printf %s DID | sha256sum), so no DID can choose a
// path. CID is made from a parsed digest. A file has the blob's bytes from offset 0 and ends with a
// short trailer of size, age and MIME type. So a blob and its metadata are one file.
//
// # Crash safety
//
// Files never change. A file is written under tmp, synced, and renamed to its place; then the
// directory is synced. Promoting is a rename from staged to blobs. Deleting an account first moves
// its folder to tmp. So after a crash every blob is in exactly the state before or after the
// interrupted call. Files under tmp are useless; Open removes them. A call that finds its work done
// also syncs the directory, unless it knows that this was done: the process that did the work may
// have died before. On systems that cannot sync
// directories, a blob may be lost if the power fails soon after Stage or Promote.
//
// # Quotas
//
// The usage of an account is computed from its files and not stored, so a crash cannot make it
// wrong. A store reads the account's folder when it first needs the usage, and then keeps count. A
// file under locks has the number of changes of its group of accounts. If another process has
// changed it, the store counts again.
//
// # Sharing
//
// Several processes may use one directory: a lock on the file of a group of accounts serializes
// changes. Systems without such locks (not Unix) have two possible races between processes. Promote
// may not find an old blob that is staged again at the very moment when Collect examines it. And an
// account may exceed its quota by what other processes have staged.
//
// The folder of an account has no subfolders, since modern file systems handle large folders well.
// Collect examines only staged blobs, of which there are few.
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
	"github.com/pdskit/pdskit/internal/durablefile"
	"github.com/pdskit/pdskit/lexicon/syntax"
	"github.com/pdskit/pdskit/storage"
)

// Config configures a store. The zero value works.
type Config struct {
	// Now is the clock for the age of blobs. Nil: time.Now.
	Now func() time.Time
	// TempAge is how old a file under tmp must be before Open treats it as left by a crashed
	// process. 0: one hour.
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

// Open opens the store in a directory, which is created if necessary, and removes files that
// crashed processes have left under tmp.
func Open(dir string, cfg Config) (*Store, error) {
	if dir == "" {
		return nil, errors.New("blobfs: no directory")
	}
	s := &Store{dir: dir, now: cfg.Now, rename: os.Rename, syncFile: durablefile.SyncFile}
	if s.now == nil {
		s.now = time.Now
	}
	if cfg.TempAge == 0 {
		cfg.TempAge = time.Hour
	}
	if err := s.makeDirs(); err != nil {
		return nil, fail("open", err)
	}
	if err := s.cleanTemp(time.Now().Add(-cfg.TempAge)); err != nil {
		return nil, fail("open", err)
	}
	return s, nil
}

// makeDirs makes the store's directories, to last: also those that a process made which died before
// it had flushed them.
func (s *Store) makeDirs() error {
	if err := durablefile.MkdirAll(s.dir); err != nil {
		return err
	}
	for _, sub := range []string{"tmp", "staged", "blobs", "locks"} {
		if err := os.Mkdir(filepath.Join(s.dir, sub), 0o700); err != nil && !errors.Is(err, fs.ErrExist) {
			return err
		}
	}
	return s.syncDir(s.dir)
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

// Open implements storage.Blobs. If the system can delete open files (not on Windows), a deleted
// blob stays readable until it is closed.
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

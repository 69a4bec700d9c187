package blobfs

import (
	"context"
	"encoding/binary"
	"errors"
	"fmt"
	"io"
	"io/fs"
	"os"
	"path/filepath"
	"strings"
	"sync"

	"github.com/ipfs/go-cid"
	"github.com/pdskit/pdskit/internal/filelock"
	"github.com/pdskit/pdskit/lexicon/syntax"
	"github.com/pdskit/pdskit/storage"
)

// A group is the accounts that share a lock, and what is known of them.
type group struct {
	mu sync.Mutex
	// changes is the number of changes, of all processes, up to which the maps are right.
	changes uint64
	// used is how many bytes the blobs of some accounts have, by the accounts' hashes.
	used map[string]int64
	// synced are accounts whose promoted blobs last: their folder was synced after its last change,
	// and so were those above it.
	synced map[string]bool
}

// maxKnown bounds how many accounts of a group are remembered.
const maxKnown = 4096

// held is a group while its lock is held.
type held struct {
	*group
	file *os.File // nil: it could not be locked against other processes
}

func groupOf(hash string) int { return int(hash[0]^hash[1]<<3) % 64 }

// lock begins a change of an account, or a look at all its blobs: it waits for others of its group.
func (s *Store) lock(hash string) (*held, error) {
	g := &s.groups[groupOf(hash)]
	g.mu.Lock()
	h := &held{group: g}
	if err := h.begin(filepath.Join(s.dir, "locks", fmt.Sprintf("%02d", groupOf(hash)))); err != nil {
		h.unlock()
		return nil, err
	}
	return h, nil
}

// lockToDelete is lock, but cannot fail: on a full disk, blobs can be deleted all the same. The
// other processes may then take what was deleted for still there, for a while.
func (s *Store) lockToDelete(hash string) *held {
	h, err := s.lock(hash)
	if err != nil {
		h = &held{group: &s.groups[groupOf(hash)]}
		h.mu.Lock()
	}
	delete(h.used, hash)
	delete(h.synced, hash)
	return h
}

func (h *held) unlock() {
	if h.file != nil {
		h.file.Close()
	}
	h.mu.Unlock()
}

// begin locks the file and counts a change in it. If other processes have made changes, nothing
// that is known is right any longer. The file is not synced: what it is for ends with the
// processes.
func (h *held) begin(path string) (err error) {
	if h.file, err = filelock.Wait(path, filelock.Exclusive); err != nil {
		return err
	}
	var b [8]byte
	if _, err := h.file.ReadAt(b[:], 0); err != nil && err != io.EOF {
		return err
	}
	n := binary.BigEndian.Uint64(b[:])
	if n != h.changes || h.used == nil || max(len(h.used), len(h.synced)) > maxKnown {
		h.used, h.synced = make(map[string]int64), make(map[string]bool)
	}
	binary.BigEndian.PutUint64(b[:], n+1)
	if _, err := h.file.WriteAt(b[:], 0); err != nil {
		return err
	}
	h.changes = n + 1
	return nil
}

// usage returns how many bytes an account's blobs have.
func (h *held) usage(ctx context.Context, a account) (int64, error) {
	if n, ok := h.used[a.hash]; ok {
		return n, nil
	}
	n := int64(0)
	count := func(path string) error {
		if err := ctx.Err(); err != nil {
			return err
		}
		f, info, err := openFile(path, cid.Undef)
		switch {
		case errors.Is(err, fs.ErrNotExist):
			return nil
		case errors.Is(err, storage.ErrCorrupt): // it takes room all the same
			st, err := os.Stat(path)
			if err != nil {
				return err
			}
			n += st.Size()
			return nil
		case err != nil:
			return err
		}
		n += info.Size
		return f.Close()
	}
	err := eachName(a.dir, func(name string) error {
		if _, ok := parseName(name); !ok {
			return nil
		}
		return count(filepath.Join(a.dir, name))
	})
	if err == nil {
		staged := filepath.Dir(a.staged)
		err = eachName(staged, func(name string) error {
			if blob, ok := strings.CutPrefix(name, a.hash+"."); !ok {
				return nil
			} else if _, ok := parseName(blob); !ok {
				return nil
			}
			return count(filepath.Join(staged, name))
		})
	}
	if err != nil {
		return 0, err
	}
	h.used[a.hash] = n
	return n, nil
}

// Usage implements storage.Blobs.
func (s *Store) Usage(ctx context.Context, did syntax.DID) (int64, error) {
	if err := ctx.Err(); err != nil {
		return 0, err
	}
	a := s.account(did)
	h, err := s.lock(a.hash)
	if err != nil {
		return 0, fail("count the blobs of "+string(did), err)
	}
	defer h.unlock()
	n, err := h.usage(ctx, a)
	if err != nil {
		return 0, fail("count the blobs of "+string(did), err)
	}
	return n, nil
}

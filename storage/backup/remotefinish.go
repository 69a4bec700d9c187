package backup

import (
	"context"
	"crypto/sha256"
	"errors"
	"fmt"
	"hash"
	"io"
	"os"
	"path/filepath"
	"slices"
	"strings"
	"time"

	"github.com/pdskit/pdskit/internal/filelock"
)

// counter counts and digests what is read.
type counter struct {
	in io.Reader
	h  hash.Hash
	n  int64
}

func (c *counter) Read(p []byte) (int, error) {
	n, err := c.in.Read(p)
	c.h.Write(p[:n])
	c.n += int64(n)
	return n, err
}

func (c *counter) sum() [sha256.Size]byte { return [sha256.Size]byte(c.h.Sum(nil)) }

// tempIn makes a folder for temporary files, which has a lock as long as it is used.
func tempIn(dir string) (temp string, used *os.File, err error) { return lockedTemp(dir, "backup-") }

func lockedTemp(dir, begins string) (temp string, used *os.File, err error) {
	if dir == "" {
		dir = "."
	}
	if err := removeStale(dir, begins, lockName); err != nil {
		return "", nil, err
	}
	if temp, err = os.MkdirTemp(dir, begins+"*"); err != nil {
		return "", nil, err
	}
	if used, err = filelock.Try(filepath.Join(temp, lockName), filelock.Exclusive); err != nil {
		return "", nil, errors.Join(err, os.RemoveAll(temp))
	}
	return temp, used, nil
}

// finish stores the database, the list of blobs, and, when all that belongs to the generation is
// there, its manifest.
func (w *remoteWriter) finish(m *Manifest, list []string) error {
	w.running.Wait()
	if w.failed != nil {
		return w.failed
	}
	database, err := os.Open(filepath.Join(w.temp, w.database))
	if err != nil {
		return err
	}
	defer database.Close()
	if _, err := w.store(w.ctx, w.generation+w.database, database, m.Files[w.database].Size, nil); err != nil {
		return err
	}
	if err := w.putList(m, list); err != nil {
		return err
	}
	if err := w.checkComplete(m, list); err != nil {
		return err
	}
	m.Folder, m.Encrypted = w.blobsIn, w.encryption != nil
	manifest, err := m.encode()
	if err != nil {
		return err
	}
	if err := w.lock.held(w.ctx); err != nil {
		return err
	}
	if err := w.putText(w.ctx, w.generation+manifestName, manifest); err != nil {
		return fmt.Errorf("to store the manifest: %w", err)
	}
	w.noted = nil
	return nil
}

// putList stores the list of the generation's blobs.
func (w *remoteWriter) putList(m *Manifest, list []string) error {
	slices.Sort(list)
	f, err := os.Create(filepath.Join(w.temp, listName))
	if err != nil {
		return err
	}
	defer f.Close()
	h := sha256.New()
	var line []byte
	size := int64(0)
	for _, name := range list {
		l := remoteLine{}
		if l.name, l.bad = strings.CutPrefix(name, badMark); !l.bad {
			l.remoteBlob = w.uploaded[keyOf(name)]
		}
		line = l.append(line[:0])
		size += int64(len(line))
		h.Write(line)
		if _, err := f.Write(line); err != nil {
			return err
		}
	}
	m.Files[listName] = File{size, fmt.Sprintf("%x", h.Sum(nil))}
	m.Bytes += size
	plain := &remoteWriter{remote: w.remote, fast: w.fast} // the next backup reads it, which cannot decrypt
	_, err = plain.store(w.ctx, w.generation+listName, f, size, nil)
	return err
}

// checkComplete looks once more whether all that belongs to the generation is there.
func (w *remoteWriter) checkComplete(m *Manifest, list []string) error {
	there := make(map[nameKey]int64)
	err := w.list(w.ctx, w.blobsIn, maxObjects, func() { clear(there) }, func(name string, size int64) {
		there[keyOf(strings.TrimPrefix(name, w.blobsIn))] = size
	})
	if err != nil {
		return err
	}
	for _, name := range list {
		if strings.HasPrefix(name, badMark) {
			continue
		}
		key := keyOf(name)
		if size, ok := there[key]; !ok || size != w.uploaded[key].size {
			return fmt.Errorf("%w: %s%s: it had %d bytes when it was stored, now %d", ErrGone, w.blobsIn, name, w.uploaded[key].size, size)
		}
	}
	files, err := w.sizes(w.ctx, w.generation)
	if err != nil {
		return err
	}
	for name, f := range m.Files {
		if size, ok := files[w.generation+name]; !ok || size < f.Size {
			return fmt.Errorf("%w: %s%s has %d bytes, not %d", ErrGone, w.generation, name, size, f.Size)
		}
	}
	return nil
}

// close waits for uploads, and lets others in. Of a backup that failed it notes which blobs are
// there.
func (w *remoteWriter) close(ctx context.Context) error {
	w.running.Wait()
	if len(w.noted) > 0 {
		ctx, cancel := context.WithTimeout(context.WithoutCancel(ctx), 10*time.Second)
		defer cancel()
		_ = w.note(ctx, w.noted)
	}
	var errs []error
	if w.temp != "" {
		errs = append(errs, os.RemoveAll(w.temp), w.tempLock.Close())
	}
	return errors.Join(append(errs, w.lock.release())...)
}

// retain removes the lists of unfinished backups, the generations that are not to be kept, and then
// the blobs that no other refers to. It knows the generations that there were when the backup began:
// so nothing is removed because a listing lacks something now.
func (w *remoteWriter) retain(ctx context.Context, keep Keep) error {
	after, _, err := w.remote.complete(ctx)
	if err != nil {
		return err
	}
	all, complete := slices.Clone(w.older), false
	for _, g := range after {
		if g.name == w.generation && g.m != nil {
			all, complete = slices.Insert(all, 0, g), true
		} else if !slices.ContainsFunc(w.older, func(o remoteGeneration) bool { return o.name == g.name }) {
			return fmt.Errorf("%w: it has stored %s", ErrBusy, g.name)
		}
	}
	unfinished, err := w.sizes(ctx, remoteUnfinished)
	if err != nil {
		return err
	}
	for name := range unfinished {
		if err := w.delete(ctx, name); err != nil {
			return err
		}
	}
	var good []remoteGeneration
	var times []time.Time
	for _, g := range all {
		if g.m == nil { // left for somebody to look at
			complete = false
			continue
		}
		good, times = append(good, g), append(times, g.m.Created)
	}
	if len(good) == 0 || good[0].name != w.generation {
		return fmt.Errorf("%w: the generation that was just stored", ErrGone)
	}
	used := make(map[nameKey]bool)
	for i, kept := range keep.choose(times) {
		if err := w.lock.held(ctx); err != nil {
			return err
		}
		if !kept {
			if err := w.remove(ctx, good[i]); err != nil {
				return err
			}
			continue
		}
		folder := good[i].m.Folder
		err := w.eachBlob(ctx, good[i], func(l remoteLine) error {
			used[keyOf(folder+l.name)] = true
			return nil
		})
		switch {
		case errors.Is(err, ErrBadBackup), errors.Is(err, ErrGone):
			complete = false
		case err != nil:
			return err
		}
	}
	if !complete { // some generation may refer to any of them
		return nil
	}
	return w.prune(ctx, used)
}

// remove removes a generation, its manifest first, so that none is there by halves.
func (w *remoteWriter) remove(ctx context.Context, g remoteGeneration) error {
	if err := w.delete(ctx, g.name+manifestName); err != nil {
		return err
	}
	var rest []string
	for name := range g.objects {
		rest = append(rest, g.name+name)
	}
	return w.delete(ctx, rest...)
}

// prune deletes the blobs that no generation uses.
func (w *remoteWriter) prune(ctx context.Context, used map[nameKey]bool) error {
	var gone []string
	err := w.list(ctx, remoteBlobs, maxObjects, func() { gone = nil }, func(name string, _ int64) {
		if !used[keyOf(name)] {
			gone = append(gone, name)
		}
	})
	for page := range slices.Chunk(gone, 1000) {
		if err = errors.Join(err, w.lock.held(ctx)); err != nil {
			return err
		}
		err = w.delete(ctx, page...)
	}
	return err
}

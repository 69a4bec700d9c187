package backup

import (
	"context"
	"errors"
	"fmt"
	"io"
	"maps"
	"os"
	"path"
	"path/filepath"
	"slices"
	"strings"

	"github.com/pdskit/pdskit/storage/blobfs"
)

// FromRemote restores the newest or the named generation of an object store into an empty data
// directory. If it fails, the directory is unchanged. It only reads and lists objects.
func (r Restore) FromRemote(ctx context.Context, from Remote, dest string) (*Manifest, error) {
	store, err := from.open()
	if err != nil {
		return nil, err
	}
	return r.restore(ctx, dest, func(to string, write writeFunc) error {
		return r.readRemote(ctx, store, from.Generation, to, write)
	})
}

// choose finds the generation to restore.
func (r remote) choose(ctx context.Context, name string) (g remoteGeneration, err error) {
	list, _, err := r.complete(ctx)
	if err != nil {
		return g, err
	}
	if name != "" {
		i := slices.IndexFunc(list, func(g remoteGeneration) bool { return g.name == remoteGenerations+name+"/" })
		if i < 0 || list[i].m == nil {
			return g, fmt.Errorf("%w: there is no generation %.100q with a manifest", ErrBadBackup, name)
		}
		return list[i], nil
	}
	if len(list) == 0 {
		return g, fmt.Errorf("%w: there is none in the store below %q", ErrBadBackup, r.prefix)
	}
	if last := list[len(list)-1]; last.m == nil { // it may be the newest
		return g, fmt.Errorf("%w: the manifest of %s cannot be read; to restore another generation, name it", ErrBadBackup, last.name)
	}
	return list[0], nil
}

// readRemote reads the files of a generation, and its blobs, some at a time.
func (r Restore) readRemote(ctx context.Context, store remote, name, to string, write writeFunc) (err error) {
	n := r.Layout.names()
	var g remoteGeneration
	err = try(ctx, func() (err error) { // a backup may remove generations meanwhile
		g, err = store.choose(ctx, name)
		return err
	})
	if err != nil {
		return badIfGone(err)
	}
	defer func() {
		if errors.Is(err, ErrGone) || errors.Is(err, ErrBadBackup) { // a backup may have removed the generation meanwhile
			if now, listErr := store.sizes(ctx, g.name); listErr == nil && len(now) == 0 {
				err = fmt.Errorf("%w: %w", ErrBusy, err)
			}
		}
	}()
	for _, name := range append(slices.Sorted(maps.Keys(g.m.Files)), manifestName) {
		if !n.belongs(name) || strings.Contains(name, "/") {
			return fmt.Errorf("%w: the manifest names %.200q", ErrBadBackup, name)
		}
		size, ok := g.objects[name]
		if !ok {
			return fmt.Errorf("%w: it has lost %s", ErrBadBackup, name)
		}
		encrypted := g.m.Encrypted && name != manifestName && name != listName
		want, most := g.m.Files[name].Size, size
		if name != manifestName {
			if most = want; !encrypted && size != want || size < want {
				return fmt.Errorf("%w: %s has %d bytes, not %d", ErrBadBackup, name, size, want)
			}
		}
		err := r.readObject(ctx, store, g.name+name, size, encrypted, func(in io.Reader) error {
			return write(name, &atMost{in: in, left: most, name: name})
		})
		if err != nil {
			return badIfGone(err)
		}
	}
	there := make(map[nameKey]int64)
	err = store.list(ctx, g.m.Folder, maxObjects, func() { clear(there) }, func(name string, size int64) { there[keyOf(name)] = size })
	if err != nil {
		return err
	}
	work := newWork(ctx, uploads)
	err = store.eachBlob(work.ctx, g, func(l remoteLine) error {
		if l.bad {
			return nil
		}
		size, ok := there[keyOf(g.m.Folder+l.name)]
		if !ok && r.Incomplete {
			return nil
		} else if !ok {
			return fmt.Errorf("%w: it has lost the blob %s%s", ErrBadBackup, g.m.Folder, l.name)
		}
		return work.do(func() error {
			err := r.readBlob(work.ctx, store, g.m, l.name, size, to, write)
			if r.Incomplete && (errors.Is(err, ErrGone) || errors.Is(err, ErrBadBackup)) {
				return os.RemoveAll(filepath.Join(to, n.blobs, filepath.FromSlash(l.name)))
			}
			return badIfGone(err)
		})
	})
	return work.wait(err)
}

// atMost fails when more is read than there should be, before a disk is full of it.
type atMost struct {
	in   io.Reader
	left int64
	name string
}

func (a *atMost) Read(p []byte) (int, error) {
	n, err := a.in.Read(p)
	if a.left -= int64(n); a.left < 0 {
		return 0, fmt.Errorf("%w: %s is longer than it was", ErrBadBackup, a.name)
	}
	return n, err
}

func badIfGone(err error) error {
	if errors.Is(err, ErrGone) && !errors.Is(err, ErrBadBackup) {
		return fmt.Errorf("%w: %w", ErrBadBackup, err)
	}
	return err
}

// readBlob reads a blob, whose name says which bytes it must have.
func (r Restore) readBlob(ctx context.Context, store remote, m *Manifest, name string, size int64, to string, write writeFunc) error {
	file := path.Join(r.Layout.names().blobs, name)
	err := r.readObject(ctx, store, m.Folder+name, size, m.Encrypted, func(in io.Reader) error { return write(file, in) })
	if err != nil {
		return err
	}
	c, _ := blobfs.FileCID(name)
	if _, err := blobfs.CheckFile(ctx, filepath.Join(to, filepath.FromSlash(file)), c); err != nil {
		return fmt.Errorf("%w: blob %s: %w", ErrBadBackup, name, err)
	}
	return nil
}

// readObject calls fn with what an object says, and reads it to its end.
func (r Restore) readObject(ctx context.Context, store remote, name string, size int64, encrypted bool, fn func(io.Reader) error) error {
	object := store.reader(ctx, name, size)
	defer object.Close()
	var in io.Reader = object
	if encrypted {
		if r.Decrypt == nil {
			return fmt.Errorf("%w: it is encrypted", ErrBadBackup)
		}
		plain, err := r.Decrypt(object)
		if err != nil {
			return err
		}
		in = decrypted{plain}
	}
	if err := fn(in); err != nil {
		return err
	}
	_, err := io.Copy(io.Discard, in)
	return err
}

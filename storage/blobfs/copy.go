package blobfs

import (
	"context"
	"errors"
	"fmt"
	"io"
	"io/fs"
	"os"
	"path/filepath"

	"github.com/pdskit/pdskit/internal/durablefile"
	"github.com/pdskit/pdskit/storage"
)

// Copied is the result of [Copy].
type Copied struct {
	Files   int   `json:"files"`   // all that the target has now
	Written int   `json:"written"` // of these, copied this time
	Bytes   int64 `json:"bytes"`   // of the copied ones
	Removed int   `json:"removed"` // files of the target that the source does not have any longer
	// Damaged are files of the source that do not match their names. They are copied unchanged, so
	// that nothing is lost.
	Damaged []string `json:"damaged,omitempty"`
}

// Copy makes the folder to equal to the folder from, which it does not change. It is for moving
// blobs to another disk. Every file is read on both sides, and durably written if the copy is
// missing or damaged. Copy can be interrupted at any moment; the next call continues. If others use
// the source meanwhile, run it again after they have stopped. Nobody may use the target. If the
// source has no blobs and the target has some, that is an error, since the source's disk may not be
// mounted.
//
// progress, if not nil, is called with the number of files processed.
func Copy(ctx context.Context, from, to string, progress func(files int)) (*Copied, error) {
	if err := Separate(from, to); err != nil {
		return nil, err
	}
	if _, err := os.Stat(filepath.Join(from, "blobs")); err != nil {
		return nil, fail("copy", err)
	}
	s, err := Open(to, Config{})
	if err != nil {
		return nil, err
	}
	c := &copier{Store: s, from: from, touched: make(map[string]bool), progress: progress}
	// What is promoted meanwhile is met in one of the folders.
	for _, part := range []string{"staged", "blobs"} {
		if err := eachFile(ctx, from, part, c.copy); err != nil {
			return nil, fail("copy", err)
		}
	}
	for dir := range c.touched {
		if err := s.syncDir(dir); err != nil {
			return nil, fail("copy", err)
		}
	}
	for _, part := range []string{"staged", "blobs"} {
		if c.Files == 0 { // nothing is removed
			if err := eachFile(ctx, to, part, c.unexpected); err != nil {
				return nil, err
			}
			continue
		}
		if err := eachFile(ctx, to, part, c.remove); err != nil {
			return nil, fail("copy", err)
		}
	}
	return &c.Copied, nil
}

// Separate returns an error if two folders are the same, or one contains the other.
func Separate(a, b string) error {
	if a, b = resolved(a), resolved(b); a == b || isBelow(a, b) || isBelow(b, a) {
		return fmt.Errorf("blobfs: %s and %s are one folder, or one is in the other", a, b)
	}
	return nil
}

func resolved(path string) string {
	if abs, err := filepath.Abs(path); err == nil {
		path = abs
	}
	if real, err := filepath.EvalSymlinks(path); err == nil {
		path = real
	}
	return path
}

func isBelow(path, folder string) bool {
	rel, err := filepath.Rel(folder, path)
	return err == nil && filepath.IsLocal(rel)
}

// eachFile calls fn with the names of the files of blobs below a folder, as FileName has them.
func eachFile(ctx context.Context, folder, part string, fn func(ctx context.Context, name string) error) error {
	return filepath.WalkDir(filepath.Join(folder, part), func(file string, e fs.DirEntry, err error) error {
		switch {
		case errors.Is(err, fs.ErrNotExist): // deleted meanwhile
			return nil
		case err != nil:
			return err
		case ctx.Err() != nil:
			return ctx.Err()
		case e.IsDir():
			return nil
		}
		name, err := filepath.Rel(folder, file)
		if err != nil {
			return err
		}
		if _, ok := FileCID(filepath.ToSlash(name)); !ok { // what systems leave in folders
			return nil
		}
		return fn(ctx, name)
	})
}

type copier struct {
	*Store
	Copied
	from     string
	touched  map[string]bool // folders of the target with files of the source
	progress func(int)
}

// copy makes sure that the target has a file of the source.
func (c *copier) copy(ctx context.Context, name string) error {
	blob, _ := FileCID(filepath.ToSlash(name))
	from, to := filepath.Join(c.from, name), filepath.Join(c.dir, name)
	info, err := CheckFile(ctx, from, blob)
	damaged := errors.Is(err, storage.ErrCorrupt)
	switch {
	case errors.Is(err, fs.ErrNotExist):
		return nil
	case damaged:
		c.Damaged = append(c.Damaged, filepath.ToSlash(name))
	case err != nil:
		return err
	}
	if there, err := CheckFile(ctx, to, blob); err != nil || there != info {
		if ctx.Err() != nil {
			return ctx.Err()
		}
		if err := c.write(from, to); errors.Is(err, fs.ErrNotExist) && !exists(from) {
			return nil
		} else if err != nil {
			return err
		}
		if _, err := CheckFile(ctx, to, blob); err != nil && !damaged {
			return fmt.Errorf("%s was written, and is not good: is the disk? %w", to, err)
		}
	}
	// Also if it was there: a copy that was killed may have left it, with nothing synced.
	for dir := filepath.Dir(to); dir != c.dir; dir = filepath.Dir(dir) {
		c.touched[dir] = true
	}
	if c.Files++; c.progress != nil {
		c.progress(c.Files)
	}
	return nil
}

// write copies a file. Under its name there is never half of it.
func (c *copier) write(from, to string) error {
	in, err := os.Open(from)
	if err != nil {
		return err
	}
	defer in.Close()
	if err := c.makeDir(filepath.Dir(to)); err != nil {
		return err
	}
	out, err := os.CreateTemp(filepath.Join(c.dir, "tmp"), tempUpload+"*")
	if err != nil {
		return err
	}
	defer os.Remove(out.Name()) // fails after the rename
	n, err := io.Copy(out, in)
	if err = errors.Join(err, c.syncFile(out), out.Close()); err != nil {
		return err
	}
	c.Written, c.Bytes = c.Written+1, c.Bytes+n
	return c.rename(out.Name(), to)
}

// unexpected is called with a file of the target, where the source has none at all.
func (c *copier) unexpected(context.Context, string) error {
	return fmt.Errorf("blobfs: %s has no blobs, but %s has some from an earlier copy: is its disk mounted?", c.from, c.dir)
}

// remove removes a file of the target that the source does not have.
func (c *copier) remove(_ context.Context, name string) error {
	if _, err := os.Lstat(filepath.Join(c.from, name)); !errors.Is(err, fs.ErrNotExist) {
		return err
	}
	c.Removed++
	return durablefile.Remove(filepath.Join(c.dir, name))
}

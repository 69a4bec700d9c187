// Package powerloss simulates the possible states of a directory after a power failure, for tests.
//
// A system guarantees only what was flushed: the bytes of a file up to its last sync, and the names
// in a directory up to that directory's last sync. Later changes may be there, or not, or partly,
// and in any order. A [Disk] records what was flushed. [Disk.Crash] writes one of the many possible
// states between the flushed one and the present one:
//
//   - each name in a directory that has changed since is the old one or the new one, but a renamed
//     file has at least one of its names;
//   - in a file that has changed since, each sector of 512 bytes is the old one or the new one, in
//     one of several patterns: all lost, all there, a beginning, some here and there;
//   - a file that has grown may have its new size with zeros instead of the written bytes.
//
// It does not simulate two things: intermediate states of sectors that were written twice since the
// last sync, and disks that report a sync without doing it.
package powerloss

import (
	"errors"
	"io"
	"io/fs"
	"maps"
	"math/rand/v2"
	"os"
	"path/filepath"
	"slices"
	"strings"
	"sync"
)

const sector = 512

// Disk is a directory and what of it was flushed. It is safe for concurrent use.
type Disk struct {
	root string
	mu   sync.Mutex
	all  []*inode
	top  *inode
}

// inode is a file or a directory, whatever its names.
type inode struct {
	open    *os.File // so that the system gives its number to no other
	info    os.FileInfo
	content []byte            // of a file, as it was flushed
	names   map[string]*inode // of a directory, as they were flushed
}

// New begins with a directory whose present state counts as flushed. Close the disk after use.
func New(root string) (*Disk, error) {
	d := &Disk{root: filepath.Clean(root)}
	err := filepath.WalkDir(d.root, func(path string, _ fs.DirEntry, err error) error {
		if err != nil {
			return err
		}
		return d.Synced(path)
	})
	if err == nil {
		d.top, err = d.at(d.root)
	}
	return d, err
}

// Close forgets everything.
func (d *Disk) Close() error {
	var err error
	for _, i := range d.all {
		err = errors.Join(err, i.open.Close())
	}
	d.all = nil
	return err
}

// at finds the file or directory that has a name now.
func (d *Disk) at(path string) (*inode, error) {
	info, err := os.Lstat(path)
	if err != nil {
		return nil, err
	}
	for _, i := range d.all {
		if os.SameFile(i.info, info) {
			return i, nil
		}
	}
	f, err := os.Open(path)
	if err != nil {
		return nil, err
	}
	i := &inode{open: f, info: info}
	d.all = append(d.all, i)
	return i, nil
}

// Synced says that a file or directory was flushed: what it is now lasts. A path that is not below
// the root, or that is gone, has no effect.
func (d *Disk) Synced(path string) error {
	d.mu.Lock()
	defer d.mu.Unlock()
	if rel, err := filepath.Rel(d.root, path); err != nil || rel == ".." || strings.HasPrefix(rel, ".."+string(filepath.Separator)) {
		return nil
	}
	i, err := d.at(path)
	if errors.Is(err, fs.ErrNotExist) {
		return nil
	} else if err != nil {
		return err
	}
	if i.info.IsDir() {
		i.names, err = d.entries(path)
	} else {
		i.content, err = i.read()
	}
	return err
}

// entries returns what a directory has now.
func (d *Disk) entries(path string) (map[string]*inode, error) {
	names := map[string]*inode{}
	list, err := os.ReadDir(path)
	if errors.Is(err, fs.ErrNotExist) {
		return names, nil
	} else if err != nil {
		return nil, err
	}
	for _, e := range list {
		i, err := d.at(filepath.Join(path, e.Name()))
		if errors.Is(err, fs.ErrNotExist) {
			continue // removed meanwhile
		} else if err != nil {
			return nil, err
		}
		names[e.Name()] = i
	}
	return names, nil
}

// read returns the present content of a file.
func (i *inode) read() ([]byte, error) {
	return io.ReadAll(io.NewSectionReader(i.open, 0, 1<<40))
}

// Crash writes a state that may be there after a power failure at this moment to an empty
// directory.
func (d *Disk) Crash(to string, random *rand.Rand) error {
	d.mu.Lock()
	defer d.mu.Unlock()
	c := &crash{Disk: d, random: random, placed: map[*inode]bool{}}
	// How likely it is that something newer than the last flush is there.
	c.chance = []float64{0, 0.1, 0.5, 0.9, 1}[random.IntN(5)]
	top := &entry{is: d.top}
	if err := c.choose(top, d.root); err != nil {
		return err
	}
	// A rename is one change: a file that had a name and has one now has not lost both.
	err := filepath.WalkDir(d.root, func(path string, _ fs.DirEntry, err error) error {
		if err != nil && !errors.Is(err, fs.ErrNotExist) {
			return err
		}
		i, err := d.at(path)
		if errors.Is(err, fs.ErrNotExist) || i == nil || c.placed[i] {
			return nil
		}
		for _, l := range c.left {
			if l.is == i {
				l.under.names[l.name] = &entry{is: i}
			}
		}
		return err
	})
	if err != nil {
		return err
	}
	return c.write(top, to)
}

// crash is one state that is being made.
type crash struct {
	*Disk
	random *rand.Rand
	chance float64
	placed map[*inode]bool
	left   []leftOut
}

// entry is a name in the state.
type entry struct {
	is    *inode
	names map[string]*entry // of a directory
}

// leftOut is a file whose flushed name is not in the state.
type leftOut struct {
	is    *inode
	under *entry
	name  string
}

// choose decides which names are in a directory, which is at a path now, if it is there still.
func (c *crash) choose(e *entry, path string) error {
	old, now := e.is.names, e.is.names
	if here, err := c.at(path); err == nil && here == e.is {
		if now, err = c.entries(path); err != nil {
			return err
		}
	}
	names := slices.Collect(maps.Keys(old))
	for name := range now {
		if old[name] == nil {
			names = append(names, name)
		}
	}
	slices.Sort(names) // so that a seed gives the same state
	e.names = map[string]*entry{}
	for _, name := range names {
		is := old[name]
		if c.random.Float64() < c.chance {
			is = now[name]
		}
		if was := old[name]; was != nil && was != is && !was.info.IsDir() {
			c.left = append(c.left, leftOut{was, e, name})
		}
		if is == nil {
			continue
		}
		c.placed[is] = true
		e.names[name] = &entry{is: is}
		if is.info.IsDir() {
			if err := c.choose(e.names[name], filepath.Join(path, name)); err != nil {
				return err
			}
		}
	}
	return nil
}

func (c *crash) write(e *entry, to string) error {
	for _, name := range slices.Sorted(maps.Keys(e.names)) {
		child, target := e.names[name], filepath.Join(to, name)
		if child.is.info.IsDir() {
			if err := errors.Join(os.Mkdir(target, 0o700), c.write(child, target)); err != nil {
				return err
			}
			continue
		}
		present, err := child.is.read()
		if err != nil {
			return err
		}
		if err := os.WriteFile(target, torn(child.is.content, present, c.random), 0o600); err != nil {
			return err
		}
	}
	return nil
}

// torn mixes the flushed and the present content of a file.
func torn(old, now []byte, random *rand.Rand) []byte {
	size := []int{len(old), len(now)}[random.IntN(2)]
	out := make([]byte, size) // zeros where nothing has arrived
	copy(out, old)
	lost := func(int) bool { return true }
	switch random.IntN(5) {
	case 0:
	case 1:
		lost = func(int) bool { return false }
	case 2: // a beginning of what has changed
		until := random.IntN(len(now) + 1)
		lost = func(at int) bool { return at >= until }
	case 3: // all but a beginning: later writes have overtaken earlier ones
		from := random.IntN(len(now) + 1)
		lost = func(at int) bool { return at < from }
	case 4:
		lost = func(int) bool { return random.IntN(2) == 0 }
	}
	for at := 0; at < min(size, len(now)); at += sector {
		if !lost(at) {
			copy(out[at:min(at+sector, size)], now[at:min(at+sector, len(now))])
		}
	}
	return out
}

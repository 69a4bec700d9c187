package sqlitevfs

import "github.com/ncruces/go-sqlite3/vfs"

// frameHeader is the length of the header that each page has in a -wal file. SQLite writes it
// first, and then, right behind it, the page.
const frameHeader = 24

// walFile writes the header and the page of a frame together. Only a header at the end of what was
// written, which has no meaning without its page, is held back until the page comes, or until
// anything else is done to the file. One that is written anew, as SQLite does when a page changes
// twice in a transaction, is not. This saves half of the system calls of a transaction, and gives
// the reference server some 3 % more createRecord a second.
type walFile struct {
	File
	held []byte // a header, or nothing
	at   int64  // its place
	end  int64  // of what was written
}

// flush writes the header that is held back.
func (f *walFile) flush() error {
	if len(f.held) == 0 {
		return nil
	}
	_, err := f.File.WriteAt(f.held, f.at)
	f.held = f.held[:0]
	return err
}

func (f *walFile) WriteAt(p []byte, off int64) (n int, err error) {
	if len(p) == frameHeader && off == f.end && len(f.held) == 0 {
		f.held, f.at = append(f.held, p...), off
		return len(p), nil
	}
	if len(f.held) > 0 && off == f.at+frameHeader {
		f.held = append(f.held, p...)
		n, err = f.File.WriteAt(f.held, f.at)
		n = max(n-frameHeader, 0)
		f.held = f.held[:0]
	} else if err = f.flush(); err == nil {
		n, err = f.File.WriteAt(p, off)
	}
	if off == 0 { // the file starts anew
		f.end = 0
	}
	if len(p) > frameHeader {
		f.end = max(f.end, off+int64(n))
	}
	return n, err
}

func (f *walFile) ReadAt(p []byte, off int64) (int, error) {
	if err := f.flush(); err != nil {
		return 0, err
	}
	return f.File.ReadAt(p, off)
}

func (f *walFile) Truncate(size int64) error {
	if err := f.flush(); err != nil {
		return err
	}
	return f.File.Truncate(size)
}

func (f *walFile) Sync(flags vfs.SyncFlag) error {
	if err := f.flush(); err != nil {
		return err
	}
	return f.File.Sync(flags)
}

func (f *walFile) Size() (int64, error) {
	if err := f.flush(); err != nil {
		return 0, err
	}
	return f.File.Size()
}

func (f *walFile) Close() error {
	err := f.flush()
	if e := f.File.Close(); err == nil {
		err = e
	}
	return err
}

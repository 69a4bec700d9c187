package plctest

import (
	"bufio"
	"bytes"
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"os"
	"path/filepath"

	"github.com/pdskit/pdskit/identity"
	"github.com/pdskit/pdskit/internal/durablefile"
	"github.com/pdskit/pdskit/internal/exactjson"
)

// maxLine is the greatest length of a line of the file.
const maxLine = 128 << 10

// file is the part of *os.File that is used; tests make it fail.
type file interface {
	io.WriteSeeker
	io.Closer
	Truncate(size int64) error
	Sync() error
}

// open reads the file, cuts off a torn last line, and keeps the file open for
// appending.
func (d *Directory) open(name string) error {
	f, err := os.OpenFile(name, os.O_RDWR|os.O_CREATE, 0o600)
	if err != nil {
		return err
	}
	if err := d.load(f); err != nil {
		f.Close()
		return fmt.Errorf("plctest: %s: %w", name, err)
	}
	// A process may have died before it had flushed what it wrote, or made.
	if err := errors.Join(durablefile.SyncFile(f), durablefile.SyncDir(filepath.Dir(name))); err != nil {
		f.Close()
		return err
	}
	d.file = f
	return nil
}

func (d *Directory) load(f *os.File) error {
	r := bufio.NewReaderSize(f, maxLine)
	for n := 1; ; n++ {
		line, err := r.ReadSlice('\n')
		if err == io.EOF && len(line) == 0 {
			break
		}
		if isTorn(line) {
			if _, next := r.Peek(1); next == io.EOF {
				break
			}
		}
		if err == nil || err == io.EOF {
			err = d.replay(line)
		}
		if err != nil {
			return fmt.Errorf("line %d: %w", n, err)
		}
		d.size += int64(len(line))
	}
	if err := f.Truncate(d.size); err != nil {
		return err
	}
	_, err := f.Seek(d.size, io.SeekStart)
	return err
}

// isTorn reports whether a line, if it is the last, may be one whose writing a crash
// cut short: it begins like a line, or with the zeros of a page that never reached
// the disk. Anything else belongs to a file of another kind, which must not be cut.
func isTorn(line []byte) bool {
	const begin = `{"did":`
	n := min(len(line), len(begin))
	whole := line[len(line)-1] == '\n' && json.Valid(line)
	return !whole && (line[0] == 0 || string(line[:n]) == begin[:n])
}

// replay adds an operation of the file. It is checked again, but for limits on
// what may come in.
func (d *Directory) replay(line []byte) error {
	var e identity.PLCLogEntry
	if err := exactjson.Unmarshal(line, &e); err != nil {
		return err
	}
	log := d.logs[e.DID]
	if log == nil {
		log = identity.NewPLCLog(e.DID)
	}
	if !e.CreatedAt.After(d.last) {
		return fmt.Errorf("%w: times do not ascend", identity.ErrLog)
	}
	if _, err := log.Append(e.Operation, e.CreatedAt); err != nil {
		return err
	}
	d.add(log, e.CreatedAt)
	return nil
}

// write appends the last operation of a log to the file, and syncs it.
func (d *Directory) write(log *identity.PLCLog) error {
	if d.file == nil {
		return nil
	}
	line, err := json.Marshal(log.Entry(log.Len() - 1))
	if err != nil {
		return err
	}
	line = append(bytes.TrimSpace(line), '\n')
	if _, err = d.file.Write(line); err == nil {
		err = d.file.Sync()
	}
	if err == nil {
		d.size += int64(len(line))
		return nil
	}
	// Undo what was written. If that fails too, nobody knows what the file holds;
	// the next start will tell.
	undo := d.file.Truncate(d.size)
	if undo == nil {
		_, undo = d.file.Seek(d.size, io.SeekStart)
	}
	if undo == nil {
		undo = d.file.Sync()
	}
	if undo != nil {
		d.broken = fmt.Errorf("plctest: writing the file failed, and so did undoing it: %w", errors.Join(err, undo))
	}
	return fmt.Errorf("plctest: %w", err)
}

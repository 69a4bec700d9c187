//go:build js

package cloudflare

import (
	"encoding/binary"
	"errors"
	"fmt"
	"io"
	"sync"
	"sync/atomic"
	"syscall"
	"syscall/js"

	"github.com/pdskit/pdskit/car"
	"github.com/pdskit/pdskit/storage"
)

const (
	// tempBytes is the length of the rows of a temporary file, but for the last one.
	tempBytes = 256 << 10
	// tempRead is how many rows of a file are kept after they were read.
	tempRead = 4
)

// Temp returns temporary files in a table of the object, in rows of 256 KiB, for repo.Config.Temp.
// It deletes files that an earlier program has left. The table must not be used for anything else.
// A file takes at most 1.5 MiB of memory.
func (h *Host) Temp(table string) (car.Temp, error) {
	o, err := h.Object(table)
	if err != nil {
		return nil, err
	}
	if err := o.writeNow(appendOp(nil, opDelete, "", "")); err != nil {
		return nil, err
	}
	var last atomic.Uint64
	return func(int64) (car.TempFile, error) {
		return &tempFile{table: o, id: last.Add(1)}, nil
	}, nil
}

// writeNow carries out writes outside of a transaction, each by itself. It waits until one that
// runs, of any table, has ended: that may be undone, and with it what was written meanwhile.
func (o *Object) writeNow(writes []byte) error {
	o.host.exclusive.Lock()
	defer o.host.exclusive.Unlock()
	o.host.transfer.Lock()
	defer o.host.transfer.Unlock()
	o.recent.forget()
	o.host.put(writes)
	_, err := try(func() js.Value { return o.write.Invoke(len(writes)) })
	return err
}

// tempFile is a car.TempFile: it is written from its start to its end.
type tempFile struct {
	table *Object
	id    uint64

	mu     sync.Mutex
	size   int64
	tail   []byte // of the file: what no row has yet
	rows   []tempRow
	closed bool
}

// tempRow is a row that was read.
type tempRow struct {
	number int64
	bytes  []byte
}

// key is that of a row; the rows of a file follow each other.
func (f *tempFile) key(row int64) string {
	b := binary.BigEndian.AppendUint64(nil, f.id)
	return string(binary.BigEndian.AppendUint64(b, uint64(row)))
}

var (
	errTempClosed = errors.New("cloudflare: the temporary file is closed")
	errTempOrder  = errors.New("cloudflare: a temporary file is written from its start to its end")
)

// full adds to a lack of room what callers look for.
func full(err error) error {
	if errors.Is(err, storage.ErrFull) {
		return fmt.Errorf("%w: %w", syscall.ENOSPC, err)
	}
	return err
}

// WriteAt appends to the file.
func (f *tempFile) WriteAt(b []byte, off int64) (n int, err error) {
	f.mu.Lock()
	defer f.mu.Unlock()
	switch {
	case f.closed:
		return 0, errTempClosed
	case off != f.size:
		return 0, errTempOrder
	}
	for len(b) > 0 {
		m := min(len(b), tempBytes-len(f.tail))
		f.tail = append(f.tail, b[:m]...)
		if len(f.tail) == tempBytes {
			if err := f.table.writeNow(appendOp(nil, opSet, f.key(f.size/tempBytes), f.tail)); err != nil {
				f.tail = f.tail[:tempBytes-m]
				return n, full(err)
			}
			f.tail = f.tail[:0]
		}
		n, b, f.size = n+m, b[m:], f.size+int64(m)
	}
	return n, nil
}

// ReadAt reads what was written.
func (f *tempFile) ReadAt(b []byte, off int64) (n int, err error) {
	f.mu.Lock()
	defer f.mu.Unlock()
	if f.closed {
		return 0, errTempClosed
	}
	for n < len(b) {
		if off >= f.size {
			return n, io.EOF
		}
		row, err := f.row(off / tempBytes)
		if err != nil {
			return n, err
		}
		m := copy(b[n:], row[off%tempBytes:])
		n, off = n+m, off+int64(m)
	}
	return n, nil
}

// row returns a row, or the tail.
func (f *tempFile) row(number int64) ([]byte, error) {
	if number == f.size/tempBytes {
		return f.tail, nil
	}
	for i, r := range f.rows {
		if r.number == number {
			copy(f.rows[1:i+1], f.rows[:i])
			f.rows[0] = r
			return r.bytes, nil
		}
	}
	b, err := f.table.Get(f.key(number))
	if err != nil || len(b) != tempBytes {
		return nil, fmt.Errorf("cloudflare: row %d of a temporary file: %d bytes, %w", number, len(b), err)
	}
	if len(f.rows) < tempRead {
		f.rows = append(f.rows, tempRow{})
	}
	copy(f.rows[1:], f.rows)
	f.rows[0] = tempRow{number, b}
	return b, nil
}

// Truncate empties the file.
func (f *tempFile) Truncate(size int64) error {
	f.mu.Lock()
	defer f.mu.Unlock()
	switch {
	case f.closed:
		return errTempClosed
	case size != 0:
		return errTempOrder
	}
	f.size, f.tail, f.rows = 0, nil, nil
	return f.table.writeNow(appendOp(nil, opDelete, f.key(0), f.key(-1)))
}

// Close removes the file.
func (f *tempFile) Close() error {
	err := f.Truncate(0)
	f.mu.Lock()
	defer f.mu.Unlock()
	f.closed = true
	return err
}

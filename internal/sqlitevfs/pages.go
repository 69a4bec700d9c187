package sqlitevfs

import (
	"bufio"
	"bytes"
	"context"
	"encoding/binary"
	"errors"
	"fmt"
	"io"
	"os"
)

// ErrPage: a page of a file does not match its checksum, or the file is too short.
var ErrPage = errors.New("sqlite: damaged page")

const (
	headerSize = 100
	// checksumSize is how many bytes at the end of each page its checksum takes.
	checksumSize = 8
	// lockByte is where SQLite keeps its locks: the page that has it is never written.
	lockByte = 1 << 30
)

// CheckPages reads a database's file from its start to its end and compares every page with its
// checksum, also those that no table uses. It returns how many there are. Nobody may write to the
// file, and there must not be a
// -wal file or a journal beside it. Damage gives ErrPage. In a file without checksums, pages are only counted.
func CheckPages(ctx context.Context, path string) (pages int64, err error) {
	f, err := os.Open(path)
	if err != nil {
		return 0, err
	}
	defer f.Close()
	info, err := f.Stat()
	if err != nil {
		return 0, err
	}
	var header [headerSize]byte
	if _, err := f.ReadAt(header[:], 0); err == io.EOF {
		return 0, fmt.Errorf("%w: the file has %d bytes", ErrPage, info.Size())
	} else if err != nil {
		return 0, err
	}
	size := int64(binary.BigEndian.Uint16(header[16:]))
	if size == 1 {
		size = 64 << 10
	}
	if !bytes.HasPrefix(header[:], []byte("SQLite format 3\x00")) || size < 512 || size&(size-1) != 0 {
		return 0, fmt.Errorf("%w: page 1 has no header of a database", ErrPage)
	}
	pages = int64(binary.BigEndian.Uint32(header[28:]))
	if info.Size() < pages*size {
		return 0, fmt.Errorf("%w: the file has %d bytes, its header says %d", ErrPage, info.Size(), pages*size)
	}
	if header[20] != checksumSize {
		return pages, nil
	}
	r := bufio.NewReaderSize(f, 1<<20)
	page := make([]byte, size)
	for n := range pages {
		if err := ctx.Err(); err != nil {
			return 0, err
		}
		if _, err := io.ReadFull(r, page); err != nil {
			return 0, err
		}
		body, sum := page[:size-checksumSize], page[size-checksumSize:]
		if n != lockByte/size && checksum(body) != [checksumSize]byte(sum) {
			return 0, fmt.Errorf("%w: page %d of %d does not match its checksum", ErrPage, n+1, pages)
		}
	}
	return pages, nil
}

// checksum is that of SQLite's checksum VFS, on a machine of little-endian byte order.
func checksum(page []byte) (sum [checksumSize]byte) {
	var a, b uint32
	for ; len(page) >= 8; page = page[8:] {
		a += binary.LittleEndian.Uint32(page) + b
		b += binary.LittleEndian.Uint32(page[4:]) + a
	}
	binary.LittleEndian.PutUint32(sum[:], a)
	binary.LittleEndian.PutUint32(sum[4:], b)
	return sum
}

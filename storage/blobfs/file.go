package blobfs

import (
	"encoding/binary"
	"fmt"
	"hash/crc32"
	"io"
	"os"
	"time"

	"github.com/ipfs/go-cid"
	"github.com/pdskit/pdskit/storage"
)

// A file ends with the MIME type and these fixed fields, big-endian: the length of the MIME type (2
// bytes), the age in microseconds since 1970 (8), the size of the blob (8), the CRC-32C of the
// trailer up to here (4), and the magic.
const (
	magic     = "pdsblob1"
	fixedSize = 2 + 8 + 8 + 4 + len(magic)
	maxMIME   = 1 << 10
)

func checksum(b []byte) uint32 { return crc32.Checksum(b, crc32.MakeTable(crc32.Castagnoli)) }

// appendTrailer appends the trailer of a file.
func appendTrailer(b []byte, info storage.BlobInfo) []byte {
	start := len(b)
	b = append(b, info.MIME...)
	b = binary.BigEndian.AppendUint16(b, uint16(len(info.MIME)))
	b = binary.BigEndian.AppendUint64(b, uint64(info.Created.UnixMicro()))
	b = binary.BigEndian.AppendUint64(b, uint64(info.Size))
	b = binary.BigEndian.AppendUint32(b, checksum(b[start:]))
	return append(b, magic...)
}

// parseTrailer reads the trailer of a file of length size, of which tail is the
// end: all of it, or at least maxMIME+fixedSize bytes.
func parseTrailer(tail []byte, size int64) (info storage.BlobInfo, err error) {
	if len(tail) < fixedSize {
		return info, fmt.Errorf("%w: file of %d bytes", storage.ErrCorrupt, size)
	}
	fixed := tail[len(tail)-fixedSize:]
	if string(fixed[22:]) != magic {
		return info, fmt.Errorf("%w: file without trailer", storage.ErrCorrupt)
	}
	mime := tail[:len(tail)-fixedSize]
	n := int(binary.BigEndian.Uint16(fixed))
	if n > maxMIME || n > len(mime) {
		return info, fmt.Errorf("%w: trailer has a MIME type of %d bytes", storage.ErrCorrupt, n)
	}
	if binary.BigEndian.Uint32(fixed[18:]) != checksum(tail[len(mime)-n:len(mime)+18]) {
		return info, fmt.Errorf("%w: trailer does not match its checksum", storage.ErrCorrupt)
	}
	info.MIME = string(mime[len(mime)-n:])
	info.Created = time.UnixMicro(int64(binary.BigEndian.Uint64(fixed[2:]))).UTC()
	info.Size = int64(binary.BigEndian.Uint64(fixed[10:]))
	if info.Size != size-int64(fixedSize+n) {
		return info, fmt.Errorf("%w: file of %d bytes says that it holds %d", storage.ErrCorrupt, size, info.Size)
	}
	return info, nil
}

// openFile opens a blob's file and reads its trailer.
func openFile(path string, c cid.Cid) (*os.File, storage.BlobInfo, error) {
	f, err := os.Open(path)
	if err != nil {
		return nil, storage.BlobInfo{}, err
	}
	info, err := readTrailer(f)
	if err != nil {
		f.Close()
		return nil, storage.BlobInfo{}, fmt.Errorf("blob %s: %w", c, err)
	}
	info.CID = c
	return f, info, nil
}

func readTrailer(f *os.File) (info storage.BlobInfo, err error) {
	st, err := f.Stat()
	if err != nil {
		return info, err
	}
	// Most MIME types are short: read little first.
	for _, n := range []int64{128, int64(maxMIME + fixedSize)} {
		tail := make([]byte, min(n, st.Size()))
		if _, err = f.ReadAt(tail, st.Size()-int64(len(tail))); err != nil && err != io.EOF {
			return info, err
		}
		if info, err = parseTrailer(tail, st.Size()); err == nil {
			break
		}
	}
	return info, err
}

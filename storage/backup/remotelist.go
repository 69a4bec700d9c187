package backup

import (
	"bufio"
	"crypto/sha256"
	"encoding/hex"
	"errors"
	"fmt"
	"io"
	"strconv"
	"strings"

	"github.com/pdskit/pdskit/storage"
	"github.com/pdskit/pdskit/storage/blobfs"
)

// remoteBlob is what is known of the object of a blob.
type remoteBlob struct {
	size int64   // of the object
	kind [4]byte // stands for the blob's type and age: the same bytes may be uploaded again as another type
}

func kindOf(info storage.BlobInfo) [4]byte {
	sum := sha256.Sum256(fmt.Appendf(nil, "%d %d %s", info.Size, info.Created.UnixMicro(), info.MIME))
	return [4]byte(sum[:4])
}

// remoteLine is a line of a list of blobs in an object store: the name of its file, the size of its
// object, and what it is. Those that records refer to, but of which there is no good copy, have the
// name alone, after badMark.
type remoteLine struct {
	name string
	bad  bool
	remoteBlob
}

func (l remoteLine) append(b []byte) []byte {
	if l.bad {
		return append(append(append(b, badMark...), l.name...), '\n')
	}
	return fmt.Appendf(b, "%s %d %x\n", l.name, l.size, l.kind)
}

func parseLine(text string) (l remoteLine, ok bool) {
	if l.name, l.bad = strings.CutPrefix(text, badMark); l.bad {
		_, ok = blobfs.FileCID(l.name)
		return l, ok
	}
	parts := strings.Split(text, " ")
	if len(parts) != 3 {
		return l, false
	}
	l.name = parts[0]
	size, sizeErr := strconv.ParseUint(parts[1], 10, 63)
	tail, tailErr := hex.DecodeString(parts[2])
	_, ok = blobfs.FileCID(l.name)
	if sizeErr != nil || tailErr != nil || len(tail) != len(l.kind) || !ok {
		return l, false
	}
	l.size, l.kind = int64(size), [4]byte(tail)
	return l, true
}

// eachLine reads a list of blobs.
func eachLine(in io.Reader, fn func(remoteLine) error) error {
	lines := bufio.NewScanner(in)
	for lines.Scan() {
		l, ok := parseLine(lines.Text())
		if !ok {
			return fmt.Errorf("%w: a list of blobs has the line %.300q", ErrBadBackup, lines.Text())
		}
		if err := fn(l); err != nil {
			return err
		}
	}
	if err := lines.Err(); errors.Is(err, bufio.ErrTooLong) {
		return fmt.Errorf("%w: a list of blobs has a line without end", ErrBadBackup)
	} else if err != nil {
		return err
	}
	return nil
}

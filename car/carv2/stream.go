package carv2

import (
	"bufio"
	"bytes"
	"fmt"
	"io"

	gocar "github.com/ipld/go-car/v2"
	"github.com/pdskit/pdskit/car"
)

// MaxPadding is how many bytes may lie between the header of a file of version 2
// and its payload.
const MaxPadding = 1 << 20

// NewReader reads a file of version 1 or 2 as a stream. Limits apply to the payload. It does not
// read what follows the payload. Errors are as in package car; a malformed header of version 2 is a
// car.ErrHeader.
func NewReader(r io.Reader, lim car.Limits) (*car.Reader, error) {
	br, ok := r.(*bufio.Reader)
	if !ok || br.Size() < gocar.PragmaSize {
		br = bufio.NewReaderSize(r, 64<<10)
	}
	if start, _ := br.Peek(gocar.PragmaSize); !bytes.Equal(start, gocar.Pragma) {
		return car.NewReader(br, lim) // an error of Peek will come again
	}
	if _, err := br.Discard(gocar.PragmaSize); err != nil {
		return nil, err
	}
	h, err := readHeader(br)
	if err != nil {
		return nil, err
	}
	padding := int64(h.DataOffset) - gocar.PragmaSize - gocar.HeaderSize
	if padding > MaxPadding {
		return nil, headerError(fmt.Errorf("%w: %d bytes of padding", car.ErrTooLarge, padding))
	}
	if _, err := br.Discard(int(padding)); err != nil {
		return nil, headerError(truncated(err))
	}
	return car.NewReader(&payload{br, int64(h.DataSize)}, lim)
}

// readHeader reads the header of version 2, which follows the pragma.
func readHeader(r io.Reader) (h gocar.Header, err error) {
	var b [gocar.HeaderSize]byte
	if _, err := io.ReadFull(r, b[:]); err != nil {
		return h, headerError(truncated(err))
	}
	if _, err := h.ReadFrom(bytes.NewReader(b[:])); err != nil {
		return h, headerError(fmt.Errorf("%w: %w", car.ErrHeader, err))
	}
	return h, nil
}

func headerError(err error) error { return &car.Error{Offset: gocar.PragmaSize, Err: err} }

// truncated makes the end of the input the error that package car has for it.
func truncated(err error) error {
	if err == io.EOF || err == io.ErrUnexpectedEOF {
		return car.ErrTruncated
	}
	return err
}

// payload reads as many bytes as the header announces. Fewer are an error.
type payload struct {
	r    io.Reader
	left int64
}

func (p *payload) Read(b []byte) (int, error) {
	if p.left == 0 {
		return 0, io.EOF
	}
	n, err := p.r.Read(b[:min(int64(len(b)), p.left)])
	p.left -= int64(n)
	if err == io.EOF && p.left > 0 {
		err = io.ErrUnexpectedEOF
	}
	return n, err
}

package carv2

import (
	"io"

	gocar "github.com/ipld/go-car/v2"
)

// Wrap writes a file of version 1 as one of version 2, with an index of its
// blocks by their hashes. It reads src from its start, twice.
func Wrap(dst io.Writer, src io.ReadSeeker) error {
	if _, err := src.Seek(0, io.SeekStart); err != nil {
		return err
	}
	return gocar.WrapV1(src, dst)
}

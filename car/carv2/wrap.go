package carv2

import (
	"io"

	gocar "github.com/ipld/go-car/v2"
)

// Wrap converts a file of version 1 to one of version 2, with an index of its blocks by hash. It
// reads src from its start, twice.
func Wrap(dst io.Writer, src io.ReadSeeker) error {
	if _, err := src.Seek(0, io.SeekStart); err != nil {
		return err
	}
	return gocar.WrapV1(src, dst)
}

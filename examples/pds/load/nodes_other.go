//go:build !unix

package main

import (
	"context"
	"errors"
	"io"
)

func nodes(context.Context, options, io.Writer, io.Writer) error {
	return errors.New("-nodes stops processes by signals, which this system does not have")
}

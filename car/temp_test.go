package car_test

import (
	"bytes"
	"errors"
	"fmt"
	"testing"

	"github.com/pdskit/pdskit/car"
	"github.com/pdskit/pdskit/internal/tempfile/temptest"
)

// temp gives files of a test to an index.
func temp(t *temptest.Temps) car.Temp {
	return func(most int64) (car.TempFile, error) {
		f, err := t.Open(most)
		if err != nil {
			return nil, err
		}
		return f, nil
	}
}

// Whichever call of a temporary file fails, an index says so, or has all blocks, and leaves no file.
func TestIndexOverFailingFiles(t *testing.T) {
	blocks := someBlocks(72_000, 60, 5) // one run of the table and the bytes of blocks
	file := car.Append(nil, nil, blocks...)
	kept := &car.Index{}
	for name, run := range map[string]func(car.Temp) error{
		"blocks": func(temp car.Temp) (err error) {
			kept = car.NewIndex(temp, 1)
			defer func() { err = errors.Join(err, kept.Close()) }()
			for _, b := range blocks {
				if err := kept.Add(b); err != nil {
					return err
				}
			}
			for _, b := range blocks[:100] {
				if got, err := kept.Block(b.CID); err != nil || !bytes.Equal(got, b.Data) {
					return errors.Join(err, errors.New("wrong bytes"))
				}
			}
			return nil
		},
		"places": func(temp car.Temp) (err error) {
			x, err := car.IndexFile(bytes.NewReader(file), car.IndexOptions{Temp: temp})
			if err != nil {
				return err
			}
			defer func() { err = errors.Join(err, x.Close()) }()
			for _, b := range blocks[:100] {
				if got, err := x.Block(b.CID); err != nil || !bytes.Equal(got, b.Data) {
					return errors.Join(err, errors.New("wrong bytes"))
				}
			}
			return nil
		},
	} {
		t.Run(name, func(t *testing.T) {
			good := new(temptest.Temps)
			if err := run(temp(good)); err != nil {
				t.Fatal(err)
			}
			good.Check(t)
			if good.Opened() < 1 || good.Peak() < 65_536*45 {
				t.Fatalf("%d files, %d bytes", good.Opened(), good.Peak())
			}
			calls := good.Calls()
			for i := range 6 { // the first one, the last one, and some between
				bad := &temptest.Temps{FailAt: 1 + i*(calls-1)/5, Broken: i%2 == 1}
				if err := run(temp(bad)); !errors.Is(err, temptest.ErrFault) {
					t.Errorf("call %d of %d: %v", bad.FailAt, calls, err)
				}
				bad.Check(t)
			}
		})
	}
}

// Without files a platform gives memory, with a bound; with them, a folder that is not there is an
// error.
func TestTempDir(t *testing.T) {
	f, err := car.TempDir(t.TempDir())(0)
	if err != nil {
		t.Fatal(err)
	}
	if _, err := fmt.Fprint(ioWriter{f}, "x"); err != nil {
		t.Error(err)
	}
	if err := f.Close(); err != nil {
		t.Error(err)
	}
	if f, err := car.TempDir(t.TempDir() + "/none")(0); err == nil || f != nil {
		t.Error(f, err)
	}
}

type ioWriter struct{ car.TempFile }

func (w ioWriter) Write(b []byte) (int, error) { return w.WriteAt(b, 0) }

package car_test

import (
	"errors"
	"io"
	"testing"

	"github.com/ipfs/go-cid"
	"github.com/pdskit/pdskit/car"
	"github.com/pdskit/pdskit/internal/dag"
)

// No file has a root or a block without a CID, which no reader would take, and what is left out is
// said at once.
func TestFilesThatNoReaderTakes(t *testing.T) {
	if _, err := car.NewWriter(io.Discard, cid.Undef); !errors.Is(err, car.ErrCID) {
		t.Errorf("an undefined root: %v", err)
	}
	w, err := car.NewWriter(io.Discard)
	if err != nil {
		t.Fatal(err)
	}
	if err := w.Write(car.Block{Data: []byte("x")}); !errors.Is(err, car.ErrCID) {
		t.Errorf("a block without a CID: %v", err)
	}
	for name, do := range map[string]func() error{
		"NewWriter": func() error { _, err := car.NewWriter(nil); return err },
		"NewReader": func() error { _, err := car.NewReader(nil, car.Limits{}); return err },
		"IndexFile": func() error { _, err := car.IndexFile(nil, car.IndexOptions{}); return err },
		"Writer":    func() error { return new(car.Writer).Write(block(dag.Raw, "x")) },
		"Index":     func() error { return new(car.Index).Add(block(dag.Raw, "x")) },
	} {
		if err := do(); err == nil {
			t.Errorf("%s: no error", name)
		}
	}
}

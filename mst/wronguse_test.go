package mst_test

import (
	"testing"

	"github.com/pdskit/pdskit/mst"
)

// What a program leaves out gives an error at once.
func TestWhatIsNil(t *testing.T) {
	root := mst.Empty().Root()
	for name, do := range map[string]func() error{
		"Invert": func() error { _, err := mst.Invert(nil, nil); return err },
		"Diff, old": func() (err error) {
			for _, err = range mst.Diff(nil, mst.Empty()) {
			}
			return err
		},
		"Diff, new": func() (err error) {
			for _, err = range mst.Diff(mst.Empty(), nil) {
			}
			return err
		},
		"Build":  func() error { _, err := mst.Build(nil); return err },
		"RootOf": func() error { _, err := mst.RootOf(nil); return err },
		"Load":   func() error { _, err := mst.Load(nil, root, mst.Limits{}); return err },
		"Open":   func() error { _, err := mst.Open(nil, root, mst.Limits{}); return err },
	} {
		if err := do(); err == nil {
			t.Errorf("%s: no error", name)
		}
	}
}

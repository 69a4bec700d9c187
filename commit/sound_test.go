package commit

import (
	"errors"
	"testing"

	"github.com/pdskit/pdskit/internal/dag"
	"github.com/pdskit/pdskit/mst"
)

// What is checked ahead is what a record must be. Nodes are not looked at, and a caller's own rule is
// left to the caller.
func TestWhatIsCheckedAhead(t *testing.T) {
	sound := new(RepoReader).sound()
	for block, want := range map[string]bool{
		"\xa1\x61a\x01": true, "\xa0": true, "": false, "\x80": false, "\xa1\x61a\x18\x01": false, "\xa0\xa0": false,
		"\xa2\x61e\x80\x61l\xf6": false, // a node
	} {
		if got := sound([]byte(block)); got != want {
			t.Errorf("%x: %v", block, got)
		}
	}
	own := &RepoReader{opt: RepoOptions{CheckRecord: func(string, []byte) error { return nil }}}
	if own.sound() != nil {
		t.Error("the protocol's rule is checked where the caller has another one")
	}
}

// Blocks without the root of the tree are not enough to undo anything.
func TestInversionWithoutTheRoot(t *testing.T) {
	root := dag.Sum(dag.CBOR, []byte("x"))
	if _, err := invert(newBlockSet(nil), root, nil); !errors.Is(err, mst.ErrPartial) {
		t.Errorf("%v", err)
	}
}

package memo_test

import (
	"testing"

	"github.com/pdskit/pdskit/examples/pds/internal/memo"
)

func TestMap(t *testing.T) {
	m := memo.New[int, string](3)
	for i, v := range []string{"a", "b", "c"} {
		m.Put(i, v)
	}
	m.Drop(1)
	for i, want := range []string{"a", "", "c", ""} {
		if got, ok := m.Get(i); got != want || ok != (want != "") {
			t.Errorf("%d: %q, %v", i, got, ok)
		}
	}
	m.Put(3, "d")
	m.Put(4, "e") // one too many
	if _, ok := m.Get(0); ok {
		t.Error("there is no bound")
	}
	if got, _ := m.Get(4); got != "e" {
		t.Errorf("%q", got)
	}
}

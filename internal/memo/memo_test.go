package memo_test

import (
	"errors"
	"testing"

	"github.com/pdskit/pdskit/internal/memo"
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

// Texts are told apart by all of their bytes, and neither errors, nor more than the bounds, are
// remembered.
func TestTexts(t *testing.T) {
	m := memo.NewTexts[int](2, 3)
	parsed := 0
	of := func(text string) int {
		n, _ := m.Of([]byte(text), func(b []byte) (int, error) {
			if parsed++; string(b) == "bad" {
				return 0, errors.New("bad")
			}
			return len(b), nil
		})
		return n
	}
	for i, c := range []struct {
		text          string
		value, parsed int
	}{
		{"a", 1, 1}, {"a", 1, 1}, {"ab", 2, 2}, {"a", 1, 2}, {"ab", 2, 2}, {"abcd", 4, 3}, {"abcd", 4, 4}, {"bad", 0, 5}, {"bad", 0, 6},
		{"", 0, 7}, {"", 0, 7}, {"a", 1, 8},
	} {
		if n := of(c.text); n != c.value || parsed != c.parsed {
			t.Errorf("%d, %q: %d, parsed %d times", i, c.text, n, parsed)
		}
	}
	if m.Has([]byte("abcd")) || !m.Has([]byte("a")) {
		t.Error("what is remembered")
	}
}

package main

import (
	"os"
	"path"
	"path/filepath"
	"slices"
	"strings"
	"testing"
	"time"
)

const fixture = `package sample

import (
	"errors"
	"fmt"
	"runtime"
)

var ErrLong = errors.New("long")

// Check takes at most ten bytes.
func Check(b []byte) error {
	if len(b) > 10 {
		return ErrLong
	}
	return nil
}

// Twice adds what nobody looks at.
func Twice(n int) (out []int) {
	for i := 0; i < n; i++ {
		out = append(out, 2*i)
	}
	return out
}

const elsewhere = runtime.GOARCH == "none"

// Half has nothing that a test could notice, but for its condition.
func Half(n int) (int, error) {
	if elsewhere && n > 3 {
		return 3, nil
	}
	if n%2 != 0 {
		return 1, fmt.Errorf("%d is odd: %d", n, 7)
	}
	return n / 2, nil
}
`

const fixtureTest = `package sample

import "testing"

func TestCheck(t *testing.T) {
	if Check(make([]byte, 11)) == nil {
		t.Error("too long")
	}
	if Check(make([]byte, 9)) != nil {
		t.Error("short enough")
	}
}
`

// The mutants of a small package are found; those that its test looks at die; others live.
func TestMutants(t *testing.T) {
	if testing.Short() {
		t.Skip("compiles a package")
	}
	dir := t.TempDir()
	for name, text := range map[string]string{
		"go.mod": "module sample\n\ngo 1.26\n", "sample.go": fixture, "sample_test.go": fixtureTest,
	} {
		if err := os.WriteFile(filepath.Join(dir, name), []byte(text), 0o600); err != nil {
			t.Fatal(err)
		}
	}
	t.Chdir(dir)
	p, err := load(".")
	if err != nil {
		t.Fatal(err)
	}
	all := find(p)
	temp := t.TempDir()
	binary := filepath.Join(temp, "test.exe")
	mutants, err := build(p, sample(all, 100, 1), temp, binary)
	if err != nil {
		t.Fatal(err)
	}
	if len(mutants) != len(all) {
		t.Errorf("%d of %d mutants compile", len(mutants), len(all))
	}
	if killed, out := (options{}).test(p, binary, 0, time.Minute); killed {
		t.Fatalf("without a mutant: %s", out)
	}
	died := map[string]bool{}
	for _, m := range mutants {
		died[m.function+" "+m.kind+" "+m.from], _ = (options{}).test(p, binary, m.id, time.Minute)
	}
	for key, want := range map[string]bool{
		"Check negate len(b) > 10":            true,
		"Check bound len(b) > 10":             false, // nobody tests ten
		"Check early len(b) > 10":             true,
		"Check const 10":                      true, // eleven are too long
		"Check error return ErrLong":          true,
		"Twice const 2":                       false,
		"Twice bound i < n":                   false,
		"Twice remove out = append(out, 2*i)": false,
		"Twice negate i < n":                  false,
		"Twice const 0":                       false,
		"Half negate n%2 != 0":                false,
		"Half early n%2 != 0":                 false,
		"Half const 2":                        false,
		"Half const 0":                        false,
		"Half error return 1, fmt.Errorf(\"%d is odd: %d\", n, 7)": false,
	} {
		if got, ok := died[key]; !ok || got != want {
			t.Errorf("%s: found %v, killed %v", key, ok, got)
		}
		delete(died, key)
	}
	if len(died) != 0 {
		t.Errorf("others: %v", died)
	}
	if again := sample(find(p), 3, 1); !slices.EqualFunc(again, sample(find(p), 3, 1), func(a, b *mutant) bool { return a.String() == b.String() }) {
		t.Error("a seed does not say which mutants are taken")
	}
}

// Each mutant that is called equivalent has a reason.
func TestEquivalents(t *testing.T) {
	for key, why := range equivalents(equivalentText) {
		if why == "" || !strings.Contains(key, " => ") {
			t.Errorf("%s: %q", key, why)
		}
	}
}

// The list names no mutant that is not there.
func TestEquivalentsExist(t *testing.T) {
	if testing.Short() {
		t.Skip("compiles packages")
	}
	left := map[string][]string{} // by their packages
	for key := range equivalents(equivalentText) {
		file, _, _ := strings.Cut(key, " ")
		dir := path.Dir(file)
		left[dir] = append(left[dir], key)
	}
	for dir, keys := range left {
		p, err := load("../../" + dir)
		if err != nil {
			t.Fatal(err)
		}
		there := map[string]bool{}
		for _, m := range find(p) {
			there[m.key(p.short)] = true
		}
		for _, key := range keys {
			if !there[key] {
				t.Errorf("%s: there is no such mutant", key)
			}
		}
	}
}

package main

import (
	"bytes"
	"encoding/json"
	"fmt"
	"go/ast"
	"go/token"
	"os"
	"os/exec"
	"path/filepath"
	"regexp"
	"slices"
	"strconv"
	"strings"
)

// variable chooses a mutant in a test binary.
const variable = "PDSKIT_MUTANT"

// chooser is a file that is added to the package. A mutant that takes memory without end is
// stopped.
const chooser = `package %s

import (
	"os"
	"runtime"
	"strconv"
	"time"
)

var mutant_ = func() int {
	n, _ := strconv.Atoi(os.Getenv("` + variable + `"))
	if n != 0 {
		go func() {
			for ; ; time.Sleep(100 * time.Millisecond) {
				var m runtime.MemStats
				if runtime.ReadMemStats(&m); m.Sys > 3<<30 {
					os.Exit(3)
				}
			}
		}()
	}
	return n
}()

func mutantOne_[T ~int | ~int8 | ~int16 | ~int32 | ~int64 | ~uint | ~uint8 | ~uint16 | ~uint32 | ~uint64 | ~uintptr](i int) T {
	if mutant_ == i {
		return 1
	}
	return 0
}
`

// rendered returns a file with its mutants. What follows a mutant is told to be on the line where
// it was.
func rendered(p *pkg, file int, of []*mutant) []byte {
	src := p.sources[file]
	// Outer places come before those in them. Of two mutants of one place, either may be inside the
	// other.
	of = slices.Clone(of)
	slices.SortStableFunc(of, func(a, b *mutant) int {
		if a.pos != b.pos {
			return int(a.pos - b.pos)
		}
		return int(b.end - a.end)
	})
	var text func(from, to token.Pos, of []*mutant) string
	text = func(from, to token.Pos, of []*mutant) string {
		var b strings.Builder
		for len(of) > 0 {
			m := of[0]
			inside := 1
			for inside < len(of) && of[inside].pos < m.end {
				inside++
			}
			within := of[1:inside]
			of = of[inside:]
			b.Write(src[p.offset(from):p.offset(m.pos)])
			b.WriteString(m.render(func(n ast.Node) string {
				var in []*mutant
				for _, w := range within {
					if n.Pos() <= w.pos && w.end <= n.End() {
						in = append(in, w)
					}
				}
				return text(n.Pos(), n.End(), in)
			}))
			from = m.end
			fmt.Fprintf(&b, " /*line %s:%d*/", m.file, p.fset.Position(m.end).Line)
		}
		b.Write(src[p.offset(from):p.offset(to)])
		return b.String()
	}
	tf := p.fset.File(p.files[file].FileStart)
	return []byte(text(tf.Pos(0), tf.Pos(len(src)), of))
}

// build compiles the tests of a package with the mutants. It leaves out those that do not compile,
// and returns the others.
func build(p *pkg, of []*mutant, temp, binary string) ([]*mutant, error) {
	for {
		overlay := map[string]string{}
		put := func(name string, text []byte) error {
			to := filepath.Join(temp, name)
			overlay[filepath.Join(p.dir, name)] = to
			return os.WriteFile(to, text, 0o600)
		}
		if err := put("zz_mutant.go", fmt.Appendf(nil, chooser, p.name)); err != nil {
			return nil, err
		}
		for i, name := range p.names {
			var here []*mutant
			for _, m := range of {
				if m.file == name {
					here = append(here, m)
				}
			}
			if len(here) == 0 {
				continue
			}
			if err := put(name, rendered(p, i, here)); err != nil {
				return nil, err
			}
		}
		text, err := json.Marshal(map[string]any{"Replace": overlay})
		if err != nil {
			return nil, err
		}
		list := filepath.Join(temp, "overlay.json")
		if err := os.WriteFile(list, text, 0o600); err != nil {
			return nil, err
		}
		cmd := exec.Command("go", "test", "-c", "-vet=off", "-gcflags="+p.path+"=-e", "-overlay", list, "-o", binary, p.path)
		cmd.Dir = p.dir
		out, err := cmd.CombinedOutput()
		if err == nil {
			return of, nil
		}
		left := slices.DeleteFunc(slices.Clone(of), func(m *mutant) bool { return blamed(p, m, out) })
		if len(left) == len(of) {
			return nil, fmt.Errorf("go test -c %s: %w\n%s", p.path, err, out)
		}
		of = left
	}
}

var errorLine = regexp.MustCompile(`([^\s/\\:]+\.go):(\d+):`)

// blamed says whether the compiler complained of the lines of a mutant.
func blamed(p *pkg, m *mutant, out []byte) bool {
	last := p.fset.Position(m.end).Line
	for l := range bytes.Lines(out) {
		f := errorLine.FindSubmatch(l)
		if f == nil || string(f[1]) != m.file {
			continue
		}
		if n, _ := strconv.Atoi(string(f[2])); m.line <= n && n <= last {
			return true
		}
	}
	return false
}

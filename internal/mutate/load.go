package main

import (
	"bytes"
	"encoding/json"
	"errors"
	"fmt"
	"go/ast"
	"go/importer"
	"go/parser"
	"go/token"
	"go/types"
	"io"
	"os"
	"os/exec"
	"path/filepath"
	"strings"
)

// pkg is a package with its types.
type pkg struct {
	path, name string
	dir        string // absolute
	short      string // from the module's root
	fset       *token.FileSet
	names      []string // of files, their base names
	sources    [][]byte
	files      []*ast.File
	info       *types.Info
}

func (p *pkg) offset(pos token.Pos) int { return p.fset.Position(pos).Offset }

// load reads a package and its types. What it imports is read as the compiler left it.
func load(pattern string) (*pkg, error) {
	cmd := exec.Command("go", "list", "-export", "-deps", "-json=ImportPath,Name,Export,Dir,GoFiles,Module", pattern)
	cmd.Stderr = os.Stderr
	out, err := cmd.Output()
	if err != nil {
		return nil, fmt.Errorf("go list %s: %w", pattern, err)
	}
	type listed struct {
		ImportPath, Name, Export, Dir string
		GoFiles                       []string
		Module                        *struct{ Dir string }
	}
	exports := map[string]string{}
	var last listed // the package itself comes after what it imports
	for dec := json.NewDecoder(bytes.NewReader(out)); ; {
		var l listed
		if err := dec.Decode(&l); errors.Is(err, io.EOF) {
			break
		} else if err != nil {
			return nil, err
		}
		exports[l.ImportPath], last = l.Export, l
	}
	p := &pkg{path: last.ImportPath, name: last.Name, dir: last.Dir, fset: token.NewFileSet(),
		names: last.GoFiles, info: &types.Info{Types: map[ast.Expr]types.TypeAndValue{}}}
	p.short = strings.TrimPrefix(strings.TrimPrefix(last.Dir, last.Module.Dir), string(filepath.Separator))
	p.short = filepath.ToSlash(p.short)
	for _, name := range p.names {
		src, err := os.ReadFile(filepath.Join(p.dir, name))
		if err != nil {
			return nil, err
		}
		f, err := parser.ParseFile(p.fset, filepath.Join(p.dir, name), src, parser.SkipObjectResolution)
		if err != nil {
			return nil, err
		}
		p.sources, p.files = append(p.sources, src), append(p.files, f)
	}
	config := types.Config{Importer: importer.ForCompiler(p.fset, "gc", func(path string) (io.ReadCloser, error) {
		return os.Open(exports[path])
	})}
	if _, err := config.Check(p.path, p.fset, p.files, p.info); err != nil {
		return nil, err
	}
	return p, nil
}

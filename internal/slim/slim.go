// Package slim makes programs for GOOS=js smaller, by a quarter, and their memory at rest by a
// third. [Write] removes code for other platforms from the standard library: the go command's flag
// -overlay replaces a few lines of it. [Pack] removes unused data from the built program.
//
// Such a program loses no functions, with one exception that concerns a host's own templates:
// text/template and html/template then read fields, but call only those methods that pdskit's
// templates call, by their names. A template that calls another one fails with an error that says
// so.
package slim

import (
	"encoding/json"
	"fmt"
	"maps"
	"os"
	"path/filepath"
	"strings"
)

// edit replaces text of a file below GOROOT/src that is there exactly once.
type edit struct{ file, why, old, new string }

var edits = []edit{
	{
		"text/template/exec.go", "A method that is called by its name may be any, so the linker would keep all exported methods of all types",
		"method := ptr.MethodByName(fieldName); method.IsValid()",
		"method := slimMethod(ptr, fieldName); method.IsValid()",
	}, {
		"text/template/exec.go", "See above",
		"// evalField evaluates an expression like (.Field) or (.Field arg1 arg2).",
		lookUp() + "// evalField evaluates an expression like (.Field) or (.Field arg1 arg2).",
	}, {
		"net/http/roundtrip_js.go", "There is fetch, and there are no sockets: neither HTTP/2 nor TLS nor DNS are needed",
		"return t.roundTrip(req)",
		`return nil, errors.New("net/http: there is no fetch function, or the Transport has dial functions, for which there are no sockets")`,
	}, {
		"crypto/tls/conn.go", "A Transport may have connections of TLS, so the linker would keep what they do",
		"func (c *Conn) handshakeContext(ctx context.Context) (ret error) {",
		"func (c *Conn) handshakeContext(ctx context.Context) (ret error) {\n\treturn errors.New(\"tls: there are no sockets\")",
	}, {
		"crypto/tls/conn.go", "See above",
		"func (c *Conn) handlePostHandshakeMessage() error {",
		"func (c *Conn) handlePostHandshakeMessage() error {\n\treturn errors.New(\"tls: there are no sockets\")",
	},
}

// known is the release of Go, without its last number, in which nothing but these two functions
// knows of the table that tableEdits give to the heap.
const known = "go1.26"

// tableEdits give 320 bytes of memory for each function back, some 4 MB in a large program: the
// linker makes a table that finds functions by addresses of 16 bytes, while in WebAssembly each
// function has 65,536 of them. The other table of functions is enough: it is in the order of their
// numbers, and has nearly all. They belong together: without the first, the second takes away what
// is in use.
var tableEdits = []edit{
	{
		"runtime/symtab.go", "",
		`	ffb := (*findfuncbucket)(add(unsafe.Pointer(datap.findfunctab), b*unsafe.Sizeof(findfuncbucket{})))
	idx := ffb.idx + uint32(ffb.subbuckets[i])
`, `	var idx uint32
	if GOARCH == "wasm" {
		idx = uint32(min(uintptr(pcOff-datap.ftab[0].entryoff), uintptr(len(datap.ftab)-2)))
		for idx > 0 && datap.ftab[idx].entryoff > pcOff {
			idx--
		}
	} else {
		ffb := (*findfuncbucket)(add(unsafe.Pointer(datap.findfunctab), b*unsafe.Sizeof(findfuncbucket{})))
		idx = ffb.idx + uint32(ffb.subbuckets[i])
	}
`,
	}, {
		"runtime/mem_sbrk.go", "",
		`	blocMax = bloc
}
`, `	blocMax = bloc
	if GOARCH == "wasm" {
		pcs := firstmoduledata.maxpc - firstmoduledata.minpc
		size := (pcs+4095)/4096*4 + (pcs+255)/256
		start := memRound(firstmoduledata.findfunctab)
		if end := alignDown(firstmoduledata.findfunctab+size, physPageSize); start < end {
			memFree(unsafe.Pointer(start), end-start)
		}
	}
}
`,
	},
}

// Write writes an overlay for the Go release at goroot below dir, and returns its file, which go
// build -overlay reads. missed says what could not be left out: a file of another release of Go may
// have other text. The program is then larger, and as good.
func Write(goroot, dir string) (overlay string, missed []string, err error) {
	if dir, err = filepath.Abs(dir); err != nil {
		return "", nil, err
	}
	version, err := os.ReadFile(filepath.Join(goroot, "VERSION"))
	if err != nil {
		return "", nil, err
	}
	src := source{root: filepath.Join(goroot, "src"), texts: make(map[string]string)}
	for _, e := range edits {
		if ok, err := src.apply(e); err != nil {
			return "", nil, err
		} else if !ok {
			missed = append(missed, fmt.Sprintf("%s: not once in it: %s", e.file, e.old))
		}
	}
	release, _, _ := strings.Cut(string(version), "\n")
	table := strings.HasPrefix(release, known+".")
	if table {
		if table, err = src.apply(tableEdits...); err != nil {
			return "", nil, err
		}
	}
	if !table {
		missed = append(missed, "a table of functions: the release is not one of "+known)
	}
	replace := make(map[string]string)
	for file, text := range src.texts {
		path, name := src.path(file), strings.ReplaceAll(file, "/", "_")
		replace[path] = filepath.Join(dir, name)
		if err := put(replace[path], []byte(text)); err != nil {
			return "", nil, err
		}
	}
	doc, err := json.Marshal(map[string]any{"Replace": replace})
	if err != nil {
		return "", nil, err
	}
	overlay = filepath.Join(dir, "overlay.json")
	return overlay, missed, put(overlay, doc)
}

// source is the source of a release of Go, with edits.
type source struct {
	root  string
	texts map[string]string // of the files that are changed
}

func (s *source) path(file string) string { return filepath.Join(s.root, filepath.FromSlash(file)) }

// apply carries out all edits or, if one of them does not fit, none.
func (s *source) apply(edits ...edit) (ok bool, err error) {
	texts := make(map[string]string)
	for _, e := range edits {
		text, ok := texts[e.file]
		if !ok {
			text, ok = s.texts[e.file]
		}
		if !ok {
			b, err := os.ReadFile(s.path(e.file))
			if err != nil {
				return false, err
			}
			text = string(b)
		}
		if strings.Count(text, e.old) != 1 {
			return false, nil
		}
		texts[e.file] = strings.Replace(text, e.old, e.new, 1)
	}
	maps.Copy(s.texts, texts)
	return true, nil
}

// put writes a file, and the folder that it is in.
func put(path string, b []byte) error {
	if err := os.MkdirAll(filepath.Dir(path), 0o755); err != nil {
		return err
	}
	return os.WriteFile(path, b, 0o644)
}

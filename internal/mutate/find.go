package main

import (
	"fmt"
	"go/ast"
	"go/constant"
	"go/token"
	"go/types"
	"math/rand/v2"
	"slices"
	"strings"
)

// kinds in the order in which they take turns.
var kinds = []string{"negate", "bound", "logic", "error", "early", "const", "remove"}

// mutant is one change of one place.
type mutant struct {
	id       int // from 1, the value of the variable that chooses it
	kind     string
	file     string // its base name
	function string // in which it is
	pos, end token.Pos
	line     int
	from, to string // the place before and after, on one line
	nth      int    // among those of the function that read alike, from 1

	// render returns the text of the place, which does as before unless the mutant is chosen. It
	// gets the text of a part of the place, in which there may be other mutants.
	render func(part func(ast.Node) string) string
}

// key names a mutant in equivalent.txt. It does not change when lines above the function do.
func (m *mutant) key(dir string) string {
	return fmt.Sprintf("%s/%s %s", dir, m.file, m.change())
}

// change says what is changed in which function.
func (m *mutant) change() string {
	nth := ""
	if m.nth > 1 {
		nth = fmt.Sprintf(" (%d)", m.nth)
	}
	return fmt.Sprintf("%s: %s => %s%s", m.function, m.from, m.to, nth)
}

func (m *mutant) String() string {
	return fmt.Sprintf("%s:%d %s: %s", m.file, m.line, m.kind, m.change())
}

// finder collects the mutants of one file.
type finder struct {
	p        *pkg
	file     string
	src      []byte
	stack    []ast.Node
	function string
	found    []*mutant
}

// find returns all mutants of a package, without numbers.
func find(p *pkg) (all []*mutant) {
	for i, f := range p.files {
		src := p.sources[i]
		fd := &finder{p: p, file: p.names[i], src: src}
		for _, d := range f.Decls {
			fd.decl(d)
		}
		alike := map[string]int{}
		for _, m := range fd.found {
			key := m.change()
			alike[key]++
			m.nth = alike[key]
		}
		all = append(all, fd.found...)
	}
	return all
}

// unsaid are functions whose results are for people.
var unsaid = []string{"String", "GoString", "Error", "Format", "LogValue", "init"}

func (f *finder) decl(d ast.Decl) {
	fn, ok := d.(*ast.FuncDecl)
	if !ok || fn.Body == nil || slices.Contains(unsaid, fn.Name.Name) {
		return
	}
	f.function = fn.Name.Name
	if fn.Recv != nil && len(fn.Recv.List) == 1 {
		f.function = strings.TrimLeft(f.text(fn.Recv.List[0].Type), "*") + "." + f.function
	}
	f.stack = []ast.Node{fn}
	ast.Inspect(fn.Body, func(n ast.Node) bool {
		if n == nil {
			f.stack = f.stack[:len(f.stack)-1]
			return false
		}
		if !f.enter(n) {
			return false
		}
		f.stack = append(f.stack, n)
		return true
	})
}

func (f *finder) parent() ast.Node { return f.stack[len(f.stack)-1] }

// source is the text of a node.
func (f *finder) source(n ast.Node) string {
	return string(f.src[f.p.offset(n.Pos()):f.p.offset(n.End())])
}

// text is the same on one line.
func (f *finder) text(n ast.Node) string { return strings.Join(strings.Fields(f.source(n)), " ") }

func (f *finder) add(kind string, n ast.Node, to string, render func(m *mutant, part func(ast.Node) string) string) {
	from := f.text(n)
	const most = 100
	short := func(s string) string {
		if len(s) > most {
			return s[:most] + "…"
		}
		return s
	}
	m := &mutant{kind: kind, file: f.file, function: f.function, pos: n.Pos(), end: n.End(),
		line: f.p.fset.Position(n.Pos()).Line, from: short(from), to: short(to)}
	m.render = func(part func(ast.Node) string) string { return render(m, part) }
	f.found = append(f.found, m)
}

// enter adds the mutants of a node, and says whether to look into it.
func (f *finder) enter(n ast.Node) bool {
	switch n := n.(type) {
	case *ast.GenDecl:
		return n.Tok == token.VAR
	case *ast.ArrayType, *ast.Ellipsis:
		return false // a length is no expression of the program
	case *ast.CallExpr:
		if f.makesError(n) {
			return false
		}
		switch fun := n.Fun.(type) {
		case *ast.Ident:
			if fun.Name == "make" {
				return false
			}
		case *ast.SelectorExpr:
			if id, ok := fun.X.(*ast.Ident); ok && id.Name == "slices" && fun.Sel.Name == "Grow" {
				return false
			}
		}
	case *ast.BinaryExpr:
		f.binary(n)
	case *ast.IfStmt:
		if f.never(n.Cond) && n.Else == nil {
			return false
		}
		f.condition(n.Cond)
		if leaves(n.Body) {
			f.add("early", n.Cond, "never", func(m *mutant, part func(ast.Node) string) string {
				return fmt.Sprintf("(%s) && mutant_ != %d", part(n.Cond), m.id)
			})
		}
	case *ast.ReturnStmt:
		f.returned(n)
	case *ast.ExprStmt, *ast.AssignStmt, *ast.IncDecStmt:
		f.statement(n.(ast.Stmt))
	}
	if e, ok := n.(ast.Expr); ok && f.constant(e) {
		return false
	}
	return true
}

var opposite = map[token.Token]token.Token{
	token.EQL: token.NEQ, token.NEQ: token.EQL,
	token.LSS: token.GEQ, token.GEQ: token.LSS,
	token.GTR: token.LEQ, token.LEQ: token.GTR,
}

var shifted = map[token.Token]token.Token{
	token.LSS: token.LEQ, token.LEQ: token.LSS,
	token.GTR: token.GEQ, token.GEQ: token.GTR,
	token.LAND: token.LOR, token.LOR: token.LAND,
}

func (f *finder) binary(n *ast.BinaryExpr) {
	if f.p.info.Types[n].Value != nil {
		return
	}
	replace := func(kind string, op token.Token) {
		f.add(kind, n, f.text(n.X)+" "+op.String()+" "+f.text(n.Y),
			func(m *mutant, part func(ast.Node) string) string {
				// Other mutants, of the same place too, matter only if this one is not chosen.
				return fmt.Sprintf("(mutant_ == %d && (%s %s %s) || mutant_ != %d && (%s))",
					m.id, f.source(n.X), op, f.source(n.Y), m.id, part(n))
			})
	}
	if op, ok := opposite[n.Op]; ok {
		replace("negate", op)
	}
	if op, ok := shifted[n.Op]; ok {
		kind := "bound"
		if n.Op == token.LAND || n.Op == token.LOR {
			kind = "logic"
		}
		replace(kind, op)
	}
}

// makesError says whether a call, such as that of fmt.Errorf, makes an error with a text that has a
// format: its arguments are for people.
func (f *finder) makesError(n *ast.CallExpr) bool {
	t := f.p.info.Types[n].Type
	if list, ok := t.(*types.Tuple); ok && list.Len() > 0 {
		t = list.At(list.Len() - 1).Type()
	}
	if t == nil || t.String() != "error" {
		return false
	}
	return slices.ContainsFunc(n.Args, func(e ast.Expr) bool {
		v := f.p.info.Types[e].Value
		return v != nil && v.Kind() == constant.String && strings.Contains(constant.StringVal(v), "%")
	})
}

// never says whether a condition is false on the platform for which the package is built.
func (f *finder) never(e ast.Expr) bool {
	if v := f.p.info.Types[e].Value; v != nil {
		return v.Kind() == constant.Bool && !constant.BoolVal(v)
	}
	n, ok := e.(*ast.BinaryExpr)
	return ok && n.Op == token.LAND && (f.never(n.X) || f.never(n.Y))
}

// condition negates a condition that is no comparison.
func (f *finder) condition(e ast.Expr) {
	switch e.(type) {
	case *ast.CallExpr, *ast.Ident, *ast.SelectorExpr, *ast.UnaryExpr:
		f.add("negate", e, "!("+f.text(e)+")", func(m *mutant, part func(ast.Node) string) string {
			return fmt.Sprintf("((%s) != (mutant_ == %d))", part(e), m.id)
		})
	}
}

// leaves says whether a block ends by leaving the one around it, but for a panic.
func leaves(b *ast.BlockStmt) bool {
	if len(b.List) == 0 {
		return false
	}
	switch b.List[len(b.List)-1].(type) {
	case *ast.ReturnStmt, *ast.BranchStmt:
		return true
	}
	return false
}

// returned leaves out an error that is returned.
func (f *finder) returned(n *ast.ReturnStmt) {
	if len(n.Results) == 0 || !f.returnsError(len(n.Results)) || !f.inList() {
		return
	}
	last := n.Results[len(n.Results)-1]
	if isNil(last) {
		return
	}
	f.add("error", n, "return … nil", func(m *mutant, part func(ast.Node) string) string {
		var before strings.Builder
		for _, r := range n.Results[:len(n.Results)-1] {
			before.WriteString(part(r) + ", ")
		}
		return fmt.Sprintf("if mutant_ == %d { return %snil }; return %s%s", m.id, before.String(), before.String(), part(last))
	})
}

// isFailure says whether an expression is a pointer to a type that stands for an error.
func (f *finder) isFailure(e ast.Expr) bool {
	p, ok := f.p.info.Types[e].Type.(*types.Pointer)
	if !ok {
		return false
	}
	named, ok := p.Elem().(*types.Named)
	return ok && (named.Obj().Name() == "Error" || named.Obj().Name() == "failure")
}

func isNil(e ast.Expr) bool {
	id, ok := e.(*ast.Ident)
	return ok && id.Name == "nil"
}

// returnsError says whether the function that encloses has so many results, the last an error.
func (f *finder) returnsError(results int) bool {
	for _, n := range slices.Backward(f.stack) {
		var t *ast.FuncType
		switch n := n.(type) {
		case *ast.FuncLit:
			t = n.Type
		case *ast.FuncDecl:
			t = n.Type
		default:
			continue
		}
		if t.Results == nil || t.Results.NumFields() != results {
			return false
		}
		id, ok := t.Results.List[len(t.Results.List)-1].Type.(*ast.Ident)
		return ok && id.Name == "error"
	}
	return false
}

// inList says whether the present node is a statement of a block, not a part of another one.
func (f *finder) inList() bool {
	switch f.parent().(type) {
	case *ast.BlockStmt, *ast.CaseClause, *ast.CommClause:
		return true
	}
	return false
}

// kept are calls whose absence costs time or memory, or stops everything.
var kept = []string{"panic", "Lock", "Unlock", "RLock", "RUnlock", "Close", "Done", "Stop", "Grow", "Helper"}

// statement leaves out a call or an assignment.
func (f *finder) statement(n ast.Stmt) {
	if !f.inList() {
		return
	}
	if c, ok := f.parent().(*ast.CommClause); ok && c.Comm == n {
		return
	}
	switch n := n.(type) {
	case *ast.ExprStmt:
		call, ok := n.X.(*ast.CallExpr)
		if !ok {
			return
		}
		switch fun := call.Fun.(type) {
		case *ast.Ident:
			if slices.Contains(kept, fun.Name) {
				return
			}
		case *ast.SelectorExpr:
			if slices.Contains(kept, fun.Sel.Name) || fun.Sel.Name == "Put" && f.isPool(fun.X) {
				return
			}
		}
	case *ast.AssignStmt:
		if n.Tok == token.DEFINE {
			return
		}
		if id, ok := n.Lhs[0].(*ast.Ident); ok && id.Name == "_" {
			return
		}
	}
	f.add("remove", n, "nothing", func(m *mutant, part func(ast.Node) string) string {
		return fmt.Sprintf("if mutant_ != %d { %s }", m.id, part(n))
	})
}

// isPool says whether an expression is a sync.Pool, without which memory is only allocated anew.
func (f *finder) isPool(e ast.Expr) bool {
	t := f.p.info.Types[e].Type
	return t != nil && strings.TrimPrefix(t.String(), "*") == "sync.Pool"
}

// constant makes an integer constant one greater. It says whether the expression is a constant.
func (f *finder) constant(e ast.Expr) bool {
	tv := f.p.info.Types[e]
	if tv.Value == nil {
		return false
	}
	basic, ok := tv.Type.(*types.Basic)
	if !ok || tv.Value.Kind() != constant.Int || basic.Info()&types.IsInteger == 0 || basic.Info()&types.IsUntyped != 0 {
		return true
	}
	switch p := f.parent().(type) {
	case *ast.KeyValueExpr:
		if p.Key == e {
			return true
		}
	case *ast.BinaryExpr:
		if p.Op == token.SHL || p.Op == token.SHR {
			return true // a shift by an untyped constant has other rules
		}
	case *ast.ReturnStmt:
		if (f.returnsError(len(p.Results)) || f.isFailure(p.Results[len(p.Results)-1])) && !isNil(p.Results[len(p.Results)-1]) {
			return true // nobody looks at what comes with an error
		}
	}
	f.add("const", e, f.text(e)+" + 1", func(m *mutant, part func(ast.Node) string) string {
		return fmt.Sprintf("((%s) + mutantOne_[%s](%d))", part(e), basic.Name(), m.id)
	})
	return true
}

// sample takes n mutants; kinds take turns.
func sample(all []*mutant, n int, seed uint64) (taken []*mutant) {
	random := rand.New(rand.NewPCG(seed, 0))
	left := map[string][]*mutant{}
	for _, m := range all {
		left[m.kind] = append(left[m.kind], m)
	}
	for _, k := range kinds {
		random.Shuffle(len(left[k]), func(i, j int) { left[k][i], left[k][j] = left[k][j], left[k][i] })
	}
	for len(taken) < min(n, len(all)) {
		for _, k := range kinds {
			if of := left[k]; len(of) > 0 && len(taken) < n {
				taken, left[k] = append(taken, of[0]), of[1:]
			}
		}
	}
	for i, m := range taken {
		m.id = i + 1
	}
	return taken
}

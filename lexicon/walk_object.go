package lexicon

import (
	"cmp"
	"maps"
	"slices"
)

type objectNode struct {
	name     string // of the definition; empty: none, and "$type" may be anything
	typed    bool   // "$type" must be there
	props    []propNode
	required int // how many of props are
}

type propNode struct {
	name               string
	required, nullable bool
	node               node
}

func (n *objectNode) check(w *walk, v any) bool {
	m, ok := v.(map[string]any)
	if !ok {
		return w.fail("type", "must be an object")
	}
	if n.name != "" {
		if t, there := m["$type"]; there && t != n.name || !there && n.typed {
			w.fail("$type", "must have the $type "+quote(n.name))
			w.below(len(w.errs)-1, "$type")
			return false
		}
	}
	return n.checkProps(w, m)
}

// manyProps is the number of properties from which on an object with few of them is walked by
// its own keys: the cost must not be that of the schema's size for each of a great number of
// small objects.
const manyProps = 32

func (n *objectNode) checkProps(w *walk, m map[string]any) bool {
	if len(n.props) > manyProps && len(m) < len(n.props)/4 && len(m) >= n.required {
		return n.checkSparse(w, m)
	}
	ok := true
	for i := range n.props {
		p := &n.props[i]
		v, there := m[p.name]
		if !there {
			if !p.required {
				continue
			}
			ok = w.fail("required", "must have the property "+quote(p.name))
		} else if !p.check(w, v) {
			ok = false
		}
		if !ok && w.done() {
			return false
		}
	}
	return ok
}

// checkSparse is checkProps for few keys of many properties.
func (n *objectNode) checkSparse(w *walk, m map[string]any) bool {
	ok, required := true, 0
	for _, key := range slices.Sorted(maps.Keys(m)) {
		i, found := slices.BinarySearchFunc(n.props, key, func(p propNode, key string) int { return cmp.Compare(p.name, key) })
		if !found {
			continue
		}
		p := &n.props[i]
		if p.required {
			required++
		}
		if !p.check(w, m[key]) {
			if ok = false; w.done() {
				return false
			}
		}
	}
	if required == n.required {
		return ok
	}
	for i := range n.props {
		if p := &n.props[i]; p.required {
			if _, there := m[p.name]; !there {
				w.fail("required", "must have the property "+quote(p.name))
				if w.done() {
					break
				}
			}
		}
	}
	return false
}

func (p *propNode) check(w *walk, v any) bool {
	if v == nil && p.nullable {
		return true
	}
	from := len(w.errs)
	if p.node.check(w, v) {
		return true
	}
	w.below(from, p.name)
	return false
}

type arrayNode struct {
	bounds
	items node
}

func (n *arrayNode) check(w *walk, v any) bool {
	list, ok := v.([]any)
	if !ok {
		return w.fail("type", "must be an array")
	}
	if ok = n.length(w, len(list), "minLength", "maxLength", "elements"); !ok && w.done() {
		return false
	}
	for i, x := range list {
		from := len(w.errs)
		if !n.items.check(w, x) {
			w.belowIndex(from, i)
			if ok = false; w.done() {
				return false
			}
		}
	}
	return ok
}

type unionNode struct {
	variants map[string]node // by full name
	closed   bool
}

func (n *unionNode) check(w *walk, v any) bool {
	m, ok := v.(map[string]any)
	if !ok {
		return w.fail("type", "must be an object with a $type")
	}
	t, ok := m["$type"].(string)
	if !ok || t == "" {
		return w.fail("$type", "must have a $type")
	}
	switch n := n.variants[t].(type) {
	case *objectNode:
		return n.checkProps(w, m)
	case node:
		return n.check(w, v)
	}
	if n.closed {
		w.fail("$type", "must be one of "+listed(slices.Sorted(maps.Keys(n.variants)), quote))
		w.below(len(w.errs)-1, "$type")
		return false
	}
	return true
}

type unknownNode struct{}

func (unknownNode) check(w *walk, v any) bool {
	if m, ok := v.(map[string]any); !ok || m["$type"] == "blob" {
		return w.fail("type", "must be an object, and not a blob")
	}
	return true
}

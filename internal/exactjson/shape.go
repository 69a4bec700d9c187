package exactjson

import (
	"encoding"
	"encoding/json"
	"reflect"
	"strings"
	"sync"
)

// shape is what a type makes of an array or object.
type shape struct {
	elem   reflect.Type            // of the elements of a slice, array or map; nil: without fields
	fields map[string]reflect.Type // of a struct, by the names in their tags; nil: it is no struct
	loose  map[string]reflect.Type // those without a name in a tag, by the names in Go
}

var (
	opaque = &shape{} // a type without fields, or one that decodes itself
	shapes sync.Map   // reflect.Type to *shape
)

// member returns the type of a member; the field without a tag that it is, or ""; and whether it must
// be hidden: its name is that in a tag except for case.
func (sh *shape) member(name []byte) (t reflect.Type, loose string, hide bool) {
	if sh.fields == nil {
		return sh.elem, "", false
	}
	if t, ok := sh.fields[string(name)]; ok {
		return t, "", false
	}
	given := string(name)
	for field := range sh.fields {
		if strings.EqualFold(given, field) {
			return nil, "", true
		}
	}
	for field, t := range sh.loose {
		if strings.EqualFold(given, field) {
			return t, field, false
		}
	}
	return nil, "", false
}

var (
	jsonType = reflect.TypeFor[json.Unmarshaler]()
	textType = reflect.TypeFor[encoding.TextUnmarshaler]()
)

// implements reports whether a type, or a pointer to it, decodes itself.
func implements(t reflect.Type) bool {
	return t.Implements(jsonType) || t.Implements(textType) ||
		reflect.PointerTo(t).Implements(jsonType) || reflect.PointerTo(t).Implements(textType)
}

// shapeOf returns the shape of a type.
func shapeOf(t reflect.Type) *shape {
	if t == nil {
		return opaque
	}
	if known, ok := shapes.Load(t); ok {
		return known.(*shape)
	}
	sh := newShape(t)
	shapes.Store(t, sh)
	return sh
}

func newShape(t reflect.Type) *shape {
	for ; !implements(t); t = t.Elem() {
		switch t.Kind() {
		case reflect.Pointer:
			continue
		case reflect.Slice, reflect.Array, reflect.Map:
			return &shape{elem: t.Elem()}
		case reflect.Struct:
			sh := &shape{fields: make(map[string]reflect.Type), loose: make(map[string]reflect.Type)}
			sh.addFields(t)
			return sh
		}
		return opaque
	}
	return opaque
}

// addFields adds the fields of a struct. Those of embedded structs come after it, level by level, and
// take no name of another one, as encoding/json has it. Where that would see a conflict and ignore a
// name, the name is known here, which makes no difference.
func (sh *shape) addFields(t reflect.Type) {
	seen := map[reflect.Type]bool{t: true}
	for level := []reflect.Type{t}; len(level) > 0; {
		var next []reflect.Type
		for _, t := range level {
			for i := range t.NumField() {
				f := t.Field(i)
				tag := f.Tag.Get("json")
				name, _, _ := strings.Cut(tag, ",")
				inner := f.Type
				if inner.Kind() == reflect.Pointer {
					inner = inner.Elem()
				}
				switch {
				case tag == "-":
				case f.Anonymous && name == "" && inner.Kind() == reflect.Struct:
					if !seen[inner] {
						seen[inner] = true
						next = append(next, inner)
					}
				case f.IsExported():
					names := sh.fields
					if name == "" {
						name, names = f.Name, sh.loose
					}
					if _, taken := names[name]; !taken {
						names[name] = f.Type
					}
				}
			}
		}
		level = next
	}
}

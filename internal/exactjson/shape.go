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
	elem     reflect.Type            // of the elements of a slice, array or map; nil: without fields
	fields   map[string]reflect.Type // of a struct, by their names in JSON; nil: it is no struct
	untagged map[string]bool         // the names of those that have none in a tag
}

var (
	opaque = &shape{} // a type without fields, or one that decodes itself
	shapes sync.Map   // reflect.Type to *shape
)

// member returns the type of a member, and the name of the field that it goes to, or "". The name
// is not that of the member if they differ in case only: then the member must be hidden, unless the
// field takes names in any case.
func (sh *shape) member(name []byte) (t reflect.Type, field string) {
	if sh.fields == nil {
		return sh.elem, ""
	}
	given := string(name)
	if t, ok := sh.fields[given]; ok {
		return t, given
	}
	for field, t := range sh.fields {
		if strings.EqualFold(given, field) {
			return t, field
		}
	}
	return nil, ""
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
			sh := &shape{fields: make(map[string]reflect.Type), untagged: make(map[string]bool)}
			sh.addFields(t)
			return sh
		}
		return opaque
	}
	return opaque
}

// addFields adds the fields of a struct. Those of embedded structs come after it, level by level,
// and take no name of another one, as encoding/json has it. Where that would see a conflict and
// ignore a name, the name is known here, which makes no difference.
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
					untagged := name == ""
					if untagged {
						name = f.Name
					}
					if _, taken := sh.fields[name]; !taken {
						sh.fields[name] = f.Type
						sh.untagged[name] = untagged
					}
				}
			}
		}
		level = next
	}
}

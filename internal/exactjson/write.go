package exactjson

import (
	"encoding"
	"encoding/json"
	"reflect"
	"strings"
	"sync"
)

// Marshal is json.Marshal, except that a nil slice becomes an empty array and a nil map an empty
// object: a list that has nothing in it is no null to other readers. Fields with the options
// omitempty and omitzero are left out as ever. What is in interfaces, byte slices, and types that
// encode themselves is as json.Marshal has it.
//
// The value is not changed, so that it may be shared.
func Marshal(v any) ([]byte, error) {
	if given := reflect.ValueOf(v); given.IsValid() {
		if p := listsOf(given.Type()); p != nil && p.lack(given, 0) {
			full := reflect.New(given.Type()).Elem()
			full.Set(given)
			p.fill(full, 0)
			v = full.Interface()
		}
	}
	return json.Marshal(v)
}

// lists is where a type has slices and maps that may be nil. A nil *lists: nowhere.
type lists struct {
	kind   reflect.Kind
	elem   *lists // of a slice, array, map or pointer
	fields []listField
}

// listField is a field of a struct.
type listField struct {
	*lists
	index   int
	omitted bool // if it is nil
}

// maxWritten is how deep values are followed. encoding/json refuses those that contain themselves,
// somewhat deeper.
const maxWritten = 1000

var allLists sync.Map // reflect.Type to *lists

func listsOf(t reflect.Type) *lists {
	if known, ok := allLists.Load(t); ok {
		return known.(*lists)
	}
	p := findLists(t, make(map[reflect.Type]*lists))
	allLists.Store(t, p)
	return p
}

// findLists makes the lists of a type. open has those that are being made: they may contain
// themselves.
func findLists(t reflect.Type, open map[reflect.Type]*lists) *lists {
	if p, ok := open[t]; ok {
		return p
	}
	if writesItself(t) {
		return nil
	}
	p := &lists{kind: t.Kind()}
	open[t] = p
	defer delete(open, t)
	switch p.kind {
	case reflect.Slice:
		if t.Elem().Kind() == reflect.Uint8 {
			return nil
		}
		p.elem = findLists(t.Elem(), open)
		return p
	case reflect.Map:
		p.elem = findLists(t.Elem(), open)
		return p
	case reflect.Array, reflect.Pointer:
		if p.elem = findLists(t.Elem(), open); p.elem != nil {
			return p
		}
	case reflect.Struct:
		for i := range t.NumField() {
			f := t.Field(i)
			tag := f.Tag.Get("json")
			if tag == "-" || !f.IsExported() && !(f.Anonymous && f.Type.Kind() == reflect.Struct) {
				continue
			}
			if inner := findLists(f.Type, open); inner != nil {
				p.fields = append(p.fields, listField{inner, i, strings.Contains(tag, ",omit")})
			}
		}
		if p.fields != nil {
			return p
		}
	}
	return nil
}

// writesItself reports whether a type, or a pointer to it, encodes itself.
func writesItself(t reflect.Type) bool {
	own, text := reflect.TypeFor[json.Marshaler](), reflect.TypeFor[encoding.TextMarshaler]()
	return t.Implements(own) || t.Implements(text) || reflect.PointerTo(t).Implements(own) || reflect.PointerTo(t).Implements(text)
}

// lack reports whether a value has a nil slice or map.
func (p *lists) lack(v reflect.Value, depth int) bool {
	if p == nil || depth > maxWritten {
		return false
	}
	switch p.kind {
	case reflect.Struct:
		for _, f := range p.fields {
			x := v.Field(f.index)
			if !(f.omitted && f.nillable() && x.IsNil()) && f.lack(x, depth+1) {
				return true
			}
		}
	case reflect.Pointer:
		return !v.IsNil() && p.elem.lack(v.Elem(), depth+1)
	case reflect.Slice, reflect.Array:
		if p.kind == reflect.Slice && v.IsNil() {
			return true
		}
		if p.elem != nil {
			for i := range v.Len() {
				if p.elem.lack(v.Index(i), depth+1) {
					return true
				}
			}
		}
	case reflect.Map:
		if v.IsNil() {
			return true
		}
		if p.elem != nil {
			for it := v.MapRange(); it.Next(); {
				if p.elem.lack(it.Value(), depth+1) {
					return true
				}
			}
		}
	}
	return false
}

func (p *lists) nillable() bool { return p.kind == reflect.Slice || p.kind == reflect.Map }

// fill replaces nil slices and maps of a variable. What it points to is copied first.
func (p *lists) fill(v reflect.Value, depth int) {
	if !p.lack(v, depth) {
		return
	}
	switch p.kind {
	case reflect.Struct:
		for _, f := range p.fields {
			x := v.Field(f.index)
			if !(f.omitted && f.nillable() && x.IsNil()) {
				f.fill(x, depth+1)
			}
		}
	case reflect.Pointer:
		own := reflect.New(v.Type().Elem())
		own.Elem().Set(v.Elem())
		p.elem.fill(own.Elem(), depth+1)
		v.Set(own)
	case reflect.Array:
		for i := range v.Len() {
			p.elem.fill(v.Index(i), depth+1)
		}
	case reflect.Slice:
		own := reflect.MakeSlice(v.Type(), v.Len(), v.Len())
		reflect.Copy(own, v)
		for i := range v.Len() {
			p.elem.fill(own.Index(i), depth+1)
		}
		v.Set(own)
	case reflect.Map:
		own := reflect.MakeMapWithSize(v.Type(), v.Len())
		for it := v.MapRange(); it.Next(); {
			x := reflect.New(v.Type().Elem()).Elem()
			x.Set(it.Value())
			p.elem.fill(x, depth+1)
			own.SetMapIndex(it.Key(), x)
		}
		v.Set(own)
	}
}

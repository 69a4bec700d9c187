package xrpc

import (
	"encoding/json"
	"errors"
	"fmt"
	"net/http"
	"net/url"
	"reflect"
	"strconv"
	"strings"
)

// Limits on a query string.
const (
	maxQuery  = 64 << 10
	maxParams = 2000
)

// parseQuery reads a query string within bounds.
func parseQuery(raw string) (url.Values, error) {
	if raw == "" {
		return nil, nil
	}
	if len(raw) > maxQuery || strings.Count(raw, "&") >= maxParams {
		return nil, &Error{Status: http.StatusRequestURITooLong, Name: "InvalidRequest", Message: "The query string is too long"}
	}
	q, err := url.ParseQuery(raw)
	if err != nil {
		return nil, InvalidRequest("Malformed query string: %v", err)
	}
	return q, nil
}

// params validates the parameters and sets the fields of a struct.
func (r *Request) params(fields []paramField, to reflect.Value) error {
	query, err := parseQuery(r.URL.RawQuery)
	if err != nil {
		return err
	}
	if r.method != nil {
		values, err := r.server.Catalog.Params(r.NSID, query)
		if err != nil {
			return InvalidRequest("%s", err)
		}
		return setParams(fields, to, func(name string) any { return values[name] })
	}
	return setParams(fields, to, func(name string) any {
		if given := query[name]; len(given) > 0 {
			return given
		}
		return nil
	})
}

// paramField is a field of a struct of parameters.
type paramField struct {
	name  string
	index int
}

// paramFields lists the fields of a struct of parameters. It panics if the type is
// no such struct: that is a mistake in the program.
func paramFields(t reflect.Type) (fields []paramField) {
	if t.Kind() != reflect.Struct {
		panic(fmt.Sprintf("xrpc: parameters must be a struct, not %s", t))
	}
	for i := range t.NumField() {
		f := t.Field(i)
		name, _, _ := strings.Cut(f.Tag.Get("json"), ",")
		if name == "" || name == "-" || !f.IsExported() {
			continue
		}
		elem := f.Type
		for elem.Kind() == reflect.Slice || elem.Kind() == reflect.Pointer {
			elem = elem.Elem()
		}
		switch elem.Kind() {
		case reflect.String, reflect.Bool, reflect.Int, reflect.Int64:
		default:
			panic(fmt.Sprintf("xrpc: parameter %s of %s cannot be a %s", name, t, f.Type))
		}
		fields = append(fields, paramField{name, i})
	}
	return fields
}

// setParams sets the fields for which there are values. Others stay as they are.
func setParams(fields []paramField, to reflect.Value, value func(name string) any) error {
	for _, f := range fields {
		if v := value(f.name); v != nil {
			if err := setParam(to.Field(f.index), v); err != nil {
				return InvalidRequest("Invalid parameter %s: %v", f.name, err)
			}
		}
	}
	return nil
}

// setParam sets one field to a value that a catalog decoded, or to what the query
// string has: []string.
func setParam(f reflect.Value, value any) error {
	switch f.Kind() {
	case reflect.Slice:
		return setSlice(f, value)
	case reflect.Pointer:
		p := reflect.New(f.Type().Elem())
		if err := setParam(p.Elem(), value); err != nil {
			return err
		}
		f.Set(p)
		return nil
	}
	switch v := value.(type) {
	case []string:
		return setText(f, v[0])
	case string:
		return setText(f, v)
	case bool:
		if f.Kind() == reflect.Bool {
			f.SetBool(v)
			return nil
		}
	case int64:
		if f.CanInt() && !f.OverflowInt(v) {
			f.SetInt(v)
			return nil
		}
	}
	return fmt.Errorf("must be a %s", f.Kind())
}

func setSlice(f reflect.Value, value any) error {
	var n int
	var at func(i int) any
	switch v := value.(type) {
	case []string:
		n, at = len(v), func(i int) any { return v[i] }
	case []any:
		n, at = len(v), func(i int) any { return v[i] }
	default:
		n, at = 1, func(int) any { return value }
	}
	list := reflect.MakeSlice(f.Type(), n, n)
	for i := range n {
		if err := setParam(list.Index(i), at(i)); err != nil {
			return err
		}
	}
	f.Set(list)
	return nil
}

// setText sets a field that is no list from text.
func setText(f reflect.Value, s string) error {
	switch f.Kind() {
	case reflect.String:
		f.SetString(s)
	case reflect.Bool:
		if s != "true" && s != "false" {
			return errors.New("must be true or false")
		}
		f.SetBool(s == "true")
	default:
		n, err := strconv.ParseInt(s, 10, 64)
		if err != nil || f.OverflowInt(n) {
			return errors.New("must be an integer")
		}
		f.SetInt(n)
	}
	return nil
}

// jsonDetail says what is wrong with a body, without the names of Go.
func jsonDetail(err error) string {
	var typ *json.UnmarshalTypeError
	switch {
	case errors.As(err, &typ) && typ.Field != "":
		return fmt.Sprintf("%s must not be of type %s", typ.Field, typ.Value)
	case errors.As(err, &typ):
		return "it must be an object"
	}
	return strings.TrimPrefix(err.Error(), "json: ")
}

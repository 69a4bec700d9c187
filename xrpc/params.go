package xrpc

import (
	"encoding/json"
	"errors"
	"fmt"
	"net/url"
	"reflect"
	"strconv"
	"strings"
)

// Bounds on a query string.
const (
	maxQuery  = 64 << 10
	maxParams = 2000
)

// parseQuery reads a query string within bounds.
func parseQuery(raw string) (url.Values, error) {
	if len(raw) > maxQuery || strings.Count(raw, "&") >= maxParams {
		return nil, &Error{Status: 414, Name: "InvalidRequest", Message: "The query string is too long"}
	}
	q, err := url.ParseQuery(raw)
	if err != nil {
		return nil, InvalidRequest("Malformed query string: %v", err)
	}
	return q, nil
}

// paramStrings turns validated parameters back into what setParam reads.
func paramStrings(values map[string]any) url.Values {
	q := make(url.Values, len(values))
	for name, v := range values {
		list, ok := v.([]any)
		if !ok {
			list = []any{v}
		}
		for _, x := range list {
			q.Add(name, fmt.Sprint(x))
		}
	}
	return q
}

// decodeParams sets the fields of the struct that to points to, by their JSON names.
// Absent parameters leave fields as they are; unknown ones are ignored.
func decodeParams(query url.Values, to any) error {
	v := reflect.ValueOf(to).Elem()
	for i := range v.NumField() {
		name, _, _ := strings.Cut(v.Type().Field(i).Tag.Get("json"), ",")
		values := query[name]
		if name == "" || len(values) == 0 {
			continue
		}
		if err := setParam(v.Field(i), values); err != nil {
			return InvalidRequest("Invalid parameter %s: %v", name, err)
		}
	}
	return nil
}

// setParam sets one field.
func setParam(f reflect.Value, values []string) error {
	switch f.Kind() {
	case reflect.Slice:
		list := reflect.MakeSlice(f.Type(), len(values), len(values))
		for i := range values {
			if err := setParam(list.Index(i), values[i:i+1]); err != nil {
				return err
			}
		}
		f.Set(list)
	case reflect.Pointer:
		p := reflect.New(f.Type().Elem())
		if err := setParam(p.Elem(), values); err != nil {
			return err
		}
		f.Set(p)
	case reflect.String:
		f.SetString(values[0])
	case reflect.Bool:
		switch values[0] {
		case "true":
			f.SetBool(true)
		case "false":
			f.SetBool(false)
		default:
			return errors.New("must be true or false")
		}
	case reflect.Int, reflect.Int64:
		n, err := strconv.ParseInt(values[0], 10, 64)
		if err != nil {
			return errors.New("must be an integer")
		}
		f.SetInt(n)
	default:
		return fmt.Errorf("cannot be read into a %s", f.Type())
	}
	return nil
}

// jsonDetail says what is wrong with a body, without the names of Go.
func jsonDetail(err error) string {
	var syn *json.SyntaxError
	var typ *json.UnmarshalTypeError
	switch {
	case errors.As(err, &syn):
		return fmt.Sprintf("%v at byte %d", syn, syn.Offset)
	case errors.As(err, &typ) && typ.Field != "":
		return fmt.Sprintf("%s must not be of type %s", typ.Field, typ.Value)
	case errors.As(err, &typ):
		return "it must be an object"
	}
	return strings.TrimPrefix(err.Error(), "json: ")
}

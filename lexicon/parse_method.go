package lexicon

import "strings"

func (r *reader) method(name string, o object, desc string) Type {
	var params *Params
	var errs []MethodError
	r.field(o, "parameters", func(v any) { params = r.params(v) })
	r.field(o, "errors", func(v any) {
		r.each(v, func(v any) {
			o := r.asObject(v)
			e := MethodError{Description: r.description(o)}
			r.need(o, "name", func(v any) {
				if e.Name = r.asText(v); e.Name == "" || strings.ContainsAny(e.Name, " \t\r\n") {
					r.fail("the name of an error must be one word")
				}
			})
			errs = append(errs, e)
		})
	})
	if name != "procedure" {
		r.field(o, "input", func(any) { r.fail("only a procedure has an input") })
	}
	switch name {
	case "query":
		return &Query{desc, params, r.body(o, "output"), errs}
	case "procedure":
		return &Procedure{desc, params, r.body(o, "input"), r.body(o, "output"), errs}
	default:
		t := &Subscription{Description: desc, Parameters: params, Errors: errs}
		r.need(o, "message", func(v any) {
			o := r.asObject(v)
			r.description(o)
			r.need(o, "schema", func(v any) { t.Message, _ = r.typ(v, []string{"union"}).(*Union) })
		})
		return t
	}
}

func (r *reader) params(v any) *Params {
	o := r.asObject(v)
	r.need(o, "type", func(v any) {
		if v != "params" {
			r.fail(`must be "params"`)
		}
	})
	return &Params{r.description(o), r.properties(o, r.param)}
}

// param reads a query parameter.
func (r *reader) param(v any) Type {
	o, _ := v.(map[string]any)
	if o["type"] == "array" {
		return r.array(o, r.description(o), scalarTypes)
	}
	return r.typ(v, scalarTypes)
}

func (r *reader) body(o object, name string) (b *Body) {
	r.field(o, name, func(v any) {
		o := r.asObject(v)
		b = &Body{Description: r.description(o)}
		r.need(o, "encoding", func(v any) {
			if b.Encoding = r.asText(v); !isMIMEPattern(b.Encoding) {
				r.fail("%s is not a media type without parameters", quote(b.Encoding))
			}
		})
		r.field(o, "schema", func(v any) { b.Schema = r.typ(v, bodyTypes) })
	})
	return b
}

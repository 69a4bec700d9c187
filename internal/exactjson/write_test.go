package exactjson

import (
	"encoding/json"
	"reflect"
	"testing"

	"github.com/google/go-cmp/cmp"
)

type leaf struct {
	Names []string `json:"names"`
}

type mid struct {
	Left   []string `json:"left,omitempty"`
	Zero   []leaf   `json:"zero,omitzero"`
	Bytes  []byte   `json:"bytes"`
	hidden []string
	leaf
}

type tree struct {
	Map      map[string]leaf `json:"map"`
	Pointer  *mid            `json:"pointer"`
	Mids     []mid           `json:"mids"`
	Array    [1]leaf         `json:"array"`
	Any      any             `json:"any"`
	Raw      json.RawMessage `json:"raw"`
	Children []*tree         `json:"children,omitempty"`
	Skipped  []string        `json:"-"`
	Plain    []string
}

func TestMarshalHasNoNullLists(t *testing.T) {
	shared := []mid{{Zero: []leaf{{}}, hidden: []string{"x"}}}
	in := tree{
		Pointer: &mid{Left: []string{}}, Mids: shared, Map: map[string]leaf{"a": {}}, Any: []string(nil),
		Children: []*tree{nil, {}},
	}
	before, err := json.Marshal(in)
	if err != nil {
		t.Fatal(err)
	}
	got, err := Marshal(in)
	if err != nil {
		t.Fatal(err)
	}
	const empty = `"bytes":null,"names":[]`
	want := `{"map":{"a":{"names":[]}},"pointer":{` + empty + `},"mids":[{"zero":[{"names":[]}],` + empty + `}],"array":[{"names":[]}],"any":null,"raw":null,` +
		`"children":[null,{"map":{},"pointer":null,"mids":[],"array":[{"names":[]}],"any":null,"raw":null,"Plain":[]}],"Plain":[]}`
	if string(got) != want {
		t.Errorf("%s\nwant\n%s", got, want)
	}
	if after, _ := json.Marshal(in); string(after) != string(before) || shared[0].Zero[0].Names != nil {
		t.Errorf("the value was changed: %s", after)
	}
	for _, v := range []any{nil, 1, []string(nil), map[string]int(nil), (*tree)(nil), &tree{}, tree{}, []leaf{{}}} {
		if _, err := Marshal(v); err != nil {
			t.Errorf("%T: %v", v, err)
		}
	}
}

// TestMarshalIsMarshal: a value without nil lists is written as encoding/json writes it.
func TestMarshalIsMarshal(t *testing.T) {
	in := tree{Map: map[string]leaf{}, Mids: []mid{}, Array: [1]leaf{{[]string{"<&>"}}}, Plain: []string{}, Any: 1.5, Raw: json.RawMessage(`{"a": 1}`)}
	want, err := json.Marshal(in)
	if err != nil {
		t.Fatal(err)
	}
	got, err := Marshal(&in)
	if diff := cmp.Diff(string(want), string(got)); diff != "" || err != nil {
		t.Error(diff, err)
	}
	if listsOf(reflect.TypeFor[struct{ A, B string }]()) != nil {
		t.Error("a type without lists is walked")
	}
}

// TestMarshalOfCycles: what contains itself is an error, not the end of the program.
func TestMarshalOfCycles(t *testing.T) {
	x := &tree{Map: map[string]leaf{}, Mids: []mid{}, Array: [1]leaf{{[]string{}}}, Plain: []string{}}
	x.Children = []*tree{x}
	if _, err := Marshal(x); err == nil {
		t.Error("no error")
	}
	x.Plain = nil
	if _, err := Marshal(x); err == nil {
		t.Error("no error")
	}
}

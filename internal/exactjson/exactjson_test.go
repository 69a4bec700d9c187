package exactjson

import (
	"bytes"
	"encoding/json"
	"errors"
	"fmt"
	"strings"
	"testing"
	"time"

	"github.com/google/go-cmp/cmp"
)

type inner struct {
	Collection string `json:"collection"`
	K          string `json:"key"`
}

type embedded struct {
	Deep  string `json:"deep"`
	Shown inner  `json:"shown"`
}

// selfReading decodes itself, exactly.
type selfReading struct{ Name string }

func (x *selfReading) UnmarshalJSON(b []byte) error {
	var in struct {
		Name string `json:"name"`
	}
	err := Unmarshal(b, &in)
	x.Name = in.Name
	return err
}

type sample struct {
	Collection string            `json:"collection"`
	Plain      string            // without a tag
	Left       string            `json:"-"`
	Number     *int64            `json:"n,omitempty"`
	List       []inner           `json:"list"`
	Map        map[string]inner  `json:"map"`
	Pointer    *inner            `json:"pointer"`
	Array      [2]inner          `json:"array"`
	Raw        json.RawMessage   `json:"raw"`
	Any        any               `json:"any"`
	Self       selfReading       `json:"self"`
	Texts      map[string]string `json:"texts"`
	When       time.Time         `json:"when"`
	embedded
}

func TestNamesInAnotherCaseAreUnknown(t *testing.T) {
	for in, want := range map[string]sample{
		`{"collection":"a","Collection":"b"}`:                                    {Collection: "a"},
		`{"Collection":"b","collection":"a"}`:                                    {Collection: "a"},
		`{"COLLECTION":"b"}`:                                                     {},
		`{"\u0043ollection":"b","\u0063ollection":"a"}`:                          {Collection: "a"},
		`{"collection":"a","colleCtion":{"x":[1]}}`:                              {Collection: "a"},
		`{"list":[{"collection":"a","Collection":"b"},{"Key":"x","key":"y"}]}`:   {List: []inner{{Collection: "a"}, {K: "y"}}},
		`{"list":[{"` + "\u212a" + `ey":"kelvin"}]}`:                             {List: []inner{{}}},
		`{"map":{"Collection":{"Collection":"b"},"collection":{}}}`:              {Map: map[string]inner{"Collection": {}, "collection": {}}},
		`{"pointer":{"Collection":"b"}}`:                                         {Pointer: &inner{}},
		`{"array":[{"Collection":"b"},{"collection":"a"}]}`:                      {Array: [2]inner{{}, {Collection: "a"}}},
		`{"raw":{"Collection":"b","collection":1}}`:                              {Raw: json.RawMessage(`{"Collection":"b","collection":1}`)},
		`{"any":{"Collection":"b","collection":"a"}}`:                            {Any: map[string]any{"Collection": "b", "collection": "a"}},
		`{"self":{"Name":"b"}}`:                                                  {},
		`{"self":{"name":"a","NAME":"b"}}`:                                       {Self: selfReading{"a"}},
		`{"texts":{"a":"1","A":"2"}}`:                                            {Texts: map[string]string{"a": "1", "A": "2"}},
		`{"plain":"a"}`:                                                          {},
		`{"Plain":"a","plain":"b","PLAIN":"c"}`:                                  {Plain: "a"},
		`{"plain":"b","\u0050lain":"a"}`:                                         {Plain: "a"},
		`{"` + "\u017f" + `elf":{"name":"long s"},"li` + "\u017f" + `t":[{}]}`:   {},
		`{"When":"2026-01-01T00:00:00Z","SHOWN":{"key":"b"},"texts":null}`:       {},
		`{"Plain":"a","left":"b","Left":"b","-":"b","K":1,"unknown":{"a":[{}]}}`: {Plain: "a"},
		`{"Deep":"b","deep":"a","shown":{"KEY":"b","key":"a"}}`:                  {embedded: embedded{Deep: "a", Shown: inner{K: "a"}}},
		`{"embedded":{"deep":"b"}}`:                                              {},
		`null`:                                                                   {},
		"\t{ \"collection\" : \"a\" ,\r\n\"N\":1} ":                              {Collection: "a"},
	} {
		given := []byte(in)
		var got sample
		if err := Unmarshal(given, &got); err != nil {
			t.Errorf("%s: %v", in, err)
		} else if diff := cmp.Diff(want, got, cmp.AllowUnexported(sample{})); diff != "" {
			t.Errorf("%s: %s", in, diff)
		}
		if string(given) != in {
			t.Errorf("%s: the text was changed into %s", in, given)
		}
		// By way of a variable of an interface, as of a pointer to a pointer.
		var indirect sample
		p := &indirect
		var x any = &p
		if err := Unmarshal(given, &x); err != nil {
			t.Errorf("%s: %v", in, err)
		} else if diff := cmp.Diff(want, indirect, cmp.AllowUnexported(sample{})); diff != "" {
			t.Errorf("%s, indirectly: %s", in, diff)
		}
	}
}

func TestRefusesWhatReadersTakeInTwoWays(t *testing.T) {
	many := func(last string) string {
		var b strings.Builder
		b.WriteString(`{`)
		for i := range 1000 {
			fmt.Fprintf(&b, `"%d":0,`, i*7919%1000)
		}
		return b.String() + `"` + last + `":1}`
	}
	for in, want := range map[string]error{
		`{"collection":"a","collection":"b"}`:      ErrDuplicate,
		`{"collection":"a","\u0063ollection":"b"}`: ErrDuplicate,
		`{"Collection":"a","Collection":"b"}`:      ErrDuplicate,
		`{"unknown":{"a":[{"x":1,"x":2}]}}`:        ErrDuplicate,
		`{"raw":{"x":1,"x":2}}`:                    ErrDuplicate,
		`{"any":{"x":1,"x":2}}`:                    ErrDuplicate,
		`{"self":{"name":"a","name":"b"}}`:         ErrDuplicate,
		`{"Plain":"a","Pl\u0061in":"b"}`:           ErrDuplicate,
		`{"texts":{"":"a","":"b"}}`:                ErrDuplicate,
		many("500"):                                ErrDuplicate,
		many("1000"):                               nil,
		`{"collection":"\ud800"}`:                  ErrText,
		`{"collection":"\udc00\ud800"}`:            ErrText,
		`{"collection":"\ud83d\u0041"}`:            ErrText,
		`{"collection":"\ud83d\ude00"}`:            nil,
		"{\"collection\":\"\xff\"}":                ErrText,
		"{\"\xed\xa0\x80\":1}":                     ErrText,
		strings.Repeat("[", MaxDepth+1):            ErrDepth,
		strings.Repeat(`{"a":`, 1e6):               ErrDepth,
		strings.Repeat(`{"any":`, 5) + "1}}}}}":    nil,
		``:                                         ErrSyntax,
		` `:                                        ErrSyntax,
		`{} x`:                                     ErrSyntax,
		`{}{}`:                                     ErrSyntax,
		`{"a":1,}`:                                 ErrSyntax,
		`{,}`:                                      ErrSyntax,
		`{"any":[1,]}`:                             ErrSyntax,
		`{"any":[1 2]}`:                            ErrSyntax,
		`{"any" 1}`:                                ErrSyntax,
		`{'any':1}`:                                ErrSyntax,
		`{"any":01}`:                               ErrSyntax,
		`{"any":+1}`:                               ErrSyntax,
		`{"any":1.}`:                               ErrSyntax,
		`{"any":.5}`:                               ErrSyntax,
		`{"any":1e}`:                               ErrSyntax,
		`{"any":-}`:                                ErrSyntax,
		`{"any":NaN}`:                              ErrSyntax,
		`{"any":nul}`:                              ErrSyntax,
		`{"any":-0.5e+10}`:                         nil,
		`{"any":"\x"}`:                             ErrSyntax,
		`{"any":"\u12"}`:                           ErrSyntax,
		"{\"any\":\"\n\"}":                         ErrSyntax,
		`{"any":"`:                                 ErrSyntax,
		`{"any":"\`:                                ErrSyntax,
		`{"any":"\u`:                               ErrSyntax,
		"\xef\xbb\xbf{}":                           ErrSyntax,
		`{"any":1} // comment`:                     ErrSyntax,
		strings.Repeat(`[`, 50) + `{"a":1,"a":2}`:     ErrDuplicate,
		`{"list":[{"key":"a"},{"key":"b","key":""}]}`: ErrDuplicate,
	} {
		var got sample
		var e *Error
		err := Unmarshal([]byte(in), &got)
		if !errors.Is(err, want) || want == nil && err != nil || want != nil && !errors.As(err, &e) {
			t.Errorf("%.60q: error %v, want %v", in, err, want)
		}
		if err := Check([]byte(in)); !errors.Is(err, want) || want == nil && err != nil {
			t.Errorf("Check of %.60q: error %v, want %v", in, err, want)
		}
	}
	if err := Unmarshal([]byte(`{}`), nil); err == nil {
		t.Error("no target, no error")
	}
	var typ *json.UnmarshalTypeError
	if err := Unmarshal([]byte(`{"collection":1}`), &sample{}); !errors.As(err, &typ) || typ.Field != "collection" {
		t.Error(err)
	}
}

// TestLoneSurrogates: what JavaScript writes for a character that was cut in two is kept in plain JSON.
func TestLoneSurrogates(t *testing.T) {
	for in, want := range map[string]error{
		`{"collection":"\ud83d","raw":["\udc00",{"a":"\ud83dx\u0041"}]}`: nil,
		`{"\ud83d":1}`:                      ErrText,
		`{"any":{"\udc00":1}}`:              ErrText,
		"{\"collection\":\"\xed\xa0\x80\"}": ErrText,
		`{"collection":"\ud8"}`:             ErrSyntax,
		`{"raw":{"a":1,"a":2}}`:             ErrDuplicate,
	} {
		var x sample
		if err := UnmarshalPlain([]byte(in), &x); !errors.Is(err, want) {
			t.Errorf("%s: %v", in, err)
		} else if err == nil && (x.Collection != "\ufffd" || string(x.Raw) != `["\udc00",{"a":"\ud83dx\u0041"}]`) {
			t.Errorf("%s: %+v", in, x)
		}
		if err := CheckPlain([]byte(in)); !errors.Is(err, want) {
			t.Errorf("%s: %v", in, err)
		}
	}
}

// TestHostileTextTakesLinearTime does not end in the time of a test if the time is quadratic.
func TestHostileTextTakesLinearTime(t *testing.T) {
	const n = 4 << 20
	for name, in := range map[string]string{
		"names":  "{" + strings.Repeat(`"Collectiom":1,`, n/15) + `"x":1}`,
		"depth":  strings.Repeat(`{"any":[`, MaxDepth/2) + strings.Repeat(" ", n) + strings.Repeat("]}", MaxDepth/2),
		"escape": `{"any":"` + strings.Repeat(`\u0041`, n/6) + `"}`,
		"short":  "[" + strings.Repeat(`{"a":{}},`, n/9) + "1]",
	} {
		err := Check([]byte(in))
		if want := map[string]error{"names": ErrDuplicate}[name]; !errors.Is(err, want) {
			t.Errorf("%s: %v", name, err)
		}
		var x sample
		if err := Unmarshal([]byte(in), &x); name == "names" && !errors.Is(err, ErrDuplicate) {
			t.Error(err)
		}
	}
}

// FuzzUnmarshal compares with encoding/json: where names have one spelling each, both read the same.
func FuzzUnmarshal(f *testing.F) {
	f.Add([]byte(`{"collection":"a","Collection":"b"}`))
	f.Add([]byte(`{"list":[{"key":"a"}],"any":{"x":[1,2.5,null,true]},"self":{"name":"x"}}`))
	f.Add([]byte(`["\ud83d\ude00"]`))
	f.Fuzz(func(t *testing.T, in []byte) {
		given := bytes.Clone(in)
		err := Check(in)
		if valid := json.Valid(in); err == nil && !valid || errors.Is(err, ErrSyntax) && valid {
			t.Fatalf("%q: Check says %v, encoding/json %t", in, err, valid)
		}
		var exact, x any
		if err == nil {
			exactErr, err := Unmarshal(in, &exact), json.Unmarshal(in, &x)
			if !cmp.Equal(x, exact) || (exactErr == nil) != (err == nil) { // as of numbers that are too large
				t.Fatalf("%q: %v (%v), and %v (%v) by encoding/json", in, exact, exactErr, x, err)
			}
		}
		var s sample
		Unmarshal(in, &s)
		if m, ok := x.(map[string]any); ok && s.Collection != "" && m["collection"] != s.Collection {
			t.Fatalf("%q: collection %q", in, s.Collection)
		}
		if !bytes.Equal(in, given) {
			t.Fatalf("%q was changed into %q", given, in)
		}
	})
}

var benchText = []byte(`{"repo":"did:plc:aaaaaaaaaaaaaaaaaaaaaaaa","collection":"app.bsky.feed.post","record":{"$type":"app.bsky.feed.post",` +
	`"text":"hello to everybody who reads this text, which is about as long as most of them are","createdAt":"2026-01-01T00:00:00Z",` +
	`"langs":["en"],"facets":[{"index":{"byteStart":1,"byteEnd":2},"features":[{"$type":"app.bsky.richtext.facet#tag","tag":"x"}]}]}}`)

func BenchmarkUnmarshal(b *testing.B) {
	type in struct {
		Repo       string          `json:"repo"`
		Collection string          `json:"collection"`
		RKey       string          `json:"rkey,omitempty"`
		Validate   *bool           `json:"validate,omitempty"`
		Record     json.RawMessage `json:"record"`
	}
	for _, c := range []struct {
		name string
		fn   func([]byte, any) error
	}{{"exact", Unmarshal}, {"encoding", json.Unmarshal}} {
		b.Run(c.name, func(b *testing.B) {
			b.ReportAllocs()
			b.SetBytes(int64(len(benchText)))
			for b.Loop() {
				var x in
				if err := c.fn(benchText, &x); err != nil {
					b.Fatal(err)
				}
			}
		})
	}
}

// TestAnswersHaveOneSpelling: a program may leave out tags in the types of answers.
func TestAnswersHaveOneSpelling(t *testing.T) {
	for in, want := range map[string]error{
		`{"plain":"a"}`:                    nil,
		`{"PLAIN":"a","Collection":"b"}`:   nil,
		`{"Plain":"a","plain":"b"}`:        ErrDuplicate,
		`{"plain":"a","x":1,"PLAIN":"b"}`:  ErrDuplicate,
		`{"plain":"a","\u0070lain":"b"}`:   ErrDuplicate,
		`{"plain":"a","unknown":{"":{}}} `: nil,
	} {
		var got sample
		if err := UnmarshalAnswer([]byte(in), &got); !errors.Is(err, want) || err == nil && (got.Plain != "a" || got.Collection != "") {
			t.Errorf("%s: %v, %+v", in, err, got)
		}
	}
}

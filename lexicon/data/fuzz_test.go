package data_test

import (
	"bytes"
	"encoding/base64"
	"encoding/json"
	"errors"
	"math/big"
	"reflect"
	"strconv"
	"strings"
	"testing"
	"unicode/utf8"

	fxcbor "github.com/fxamacker/cbor/v2"
	"github.com/ipfs/go-cid"
	"github.com/pdskit/pdskit/lexicon/data"
)

// FuzzCBOR compares with a general decoder and encoder: what they read and write again in the same
// bytes is canonical, and nothing else is.
func FuzzCBOR(f *testing.F) {
	for _, s := range []string{"\xa0", "\x80", "\x01", "\xa2\x61a\x01\x61b\x82\xf6\xf5", "\x3b\x7f\xff\xff\xff\xff\xff\xff\xff", "\xf9\x3c\x00", "\x18\x01",
		"\xa1\x65$type\x61x", "\xd8\x2a\x58\x25\x00\x01\x71\x12\x20" + strings.Repeat("a", 32), strings.Repeat("\x81", 64) + "\x01", strings.Repeat("\x81", 65) + "\x01",
		"\xa2\x62aa\x01\x61b\x01", "\xa2\x61a\x01\x61a\x01", "\x7f\x61a\xff", "\x61\xff", "\xc2\x41\x01", "\xf7", "\xa4\x63ref\xd8\x2a\x58\x25\x00\x01\x55\x12\x20" + strings.Repeat("a", 32) +
			"\x64size\x05\x65$type\x64blob\x68mimeType\x63a/b"} {
		f.Add([]byte(s))
	}
	f.Fuzz(func(t *testing.T, in []byte) {
		plain, canonical := plainDecode(in)
		v, err := data.Decode(in, data.Limits{})
		if err != nil {
			if canonical && !errors.Is(err, data.ErrDepth) && !inDisguise(err) {
				t.Fatalf("%x is canonical, but %v", in, err)
			}
			return
		}
		if !canonical {
			t.Fatalf("%x is not canonical, but accepted", in)
		}
		if !reflect.DeepEqual(v, plain) {
			t.Fatalf("%x reads as %v, plainly as %v", in, v, plain)
		}
		if again, err := data.Encode(v); err != nil || !bytes.Equal(again, in) {
			t.Fatalf("%x comes back as %x, %v", in, again, err)
		}
		text, err := data.AppendJSON(nil, in)
		if err != nil || !json.Valid(text) {
			t.Fatalf("%x: JSON %s, %v", in, text, err)
		}
		var pieces bytes.Buffer
		if err := data.WriteJSON(&pieces, in); err != nil || !bytes.Equal(pieces.Bytes(), text) {
			t.Fatalf("%x: JSON in pieces %s, %v", in, pieces.Bytes(), err)
		}
		if again, err := data.AppendCBOR(nil, text, data.Limits{}); err == nil {
			if !bytes.Equal(again, in) {
				t.Fatalf("%x comes back from JSON as %x", in, again)
			}
		} else if !errors.Is(err, data.ErrNumber) { // integers beyond 53 bits stay behind
			t.Fatalf("%s: %v", text, err)
		}
	})
}

// inDisguise reports errors about objects that are canonical CBOR but no values of the data model.
func inDisguise(err error) bool {
	return errors.Is(err, data.ErrLink) || errors.Is(err, data.ErrBytes) || errors.Is(err, data.ErrType) || errors.Is(err, data.ErrBlob)
}

var (
	plainDec, _ = fxcbor.DecOptions{MaxNestedLevels: 1000}.DecMode()
	plainEnc, _ = fxcbor.EncOptions{Sort: fxcbor.SortLengthFirst}.EncMode()
)

// plainDecode reads with a general decoder. canonical: a general encoder gives the input back.
func plainDecode(in []byte) (v any, canonical bool) {
	var x any
	if err := plainDec.Unmarshal(in, &x); err != nil {
		return nil, false
	}
	v, ok := plainValue(x)
	if !ok {
		return nil, false
	}
	out, err := plainEnc.Marshal(x)
	return v, err == nil && bytes.Equal(out, in)
}

func plainValue(x any) (v any, ok bool) {
	switch x := x.(type) {
	case nil, bool, string, int64:
		return x, true
	case uint64:
		return int64(x), x < 1<<63
	case []byte:
		return data.Bytes(x), true
	case fxcbor.Tag:
		b, isBytes := x.Content.([]byte)
		if x.Number != 42 || !isBytes || len(b) == 0 || b[0] != 0 {
			return nil, false
		}
		c, err := cid.Cast(b[1:])
		return data.Link{Cid: c}, err == nil && blessed(c)
	case []any:
		list := make([]any, len(x))
		for i := range x {
			if list[i], ok = plainValue(x[i]); !ok {
				return nil, false
			}
		}
		return list, true
	case map[any]any:
		m := make(map[string]any, len(x))
		for k, y := range x {
			key, isText := k.(string)
			if m[key], ok = plainValue(y); !ok || !isText {
				return nil, false
			}
		}
		return m, true
	}
	return nil, false
}

// blessed reports whether the data model has such CIDs.
func blessed(c cid.Cid) bool {
	p := c.Prefix()
	return p.Version == 1 && (p.Codec == cid.DagCBOR || p.Codec == cid.Raw) && p.MhType == 0x12 && p.MhLength == 32
}

// FuzzJSON compares with a reader on top of the standard library's: both accept the same, and read
// the same.
func FuzzJSON(f *testing.F) {
	for _, s := range []string{`{}`, `[1,"a",null,true,{"b":false}]`, `{"$link":"bafyreiccldh766hwcnuxnf2wh6jgzepf2nlu2lvcllt63eww5p6chi4ity"}`, `{"$bytes":"aGk"}`, `"\ud83d\ude00"`,
		`1e2`, `-0.0`, `15e-1`, `9007199254740992`, `{"b":1,"a":{"":[[]]}}`, `{"a":1,"\u0061":2}`, `{"$type":"blob","ref":{"$link":"bafkreiccldh766hwcnuxnf2wh6jgzepf2nlu2lvcllt63eww5p6chi4ity"},"mimeType":"a/b","size":1}`,
		"\"\xff\"", `"\ud800"`, " 1 ", "\t[\r\n]", `{"$type":""}`, `[1,]`, `01`, post} {
		f.Add([]byte(s))
	}
	f.Fuzz(func(t *testing.T, in []byte) {
		v, err := data.FromJSON(in, data.Limits{})
		plain, ok := plainJSON(in)
		if ok != (err == nil) && !errors.Is(err, data.ErrDepth) {
			t.Fatalf("%q: %v, plainly %v", in, err, ok)
		}
		if err != nil {
			return
		}
		if !reflect.DeepEqual(v, plain) {
			t.Fatalf("%q reads as %v, plainly as %v", in, v, plain)
		}
		b, err := data.Encode(v)
		if err != nil {
			t.Fatalf("%q: %v", in, err)
		}
		if direct, err := data.AppendCBOR(nil, in, data.Limits{}); err != nil || !bytes.Equal(direct, b) {
			t.Fatalf("%q: directly %x, by way of a value %x, %v", in, direct, b, err)
		}
		text, err := data.ToJSON(v)
		if err != nil {
			t.Fatalf("%q: %v", in, err)
		}
		back, err := data.FromJSON(text, data.Limits{})
		if err != nil || !reflect.DeepEqual(v, back) {
			t.Fatalf("%q: %v comes back as %v, %v", in, v, back, err)
		}
	})
}

// plainJSON reads a value with the standard library, and checks what that lets through.
func plainJSON(in []byte) (v any, ok bool) {
	if !json.Valid(in) {
		return nil, false
	}
	if !unicodeOnly(in) {
		return nil, false
	}
	d := json.NewDecoder(bytes.NewReader(in))
	d.UseNumber()
	return plainNext(d)
}

// unicodeOnly reports whether JSON has neither broken UTF-8 nor half a surrogate pair, for which
// the standard library reads U+FFFD.
func unicodeOnly(in []byte) bool {
	unit := func(i int) uint64 {
		if len(in) < i+6 || in[i] != '\\' || in[i+1] != 'u' {
			return 0
		}
		n, _ := strconv.ParseUint(string(in[i+2:i+6]), 16, 16)
		return n
	}
	for i := 0; i < len(in); i++ {
		if in[i] != '\\' {
			continue
		}
		switch unit(i) >> 10 {
		case 0xd800 >> 10:
			if i += 6; unit(i)>>10 != 0xdc00>>10 {
				return false
			}
			i += 5
		case 0xdc00 >> 10:
			return false
		default:
			i++
		}
	}
	return utf8.Valid(in)
}

func plainNext(d *json.Decoder) (v any, ok bool) {
	tok, err := d.Token()
	if err != nil {
		return nil, false
	}
	switch tok := tok.(type) {
	case nil, bool, string:
		return tok, true
	case json.Number:
		return plainNumber(string(tok))
	case json.Delim:
		if tok == '[' {
			list := []any{}
			for d.More() {
				x, ok := plainNext(d)
				if !ok {
					return nil, false
				}
				list = append(list, x)
			}
			_, err := d.Token()
			return list, err == nil
		}
		m := map[string]any{}
		for d.More() {
			key, err := d.Token()
			if err != nil {
				return nil, false
			}
			if _, there := m[key.(string)]; there {
				return nil, false
			}
			if m[key.(string)], ok = plainNext(d); !ok {
				return nil, false
			}
		}
		if _, err := d.Token(); err != nil {
			return nil, false
		}
		return plainObject(m)
	}
	return nil, false
}

func plainNumber(s string) (any, bool) {
	if _, exponent, ok := strings.Cut(strings.ToLower(s), "e"); ok && len(strings.TrimLeft(exponent, "+-0")) > 3 {
		return int64(0), strings.Trim(s[:strings.IndexAny(s, "eE")], "-.0") == ""
	}
	r, ok := new(big.Rat).SetString(s)
	const most = 1<<53 - 1
	if !ok || !r.IsInt() || r.Num().CmpAbs(big.NewInt(most)) > 0 {
		return nil, false
	}
	return r.Num().Int64(), true
}

// plainObject turns an object into the link or the bytes that it stands for, and checks $type and
// blobs.
func plainObject(m map[string]any) (any, bool) {
	if link, there := m["$link"]; there {
		s, _ := link.(string)
		if len(s) > 100 || len(m) > 1 {
			return nil, false
		}
		c, err := cid.Decode(s)
		return data.Link{Cid: c}, err == nil && blessed(c) && c.String() == s
	}
	if b, there := m["$bytes"]; there {
		s, isText := b.(string)
		enc := base64.StdEncoding
		if !strings.Contains(s, "=") {
			enc = base64.RawStdEncoding
		}
		out, err := enc.DecodeString(s)
		return data.Bytes(out), isText && err == nil && len(m) == 1 && !strings.ContainsAny(s, "\r\n")
	}
	if typ, there := m["$type"]; there {
		s, _ := typ.(string)
		if s == "blob" {
			_, ok1 := m["ref"].(data.Link)
			mime, _ := m["mimeType"].(string)
			size, ok2 := m["size"].(int64)
			return m, ok1 && ok2 && size >= 0 && strings.Contains(mime, "/")
		}
		return m, s != ""
	}
	return m, true
}

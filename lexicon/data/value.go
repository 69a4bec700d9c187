package data

import (
	"encoding/base64"
	"strings"

	"github.com/ipfs/go-cid"
	icbor "github.com/pdskit/pdskit/internal/cbor"
	"github.com/pdskit/pdskit/internal/dag"
	"github.com/pdskit/pdskit/internal/exactjson"
)

// Bytes is a byte string.
type Bytes []byte

// MarshalJSON implements json.Marshaler: {"$bytes": "…"}.
func (b Bytes) MarshalJSON() ([]byte, error) { return appendBytesJSON(nil, b), nil }

// UnmarshalJSON implements json.Unmarshaler.
func (b *Bytes) UnmarshalJSON(in []byte) error {
	v, err := FromJSON(in, Limits{})
	if err != nil {
		return err
	}
	got, ok := v.(Bytes)
	if !ok {
		return &Error{Offset: 0, Err: ErrBytes}
	}
	*b = got
	return nil
}

func appendBytesJSON(b, v []byte) []byte {
	b = append(b, `{"$bytes":"`...)
	b = base64.RawStdEncoding.AppendEncode(b, v)
	return append(b, `"}`...)
}

// appendBytes appends what base64, padded or not, stands for. Bits beyond the last byte
// may have any value: the reference implementations write such text, and accept it.
func appendBytes(b []byte, s string) ([]byte, bool) {
	raw := strings.TrimRight(s, "=")
	if pad := len(s) - len(raw); pad > 0 && (pad > 2 || len(s)%4 != 0) || strings.ContainsAny(raw, "\r\n") {
		return b, false
	}
	b, err := base64.RawStdEncoding.AppendDecode(b, []byte(raw))
	return b, err == nil
}

// Link is a link to another block. The zero Link has no target and cannot be encoded.
//
// Use it instead of cid.Cid in structs, which would be encoded as a byte string.
type Link struct{ cid.Cid }

// MarshalCBOR implements cbor.Marshaler.
func (l Link) MarshalCBOR() ([]byte, error) {
	if _, _, ok := dag.Split(l.Cid); !ok {
		return nil, &Error{Offset: -1, Err: ErrLink}
	}
	return icbor.AppendLink(nil, l.KeyString()), nil
}

// UnmarshalCBOR implements cbor.Unmarshaler.
func (l *Link) UnmarshalCBOR(b []byte) error {
	r := icbor.NewReader(b)
	link, err := r.Link()
	if err == nil {
		err = r.Done()
	}
	if err != nil {
		return err
	}
	codec, digest, ok := dag.SplitBytes(link)
	if !ok {
		return &Error{Offset: -1, Err: ErrLink}
	}
	l.Cid = dag.CID(codec, &digest)
	return nil
}

// MarshalJSON implements json.Marshaler: {"$link": "…"}.
func (l Link) MarshalJSON() ([]byte, error) {
	if _, _, ok := dag.Split(l.Cid); !ok {
		return nil, &Error{Offset: -1, Err: ErrLink}
	}
	return appendLinkJSON(nil, l.KeyString()), nil
}

// UnmarshalJSON implements json.Unmarshaler.
func (l *Link) UnmarshalJSON(in []byte) error {
	var v struct {
		Link string `json:"$link"`
	}
	if err := exactjson.Unmarshal(in, &v); err != nil {
		return err
	}
	c, err := parseLink(v.Link)
	if err != nil {
		return &Error{Offset: -1, Err: ErrLink}
	}
	l.Cid = c
	return nil
}

// linkLen is the length of every CID of the data model in text form: "b" and base32 of 36 bytes.
const linkLen = 59

// parseLink reads a CID of the data model in text form. Others are refused unread: there are bases
// whose decoding takes time in proportion to the square of the length.
func parseLink(s string) (cid.Cid, error) {
	if len(s) != linkLen || s[0] != 'b' {
		return cid.Undef, ErrLink
	}
	c, err := cid.Decode(s)
	if err != nil {
		return cid.Undef, err
	}
	if _, _, ok := dag.Split(c); !ok || c.String() != s {
		return cid.Undef, ErrLink
	}
	return c, nil
}

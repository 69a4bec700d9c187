package dag

import (
	"bytes"
	"testing"

	"github.com/ipfs/go-cid"
	mh "github.com/multiformats/go-multihash"
)

// Our way to make CIDs gives the same as the general one.
func TestCIDs(t *testing.T) {
	for _, data := range [][]byte{nil, []byte("a"), bytes.Repeat([]byte("x"), 10_000)} {
		for _, codec := range []Codec{CBOR, Raw} {
			want, err := cid.V1Builder{Codec: uint64(codec), MhType: mh.SHA2_256}.Sum(data)
			if err != nil {
				t.Fatal(err)
			}
			c := Sum(codec, data)
			parsed, err := cid.Parse(c.String())
			if err != nil || c != want || parsed != want || !c.Equals(want) || c.String() != want.String() || !bytes.Equal(c.Bytes(), want.Bytes()) {
				t.Errorf("%v is not %v: %v", c, want, err)
			}
			if Wrap(want.KeyString()) != want || len(c.KeyString()) != CIDLen || c.Prefix() != want.Prefix() {
				t.Errorf("%v is not wrapped", want)
			}
			gotCodec, digest, ok := Split(c)
			if !ok || gotCodec != codec || CID(codec, &digest) != want {
				t.Errorf("%v is split into %v, %x, %v", c, gotCodec, digest, ok)
			}
			if !Matches(c, data) || Matches(c, []byte("y")) {
				t.Errorf("%v matches other bytes", c)
			}
		}
	}
}

func TestOtherCIDs(t *testing.T) {
	sum := Sum(CBOR, nil)
	identity, err := mh.Sum([]byte("abc"), mh.IDENTITY, -1)
	if err != nil {
		t.Fatal(err)
	}
	sha512, err := mh.Sum(nil, mh.SHA2_512, -1)
	if err != nil {
		t.Fatal(err)
	}
	for name, c := range map[string]cid.Cid{
		"undefined": cid.Undef, "version 0": cid.NewCidV0(sum.Hash()), "dag-pb": cid.NewCidV1(cid.DagProtobuf, sum.Hash()),
		"identity": cid.NewCidV1(cid.DagCBOR, identity), "SHA-512": cid.NewCidV1(cid.DagCBOR, sha512),
	} {
		if _, _, ok := Split(c); ok || Matches(c, nil) {
			t.Errorf("%s is accepted", name)
		}
	}
	for n := range CIDLen {
		if _, _, ok := SplitBytes(sum.Bytes()[:n]); ok {
			t.Errorf("%d bytes are accepted", n)
		}
	}
}

func BenchmarkCID(b *testing.B) {
	d := Digest{1}
	b.ReportAllocs()
	for b.Loop() {
		CID(CBOR, &d)
	}
}

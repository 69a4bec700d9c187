package commit_test

import (
	"bytes"
	"context"
	"errors"
	"fmt"
	"math/big"
	"strings"
	"testing"

	"github.com/google/go-cmp/cmp"
	"github.com/ipfs/go-cid"
	"github.com/pdskit/pdskit/commit"
	"github.com/pdskit/pdskit/crypto"
	"github.com/pdskit/pdskit/internal/cbor"
	"github.com/pdskit/pdskit/internal/dag"
	"github.com/pdskit/pdskit/lexicon/syntax"
	"github.com/pdskit/pdskit/mst"
)

var compareCIDs = cmp.Comparer(cid.Cid.Equals)

func TestSignAndVerify(t *testing.T) {
	for _, alg := range []crypto.Algorithm{crypto.K256, crypto.P256} {
		key, other := testKey(t, alg, "alice"), testKey(t, alg, "bob")
		data := mst.Empty().Root()
		rev := syntax.NewTID(now, 7)
		c, block, err := commit.Sign(context.Background(), "did:web:alice.test", rev, data, key)
		if err != nil {
			t.Fatal(err)
		}
		got, err := commit.Parse(block.Data)
		if err != nil || !cmp.Equal(got, c, compareCIDs) {
			t.Fatalf("%v: %+v came back as %+v, %v", alg, c, got, err)
		}
		if !dag.Matches(block.CID, block.Data) || !bytes.Equal(got.Encode(), block.Data) {
			t.Errorf("%v: the block is another one", alg)
		}
		if err := cbor.Scan(got.Unsigned(), cbor.Limits{}); err != nil {
			t.Errorf("%v: what is signed: %v", alg, err)
		}
		if err := got.Verify(key.PublicKey()); err != nil {
			t.Errorf("%v: %v", alg, err)
		}
		forged := map[string]func(c *commit.Commit){
			"other account":  func(c *commit.Commit) { c.DID = "did:web:mallory.test" },
			"other revision": func(c *commit.Commit) { c.Rev = syntax.NewTID(now, 8) },
			"other tree":     func(c *commit.Commit) { c.Data = record("x").CID },
			"no signature":   func(c *commit.Commit) { c.Sig = nil },
			"short":          func(c *commit.Commit) { c.Sig = c.Sig[:63] },
			"flipped bit":    func(c *commit.Commit) { c.Sig = append([]byte{c.Sig[0] ^ 1}, c.Sig[1:]...) },
			"high s":         func(c *commit.Commit) { c.Sig = highS(alg, c.Sig) },
			"zero signature": func(c *commit.Commit) { c.Sig = make([]byte, 64) },
		}
		for name, forge := range forged {
			f := got
			forge(&f)
			if err := f.Verify(key.PublicKey()); !errors.Is(err, crypto.ErrSignature) {
				t.Errorf("%v, %s: %v", alg, name, err)
			}
		}
		if err := got.Verify(other.PublicKey()); !errors.Is(err, crypto.ErrSignature) {
			t.Errorf("%v, by another key: %v", alg, err)
		}
	}
}

// highS is the other signature that the mathematics allows.
func highS(alg crypto.Algorithm, sig []byte) []byte {
	n, _ := new(big.Int).SetString(map[crypto.Algorithm]string{
		crypto.K256: "fffffffffffffffffffffffffffffffebaaedce6af48a03bbfd25e8cd0364141",
		crypto.P256: "ffffffff00000000ffffffffffffffffbce6faada7179e84f3b9cac2fc632551",
	}[alg], 16)
	s := new(big.Int).Sub(n, new(big.Int).SetBytes(sig[32:]))
	return append(bytes.Clone(sig[:32]), s.FillBytes(make([]byte, 32))...)
}

type signerFunc func(ctx context.Context, msg []byte) ([]byte, error)

func (signerFunc) PublicKey() *crypto.PublicKey                           { return nil }
func (f signerFunc) Sign(ctx context.Context, msg []byte) ([]byte, error) { return f(ctx, msg) }

// An error of the signer, which may be far away, passes through.
func TestSignerFails(t *testing.T) {
	ctx, cancel := context.WithCancel(context.Background())
	cancel()
	remote := signerFunc(func(ctx context.Context, _ []byte) ([]byte, error) { return nil, ctx.Err() })
	if _, _, err := commit.Sign(ctx, "did:web:alice.test", syntax.NewTID(now, 1), mst.Empty().Root(), remote); !errors.Is(err, context.Canceled) {
		t.Error(err)
	}
}

// field is a field of a commit object in CBOR.
type field struct{ name, value string }

func object(fields ...field) []byte {
	b := cbor.AppendMap(nil, len(fields))
	for _, f := range fields {
		b = append(cbor.AppendText(b, f.name), f.value...)
	}
	return b
}

func text(s string) string { return string(cbor.AppendText(nil, s)) }

func goodFields() []field {
	return []field{
		{"did", text("did:web:alice.test")},
		{"rev", text(string(syntax.NewTID(now, 7)))},
		{"sig", string(cbor.AppendBytes(nil, make([]byte, 64)))},
		{"data", string(cbor.AppendLink(nil, mst.Empty().Root().KeyString()))},
		{"prev", "\xf6"},
		{"version", "\x03"},
	}
}

func TestDecodeStrictness(t *testing.T) {
	if _, err := commit.Parse(object(goodFields()...)); err != nil {
		t.Fatal(err)
	}
	link := func(codec dag.Codec) string {
		d := dag.Digest{1}
		return string(cbor.AppendLink(nil, dag.CID(codec, &d).KeyString()))
	}
	set := func(name, value string) []byte {
		fields := goodFields()
		for i := range fields {
			if fields[i].name == name {
				fields[i].value = value
			}
		}
		return object(fields...)
	}
	without := func(i int) []byte {
		f := goodFields()
		return object(append(f[:i:i], f[i+1:]...)...)
	}
	swapped := goodFields()
	swapped[3], swapped[4] = swapped[4], swapped[3]
	doubled := append(goodFields()[:1:1], goodFields()...)
	cases := map[string][]byte{
		"nothing":                      nil,
		"garbage":                      []byte("garbage"),
		"an empty map":                 {0xa0},
		"an array":                     append([]byte{0x86}, object(goodFields()...)[1:]...),
		"trailing byte":                append(object(goodFields()...), 0),
		"fields in another order":      object(swapped...),
		"a field twice":                object(doubled...),
		"a field too many":             object(append(goodFields(), field{"z-extra", "\xf6"})...),
		"a map that says five":         append([]byte{0xa5}, object(goodFields()...)[1:]...),
		"a map that says seven":        append([]byte{0xa7}, object(goodFields()...)[1:]...),
		"a renamed field":              bytes.Replace(object(goodFields()...), []byte("cdid"), []byte("cdie"), 1),
		"DID of bytes":                 set("did", "\x41a"),
		"DID that is none":             set("did", text("alice.test")),
		"DID of 3,000 bytes":           set("did", text("did:web:"+strings.Repeat("a", 3000))),
		"DID of broken UTF-8":          set("did", "\x69did:web:\xff"),
		"rev that is not a TID":        set("rev", text("2026-01-01")),
		"rev of 12 characters":         set("rev", text("3jzfcijpj2z2")),
		"rev with its top bit set":     set("rev", text("zzzzzzzzzzzzz")),
		"rev empty":                    set("rev", text("")),
		"rev null":                     set("rev", "\xf6"),
		"no signature":                 set("sig", "\x40"),
		"signature of 63 bytes":        set("sig", string(cbor.AppendBytes(nil, make([]byte, 63)))),
		"signature of 65 bytes":        set("sig", string(cbor.AppendBytes(nil, make([]byte, 65)))),
		"signature as text":            set("sig", text(strings.Repeat("a", 64))),
		"signature null":               set("sig", "\xf6"),
		"data null":                    set("data", "\xf6"),
		"data of codec raw":            set("data", link(dag.Raw)),
		"data of codec dag-pb":         set("data", link(0x70)),
		"data of CID version 0":        set("data", string(cbor.AppendLink(nil, cid.NewCidV0(mst.Empty().Root().Hash()).KeyString()))),
		"data of the identity hash":    set("data", string(cbor.AppendLink(nil, "\x01\x71\x00\x01\xa0"))),
		"data as bytes":                set("data", string(cbor.AppendBytes(nil, []byte(mst.Empty().Root().KeyString())))),
		"prev a link":                  set("prev", link(dag.CBOR)),
		"prev undefined":               set("prev", "\xf7"),
		"prev false":                   set("prev", "\xf4"),
		"version 2":                    set("version", "\x02"),
		"version 4":                    set("version", "\x04"),
		"version in two bytes":         set("version", "\x18\x03"),
		"version as a float":           set("version", "\xfb\x40\x08\x00\x00\x00\x00\x00\x00"),
		"version as text":              set("version", text("3")),
		"version -4":                   set("version", "\x23"),
		"head of the map in two bytes": append([]byte{0xb8, 6}, object(goodFields()...)[1:]...),
		"map of indefinite length":     append(append([]byte{0xbf}, object(goodFields()...)[1:]...), 0xff),
	}
	for i, f := range goodFields() {
		cases["without "+f.name] = without(i)
	}
	for name, in := range cases {
		if c, err := commit.Parse(in); !errors.Is(err, commit.ErrCommit) {
			t.Errorf("%s: %+v, %v", name, c, err)
		}
	}
	good := object(goodFields()...)
	for n := range good {
		if _, err := commit.Parse(good[:n]); !errors.Is(err, commit.ErrCommit) {
			t.Errorf("cut to %d bytes: %v", n, err)
		}
	}
}

func FuzzDecodeCommit(f *testing.F) {
	f.Add(object(goodFields()...))
	a := newAccount(f, "alice")
	a.write(f, map[string]string{"com.example.a/1": "x"})
	f.Add(a.block.Data)
	f.Fuzz(func(t *testing.T, in []byte) {
		c, err := commit.Parse(in)
		if err != nil {
			if !errors.Is(err, commit.ErrCommit) {
				t.Fatal(err)
			}
			return
		}
		if out := c.Encode(); !bytes.Equal(out, in) {
			t.Fatalf("%x came back as %x", in, out)
		}
	})
}

func ExampleSign() {
	scalar := bytes.Repeat([]byte{1}, 32)
	key, err := crypto.ParsePrivateKey(crypto.K256, scalar)
	if err != nil {
		panic(err)
	}
	c, block, err := commit.Sign(context.Background(), "did:web:alice.example.com", "3jzfcijpj2z2a", mst.Empty().Root(), key)
	if err != nil {
		panic(err)
	}
	fmt.Println(c.Verify(key.PublicKey()), len(block.Data) > 0, c.Data == mst.Empty().Root())
	// Output: <nil> true true
}

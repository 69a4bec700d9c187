package commit

import (
	"context"
	"errors"
	"fmt"

	"github.com/ipfs/go-cid"
	"github.com/pdskit/pdskit/car"
	"github.com/pdskit/pdskit/crypto"
	"github.com/pdskit/pdskit/internal/cbor"
	"github.com/pdskit/pdskit/internal/dag"
	"github.com/pdskit/pdskit/lexicon/syntax"
)

// Version is the version of the repository format.
const Version = 3

// ErrCommit: the bytes are not a valid commit object. Errors wrap it with the reason.
var ErrCommit = errors.New("commit: invalid commit object")

// Commit is a commit object of version 3. Its field prev is always null, so Commit has none. See
// the Repository specification, "Commit Objects".
type Commit struct {
	DID  syntax.DID
	Rev  syntax.TID
	Data cid.Cid // root of the tree
	Sig  []byte  // 64 bytes; nil before signing
}

// Unsigned returns the bytes that are signed.
func (c Commit) Unsigned() []byte { return c.append(make([]byte, 0, 160), false) }

// Encode returns the block of the commit object.
func (c Commit) Encode() []byte { return c.append(make([]byte, 0, 256), true) }

// append encodes the object; its keys are in canonical order.
func (c Commit) append(b []byte, signed bool) []byte {
	n := 5
	if signed {
		n++
	}
	b = cbor.AppendMap(b, n)
	b = cbor.AppendText(cbor.AppendText(b, "did"), string(c.DID))
	b = cbor.AppendText(cbor.AppendText(b, "rev"), string(c.Rev))
	if signed {
		b = cbor.AppendBytes(cbor.AppendText(b, "sig"), c.Sig)
	}
	b = cbor.AppendLink(cbor.AppendText(b, "data"), c.Data.KeyString())
	b = cbor.AppendNull(cbor.AppendText(b, "prev"))
	return cbor.AppendUint(cbor.AppendText(b, "version"), Version)
}

// Sign makes a signed commit and its block. Values that Parse would refuse are not signed: the
// error then wraps ErrCommit.
func Sign(ctx context.Context, did syntax.DID, rev syntax.TID, data cid.Cid, signer crypto.Signer) (Commit, car.Block, error) {
	c := Commit{DID: did, Rev: rev, Data: data}
	_, err := syntax.ParseDID(string(did))
	if err == nil {
		_, err = syntax.ParseTID(string(rev))
	}
	switch codec, _, ok := dag.Split(data); {
	case err != nil:
	case !ok || codec != dag.CBOR:
		err = fmt.Errorf("the root of the tree is %s", data)
	case signer == nil:
		err = errors.New("no signer")
	}
	if err != nil {
		return Commit{}, car.Block{}, fmt.Errorf("%w: %w", ErrCommit, err)
	}
	if c.Sig, err = signer.Sign(ctx, c.Unsigned()); err != nil {
		return Commit{}, car.Block{}, err
	}
	block := c.Encode()
	return c, car.Block{CID: dag.Sum(dag.CBOR, block), Data: block}, nil
}

// Verify checks the signature. It returns nil or crypto.ErrSignature.
func (c Commit) Verify(key *crypto.PublicKey) error { return key.Verify(c.Unsigned(), c.Sig) }

// Parse reads a commit object. It accepts only the canonical encoding of exactly the fields of
// version 3, with valid values. So Encode returns the same bytes.
func Parse(b []byte) (Commit, error) {
	var c Commit
	r := cbor.NewReader(b) // its first error sticks
	if fields, _ := r.Map(); fields != 6 {
		r.Fail(fmt.Errorf("%d fields, want 6", fields))
	}
	r.Key("did")
	did, _ := r.Text()
	r.Key("rev")
	rev, _ := r.Text()
	r.Key("sig")
	sig, _ := r.Bytes()
	r.Key("data")
	link, _ := r.Link()
	r.Key("prev")
	if !r.Null() {
		r.Fail(errors.New("prev is not null"))
	}
	r.Key("version")
	if v, _ := r.Uint(); v != Version {
		r.Fail(fmt.Errorf("version %d, want %d", v, Version))
	}
	err := r.Done()
	if err != nil {
		return Commit{}, fmt.Errorf("%w: %w", ErrCommit, err)
	}
	if c.DID, err = syntax.ParseDID(did); err != nil {
		return Commit{}, fmt.Errorf("%w: %w", ErrCommit, err)
	}
	if c.Rev, err = syntax.ParseTID(rev); err != nil {
		return Commit{}, fmt.Errorf("%w: %w", ErrCommit, err)
	}
	codec, digest, ok := dag.SplitBytes(link)
	if !ok || codec != dag.CBOR {
		return Commit{}, fmt.Errorf("%w: data is not a link to a node", ErrCommit)
	}
	if len(sig) != crypto.SignatureLen {
		return Commit{}, fmt.Errorf("%w: signature of %d bytes", ErrCommit, len(sig))
	}
	c.Data, c.Sig = dag.CID(codec, &digest), append([]byte(nil), sig...)
	return c, nil
}

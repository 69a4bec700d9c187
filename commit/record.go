package commit

import (
	"errors"
	"fmt"

	"github.com/ipfs/go-cid"
	"github.com/pdskit/pdskit/car"
	"github.com/pdskit/pdskit/crypto"
	"github.com/pdskit/pdskit/internal/dag"
	"github.com/pdskit/pdskit/lexicon/syntax"
	"github.com/pdskit/pdskit/mst"
)

// ErrNoRecord: a proof is valid, and proves that the repository does not have the record.
var ErrNoRecord = errors.New("the repository does not have the record")

// RecordOptions says what VerifyRecord checks.
type RecordOptions struct {
	// DID is the account whose repository it must be. It is required.
	DID syntax.DID
	// Key is the key that must have signed the commit. It is required.
	Key *crypto.PublicKey
	// Collection and RKey name the record. They are required.
	Collection syntax.NSID
	RKey       syntax.RecordKey
	// Record bounds the bytes of the record. 0: the protocol's limit, MaxRecord.
	Record int
	// CAR bounds the file. Fields that are 0 have other defaults than in car.Limits: 1024 blocks,
	// and a file size of Record plus 1 MiB.
	CAR car.Limits
	// Tree bounds the nodes on the path.
	Tree mst.Limits
}

// MaxFile returns the limit of the file in bytes. No more needs to be read.
func (o *RecordOptions) MaxFile() int64 {
	if o.CAR.TotalBytes != 0 {
		return o.CAR.TotalBytes
	}
	return int64(o.maxRecord()) + 1<<20
}

func (o *RecordOptions) maxRecord() int {
	if o.Record == 0 {
		return MaxRecord
	}
	return o.Record
}

// ProvenRecord is the result of a proof. If there is no record, CID is undefined and Data is nil.
type ProvenRecord struct {
	Root   cid.Cid // of the commit
	Commit Commit
	CID    cid.Cid // of the record
	Data   []byte  // in canonical DAG-CBOR; part of the file
}

// VerifyRecord checks a proof that a repository has a record, or does not have it: the CAR file
// that com.atproto.sync.getRecord returns. Its only root is the commit. It has the nodes of the
// tree from the root to the record, and the record. Other blocks are ignored.
//
// An error is a *RuleError. If its rule is ErrNoRecord, the proof is valid and the record does not
// exist; the result then has the commit that proves it. With any other rule nothing is proven:
// ErrSize, ErrBlocks, ErrCommitBlock, ErrFields, ErrNoKey, ErrBadSignature, ErrOp, ErrTree or
// ErrRecord.
//
// A proof may be outdated, because the commit may be an old one. Compare its revision with a later
// one if you know one.
func VerifyRecord(file []byte, opt RecordOptions) (ProvenRecord, error) {
	var p ProvenRecord
	fail := func(rule, detail error) (ProvenRecord, error) {
		return ProvenRecord{}, &RuleError{rule, opt.DID, p.Commit.Rev, detail}
	}
	path := string(opt.Collection) + "/" + string(opt.RKey)
	if _, _, err := syntax.ParsePath(path); err != nil {
		return fail(ErrOp, err)
	}
	if opt.Key == nil {
		return fail(ErrNoKey, nil)
	}
	lim := opt.CAR
	if lim.TotalBytes = opt.MaxFile(); int64(len(file)) > lim.TotalBytes {
		return fail(ErrSize, fmt.Errorf("%d bytes, at most %d", len(file), lim.TotalBytes))
	}
	if lim.Blocks == 0 {
		lim.Blocks = 1024
	}
	roots, all, err := car.ReadAll(file, lim)
	if errors.Is(err, car.ErrTooLarge) {
		return fail(ErrSize, err)
	} else if err != nil {
		return fail(ErrBlocks, err)
	}
	if len(roots) != 1 {
		return fail(ErrBlocks, fmt.Errorf("%d roots, want one", len(roots)))
	}
	p.Root = roots[0]
	if codec, _, ok := dag.Split(p.Root); !ok || codec != dag.CBOR {
		return fail(ErrBlocks, fmt.Errorf("%s is not the CID of a commit", p.Root))
	}
	blocks := newBlockSet(all)
	object, ok := blocks.find(p.Root)
	if !ok {
		return fail(ErrBlocks, errors.New("the commit is missing"))
	}
	c, err := Parse(object)
	if err != nil {
		return fail(ErrCommitBlock, err)
	}
	if p.Commit = c; c.DID != opt.DID {
		return fail(ErrFields, fmt.Errorf("the commit is of %s", c.DID))
	}
	if err := c.Verify(opt.Key); err != nil {
		return fail(ErrBadSignature, nil)
	}
	tree, err := mst.Open(mst.Checked{Source: blocks}, c.Data, opt.Tree)
	if err == nil {
		p.CID, ok, err = tree.Get(path)
	}
	switch {
	case err != nil:
		return fail(ErrTree, err)
	case !ok:
		return ProvenRecord{Root: p.Root, Commit: c}, &RuleError{ErrNoRecord, opt.DID, c.Rev, errors.New(path)}
	}
	if codec, _, ok := dag.Split(p.CID); !ok || codec != dag.CBOR {
		return fail(ErrRecord, fmt.Errorf("%s is not the CID of a record", p.CID))
	}
	if p.Data, ok = blocks.find(p.CID); !ok {
		return fail(ErrRecord, fmt.Errorf("%s: no block", path))
	}
	if len(p.Data) > opt.maxRecord() {
		return fail(ErrRecord, fmt.Errorf("%s: %d bytes, at most %d", path, len(p.Data), opt.maxRecord()))
	}
	if err := checkRecord(p.Data); err != nil {
		return fail(ErrRecord, fmt.Errorf("%s: %w", path, err))
	}
	return p, nil
}

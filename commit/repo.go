package commit

import (
	"errors"
	"fmt"
	"io"
	"iter"

	"github.com/ipfs/go-cid"
	"github.com/pdskit/pdskit/car"
	"github.com/pdskit/pdskit/crypto"
	"github.com/pdskit/pdskit/lexicon/syntax"
	"github.com/pdskit/pdskit/mst"
)

// ErrRepo says that a CAR file is not a complete, valid repository. The error
// that wraps it says why.
var ErrRepo = errors.New("commit: invalid repository")

// RepoOptions says what ReadRepo checks.
type RepoOptions struct {
	// DID, if not empty, is whose repository it must be.
	DID syntax.DID
	// Key, if not nil, is the key that must have signed the commit.
	Key *crypto.PublicKey
	// CAR and Tree bound the file; Record bounds the bytes of one record
	// (0: the protocol's limit).
	CAR    car.Limits
	Tree   mst.Limits
	Record int
	// Records bounds the bytes of all records together, with a record that several
	// paths link to counted each time, so that a small file cannot stand for endless work.
	// Default 16 GiB.
	Records int64
	// Stream promises that every block comes where it is wanted, as often as it is
	// linked to: then no block is kept. Without the promise, blocks are kept in an index as
	// they come, in case they are linked to again; or, if the reader can seek, the file is
	// read a second time when one is.
	Stream bool
	// TempDir and Memory are for that index: see car.NewIndex.
	TempDir string
	Memory  int64
}

// RepoRecord is a record of a repository that is being read. Data is good until the
// next step of the iteration.
type RepoRecord struct {
	Path string
	CID  cid.Cid
	Data []byte
}

// RepoReader reads and verifies the CAR file of a whole repository.
type RepoReader struct {
	commit Commit
	root   cid.Cid
	car    *car.Reader
	seeker io.ReadSeeker // nil: the file can be read once only
	start  int64         // of the file in the seeker
	opt    RepoOptions
	index  *car.Index // blocks that came before they were wanted
	spent  bool
}

// ReadRepo reads the start of a CAR file up to the commit, and checks it.
func ReadRepo(r io.Reader, opt RepoOptions) (*RepoReader, error) {
	if opt.Record == 0 {
		opt.Record = MaxRecord
	}
	if opt.Records == 0 {
		opt.Records = 16 << 30
	}
	seeker, start := seekable(r)
	cr, err := car.NewReader(r, opt.CAR)
	if err != nil {
		return nil, fmt.Errorf("%w: %w", ErrRepo, err)
	}
	if len(cr.Roots()) != 1 {
		return nil, fmt.Errorf("%w: %d roots, want one", ErrRepo, len(cr.Roots()))
	}
	x := &RepoReader{root: cr.Roots()[0], car: cr, seeker: seeker, start: start, opt: opt}
	for {
		b, err := cr.Next()
		if err == io.EOF {
			x.Close()
			return nil, fmt.Errorf("%w: the commit is missing", ErrRepo)
		} else if err != nil {
			x.Close()
			return nil, fmt.Errorf("%w: %w", ErrRepo, err)
		}
		if b.CID == x.root {
			x.commit, err = Decode(b.Data)
			switch {
			case err != nil:
			case opt.DID != "" && x.commit.DID != opt.DID:
				err = fmt.Errorf("it is that of %s, not of %s", x.commit.DID, opt.DID)
			case opt.Key != nil:
				err = x.commit.Verify(opt.Key)
			}
			if err != nil {
				x.Close()
				return nil, fmt.Errorf("%w: %w", ErrRepo, err)
			}
			return x, nil
		}
		if err := x.keep(b); err != nil {
			x.Close()
			return nil, err
		}
	}
}

// seekable returns a reader that can seek and where it stands. A pipe is an
// io.Seeker too, but it fails to seek.
func seekable(r io.Reader) (io.ReadSeeker, int64) {
	if s, ok := r.(io.ReadSeeker); ok {
		if start, err := s.Seek(0, io.SeekCurrent); err == nil {
			return s, start
		}
	}
	return nil, 0
}

// Commit returns the repository's commit.
func (x *RepoReader) Commit() Commit { return x.commit }

// Root returns the CID of the commit.
func (x *RepoReader) Root() cid.Cid { return x.root }

// Close frees what the reader holds, but does not close the underlying reader.
func (x *RepoReader) Close() error {
	if x.index == nil {
		return nil
	}
	return x.index.Close()
}

// keep puts a block that is not wanted yet into the index.
func (x *RepoReader) keep(b car.Block) error {
	if x.index == nil {
		x.index = car.NewIndex(x.opt.TempDir, x.opt.Memory)
	}
	return x.index.Add(b)
}

// Records yields all records in path order. Unless the last error is nil, nothing of what
// was yielded is worth anything. It can be used once.
//
// A file in pre-order is checked as it streams by, with memory for one path of
// the tree (see RepoOptions.Stream). Blocks in another order, repeated or
// foreign, go through a car.Index.
func (x *RepoReader) Records() iter.Seq2[RepoRecord, error] {
	return func(yield func(RepoRecord, error) bool) {
		if x.spent {
			yield(RepoRecord{}, errors.New("commit: the records were read already"))
			return
		}
		x.spent = true
		if err := x.records(yield); err != nil {
			yield(RepoRecord{}, err)
		}
	}
}

func (x *RepoReader) records(yield func(RepoRecord, error) bool) error {
	v, err := mst.NewStreamVerifier(x.commit.Data, x.opt.Tree)
	if err != nil {
		return fmt.Errorf("%w: %w", ErrRepo, err)
	}
	left := x.opt.Records
	for want, ok := v.Next(); ok; want, ok = v.Next() {
		data, err := x.block(want.CID)
		if err != nil {
			return fmt.Errorf("%w: %w", ErrRepo, err)
		}
		if want.Key == "" {
			if err := v.Node(data); err != nil {
				return fmt.Errorf("%w: %w", ErrRepo, err)
			}
			continue
		}
		if err := checkRecord(data, x.opt.Record); err != nil {
			return fmt.Errorf("%w: record %s: %w", ErrRepo, want.Key, err)
		}
		if left -= int64(len(data)); left < 0 {
			return fmt.Errorf("%w: record %s: more than %d bytes of records", ErrRepo, want.Key, x.opt.Records)
		}
		if !yield(RepoRecord{Path: want.Key, CID: want.CID, Data: data}, nil) {
			return nil
		}
	}
	// What is left must be well-formed, but nobody wants it.
	for {
		if _, err := x.car.NextShared(); err == io.EOF {
			return nil
		} else if err != nil {
			return fmt.Errorf("%w: %w", ErrRepo, err)
		}
	}
}

// block returns a wanted block: the next of the file, or one that came earlier, or one
// that is still to come.
func (x *RepoReader) block(c cid.Cid) ([]byte, error) {
	if x.index != nil {
		if data, err := x.index.Block(c); !errors.Is(err, car.ErrNotFound) {
			return data, err
		}
	}
	for {
		b, err := x.car.NextWanted(c)
		if err == io.EOF {
			return x.again(c)
		} else if err != nil {
			return nil, err
		}
		if b.CID == c {
			if x.index != nil || x.seeker == nil && !x.opt.Stream { // it may be wanted again
				err = x.keep(b)
			}
			return b.Data, err
		}
		if err := x.keep(b); err != nil {
			return nil, err
		}
	}
}

// again looks for a block in the whole file, which must be able to seek: it puts
// all blocks into the index.
func (x *RepoReader) again(c cid.Cid) ([]byte, error) {
	missing := fmt.Errorf("block %s is missing", c)
	if x.seeker == nil {
		return nil, missing
	}
	if _, err := x.seeker.Seek(x.start, io.SeekStart); err != nil {
		return nil, err
	}
	r, err := car.NewReader(x.seeker, x.opt.CAR)
	if err != nil {
		return nil, err
	}
	x.seeker = nil // no third time
	for {
		b, err := r.NextShared()
		if err == io.EOF {
			break
		}
		if err == nil {
			err = x.keep(b)
		}
		if err != nil {
			return nil, err
		}
	}
	if x.index == nil { // the file has become another one
		return nil, missing
	}
	data, err := x.index.Block(c)
	if errors.Is(err, car.ErrNotFound) {
		err = missing
	}
	return data, err
}

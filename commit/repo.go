package commit

import (
	"bytes"
	"errors"
	"fmt"
	"io"
	"iter"
	"runtime"

	"github.com/ipfs/go-cid"
	"github.com/pdskit/pdskit/car"
	"github.com/pdskit/pdskit/crypto"
	"github.com/pdskit/pdskit/internal/dag"
	"github.com/pdskit/pdskit/lexicon/syntax"
	"github.com/pdskit/pdskit/mst"
)

// ErrRepo: a CAR file is not a complete, valid repository. Errors wrap it with the reason.
var ErrRepo = errors.New("commit: invalid repository")

// RepoOptions are the options of [ReadRepo].
type RepoOptions struct {
	// DID, if not empty, is the account whose repository it must be.
	DID syntax.DID
	// Key, if not nil, must have signed the commit.
	Key *crypto.PublicKey
	// CAR and Tree bound the file. Record bounds the bytes of one record (0: the protocol's limit).
	CAR    car.Limits
	Tree   mst.Limits
	Record int
	// Records bounds the bytes of all records together. A record that several paths link to counts
	// once for each, so a small file cannot cause endless work. Default 16 GiB.
	Records int64
	// CheckRecord, if not nil, replaces the rule that a record is a map of the data model in
	// canonical CBOR, for repositories with older records: see data.RecordRefs. The size and the
	// CID of records are always checked.
	CheckRecord func(path string, record []byte) error
	// Fault, if not nil, is called with each fault of a single record, node or block. If it returns
	// true, reading continues without that record, or without what is below that node, to find
	// further faults. The repository is invalid nevertheless, although Records may end without an
	// error. Blocks that nothing links to are checked only if the reader can seek.
	Fault func(err error) bool
	// Stream promises that every block comes where it is needed, and as often as it is linked to.
	// Then no block is kept. Without it, blocks are kept in an index, in case they are linked to
	// again. If the reader can seek, only the positions of blocks are kept, and the file is read
	// again when a block is not where it is needed.
	Stream bool
	// Temp and Memory configure the index of a reader that cannot seek (car.NewIndex), and Temp
	// that of one that can (car.IndexFile).
	Temp   car.Temp
	Memory int64
	// Hold is called for the temporary files of a reader that can seek: see car.IndexOptions.
	Hold func(n int64) error
}

// RepoRecord is a record of a repository that is being read. Data is valid until the next
// iteration.
type RepoRecord struct {
	Path string
	CID  cid.Cid
	Data []byte
}

// RepoReader reads and verifies the CAR file of a whole repository.
type RepoReader struct {
	commit    Commit
	root      cid.Cid
	car       *car.Reader
	seeker    io.ReadSeeker // nil: the file can be read once only
	start     int64         // of the file in the seeker
	opt       RepoOptions
	index     *car.Index     // blocks that came before they were wanted
	fileIndex *car.FileIndex // not nil: the file was read to its end, and blocks come from here
	spent     bool
}

// errMissing: a block is not in the file.
var errMissing = errors.New("the block is missing")

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
	if err := x.readCommit(); err != nil {
		x.Close()
		return nil, fmt.Errorf("%w: %w", ErrRepo, err)
	}
	return x, nil
}

// readCommit reads the commit and checks it.
func (x *RepoReader) readCommit() error {
	block, err := x.block(x.root)
	if errors.Is(err, errMissing) {
		return errors.New("the commit is missing")
	} else if err != nil {
		return err
	}
	x.commit, err = Parse(block)
	switch {
	case err != nil:
	case x.opt.DID != "" && x.commit.DID != x.opt.DID:
		err = fmt.Errorf("it is that of %s, not of %s", x.commit.DID, x.opt.DID)
	case x.opt.Key != nil:
		err = x.commit.Verify(x.opt.Key)
	}
	return err
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

// Commit returns the repository's commit object.
func (x *RepoReader) Commit() Commit { return x.commit }

// Root returns the CID of the commit.
func (x *RepoReader) Root() cid.Cid { return x.root }

// Close releases the reader's resources. It does not close the underlying reader.
func (x *RepoReader) Close() error {
	var errs []error
	if x.index != nil {
		errs = append(errs, x.index.Close())
	}
	if x.fileIndex != nil {
		errs = append(errs, x.fileIndex.Close())
	}
	return errors.Join(errs...)
}

// keep puts a block that is not wanted yet into the index.
func (x *RepoReader) keep(b car.Block) error {
	if x.index == nil {
		x.index = car.NewIndex(x.opt.Temp, x.opt.Memory)
	}
	return x.index.Add(b)
}

// Records yields all records in path order. They are verified only if the iteration ends without an
// error. It can be used once.
//
// A file in pre-order is verified as it is read, with memory for one path of the tree (see
// RepoOptions.Stream). Blocks in another order, repeated blocks and foreign ones go through an
// index of bounded memory.
//
// If the reader can seek (a file or memory), other goroutines check hashes and records ahead of the
// iteration. They end with it.
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
	if x.seeker != nil {
		defer x.car.ReadAhead(min(runtime.GOMAXPROCS(0)-1, maxAhead), x.sound())()
	}
	left := x.opt.Records
	for want, ok := v.Next(); ok; want, ok = v.Next() {
		data, err := x.wanted(v, want)
		switch {
		case err != nil && want.Key == "" && x.goOn(err):
			v.Skip()
		case err != nil && want.Key != "" && x.goOn(err):
		case err != nil:
			return err
		case want.Key == "":
		default:
			if left -= int64(len(data)); left < 0 {
				return fmt.Errorf("%w: record %s: more than %d bytes of records", ErrRepo, want.Key, x.opt.Records)
			}
			if !yield(RepoRecord{Path: want.Key, CID: want.CID, Data: data}, nil) {
				return nil
			}
		}
	}
	// What is left must be well-formed, but nobody wants it.
	for x.fileIndex == nil {
		_, err := x.car.NextShared()
		switch {
		case err == io.EOF:
			return nil
		case err != nil && x.opt.Fault != nil && x.seeker != nil && errors.Is(err, car.ErrHash):
			err = x.indexAll() // it tells of all such blocks
		}
		if err != nil {
			return fmt.Errorf("%w: %w", ErrRepo, err)
		}
	}
	return nil
}

// maxAhead is how many goroutines check blocks ahead. More would wait for the caller's, which has as
// much to do with the tree.
const maxAhead = 2

// sound is what is checked ahead of the iteration, besides hashes: nothing if the caller has a rule
// of its own.
func (x *RepoReader) sound() func(block []byte) bool {
	if x.opt.CheckRecord != nil {
		return nil
	}
	return func(block []byte) bool {
		return !bytes.HasPrefix(block, nodeStart) && checkRecord(block) == nil
	}
}

// nodeStart is how nodes of the tree begin, of which nobody asks whether they are records.
var nodeStart = []byte("\xa2\x61e")

// faultError is an error that concerns a single record, node or block.
type faultError struct{ error }

func (e faultError) Unwrap() error { return e.error }

// goOn reports whether reading goes on after an error.
func (x *RepoReader) goOn(err error) bool {
	return x.opt.Fault != nil && errors.As(err, new(faultError)) && x.opt.Fault(err)
}

// wanted reads a block that the tree wants next, and checks it.
func (x *RepoReader) wanted(v *mst.StreamVerifier, want mst.Want) ([]byte, error) {
	data, err := x.block(want.CID)
	single, tree := errors.Is(err, errMissing), false
	if err == nil {
		single = true
		if want.Key == "" {
			err = v.Node(data)
			single, tree = !errors.Is(err, mst.ErrTooLarge), true
		} else {
			err = x.checkRecord(want, data)
		}
	}
	if err == nil {
		return data, nil
	}
	what := "tree"
	switch {
	case want.Key != "":
		what = "record " + want.Key
	case !tree:
		what = "node " + want.CID.String()
	}
	if err = fmt.Errorf("%w: %s: %w", ErrRepo, what, err); single {
		err = faultError{err}
	}
	return nil, err
}

// checkRecord checks a record and its CID, but for the hash.
func (x *RepoReader) checkRecord(want mst.Want, data []byte) error {
	if codec, _, ok := dag.Split(want.CID); !ok || codec != dag.CBOR {
		return fmt.Errorf("%s is not the CID of a record: its codec is not dag-cbor", want.CID)
	}
	if len(data) > x.opt.Record {
		return fmt.Errorf("%d bytes, at most %d", len(data), x.opt.Record)
	}
	switch {
	case x.opt.CheckRecord != nil:
		return x.opt.CheckRecord(want.Key, data)
	case x.fileIndex == nil && x.car.Sound():
		return nil
	}
	return checkRecord(data)
}

// block returns a wanted block: the next of the file, or one that came earlier, or one
// that is still to come.
func (x *RepoReader) block(c cid.Cid) ([]byte, error) {
	if x.fileIndex != nil {
		return found(x.fileIndex.Block(c))
	}
	if x.index != nil {
		if data, err := x.index.Block(c); !errors.Is(err, car.ErrNotFound) {
			return data, err
		}
	}
	for {
		b, err := x.car.NextWanted(c)
		if err == nil && b.CID == c {
			if x.seeker == nil && !x.opt.Stream { // it may be wanted again
				err = x.keep(b)
			}
			return b.Data, err
		}
		switch {
		case x.seeker != nil && (err == nil || err == io.EOF || errors.Is(err, car.ErrHash)):
			if err := x.indexAll(); err != nil {
				return nil, err
			}
			return found(x.fileIndex.Block(c))
		case err == io.EOF:
			return nil, errMissing
		case err != nil:
			return nil, err
		}
		if err := x.keep(b); err != nil {
			return nil, err
		}
	}
}

// found gives the error of an index that has all blocks the meaning that it has here.
func found(data []byte, err error) ([]byte, error) {
	if errors.Is(err, car.ErrNotFound) {
		err = errMissing
	}
	return data, err
}

// indexAll reads the whole file, which must be able to seek, to find blocks that are not where
// they are wanted.
func (x *RepoReader) indexAll() error {
	if _, err := x.seeker.Seek(x.start, io.SeekStart); err != nil {
		return err
	}
	var fault func(error) bool
	if x.opt.Fault != nil {
		fault = func(err error) bool { return x.goOn(faultError{fmt.Errorf("%w: %w", ErrRepo, err)}) }
	}
	whole, err := car.IndexFile(x.seeker, car.IndexOptions{Limits: x.opt.CAR, Temp: x.opt.Temp, Hold: x.opt.Hold, Fault: fault})
	if err != nil {
		return err
	}
	x.fileIndex = whole
	return nil
}

package archive

import (
	"archive/tar"
	"context"
	"errors"
	"fmt"
	"io"
	"os"
	"path/filepath"

	"github.com/ipfs/go-cid"
	"github.com/pdskit/pdskit/commit"
	"github.com/pdskit/pdskit/crypto"
	"github.com/pdskit/pdskit/lexicon/data"
	"github.com/pdskit/pdskit/lexicon/syntax"
)

// Verify reads and verifies a tar file or a folder: the repository block by block, blobs against
// their CIDs, and everything against the manifest. If something does not match, the error is
// ErrBad.
func Verify(ctx context.Context, path string, opt Options) (*Manifest, error) {
	v := newVerifier(ctx, opt)
	if err := files(path, v.file); err != nil {
		return nil, err
	}
	return v.end()
}

// VerifyTar is [Verify] for a tar file that is read from r to its end.
func VerifyTar(ctx context.Context, r io.Reader, opt Options) (*Manifest, error) {
	v := newVerifier(ctx, opt)
	if err := tarFiles(r, v.file); err != nil {
		return nil, err
	}
	if _, err := io.Copy(io.Discard, r); err != nil { // what pads it
		return nil, err
	}
	return v.end()
}

func bad(format string, args ...any) error {
	return fmt.Errorf("%w: %w", ErrBad, fmt.Errorf(format, args...))
}

// files calls fn with the files of an archive, in the order in which they are written.
func files(path string, fn func(name string, r io.Reader) error) error {
	info, err := os.Stat(path)
	if err != nil {
		return err
	}
	if info.IsDir() {
		return dirFiles(path, fn)
	}
	f, err := os.Open(path)
	if err != nil {
		return err
	}
	defer f.Close()
	return tarFiles(f, fn)
}

func tarFiles(r io.Reader, fn func(string, io.Reader) error) error {
	for t := tar.NewReader(r); ; {
		h, err := t.Next()
		if err == io.EOF {
			return nil
		} else if err != nil {
			return bad("it is no tar file, or was cut off: %w", err)
		}
		if h.Typeflag != tar.TypeReg {
			return bad("%.200q is not a file", h.Name)
		}
		if err := fn(h.Name, t); err != nil {
			return err
		}
	}
}

func dirFiles(dir string, fn func(string, io.Reader) error) error {
	entries, err := os.ReadDir(filepath.Join(dir, "blobs"))
	if err != nil && !errors.Is(err, os.ErrNotExist) {
		return err
	}
	names := []string{repoName, preferencesName}
	for _, e := range entries {
		names = append(names, blobsName+e.Name())
	}
	for _, name := range append(names, manifestName) {
		if err := dirFile(filepath.Join(dir, filepath.FromSlash(name)), name, fn); err != nil {
			return err
		}
	}
	return nil
}

func dirFile(path, name string, fn func(string, io.Reader) error) error {
	info, err := os.Lstat(path)
	if errors.Is(err, os.ErrNotExist) {
		return bad("%s is missing", name)
	} else if err != nil {
		return err
	}
	if !info.Mode().IsRegular() {
		return bad("%.200q is not a file", name)
	}
	f, err := os.Open(path)
	if err != nil {
		return err
	}
	defer f.Close()
	return fn(name, f)
}

// verifier reads the files of an archive.
type verifier struct {
	ctx   context.Context
	opt   Options
	repo  *readRepository // nil: it was not there yet
	blobs map[cid.Cid]int64
	prefs string          // digest of the preferences
	seen  map[string]bool // of the names that are no blob's
	m     *Manifest
}

func newVerifier(ctx context.Context, opt Options) *verifier {
	return &verifier{ctx: ctx, opt: opt, blobs: make(map[cid.Cid]int64), seen: make(map[string]bool)}
}

func (v *verifier) file(name string, r io.Reader) (err error) {
	if err := v.ctx.Err(); err != nil {
		return err
	}
	if v.m != nil {
		return bad("%.200q comes after %s", name, manifestName)
	}
	if c, ok := blobName(name); ok {
		return v.blob(c, r)
	}
	if v.seen[name] {
		return bad("%.200q is there twice", name)
	}
	v.seen[name] = true
	switch name {
	case repoName:
		v.repo, err = readRepo(v.ctx, r, "", v.opt.Key)
	case preferencesName:
		_, v.prefs, err = readPreferences(r)
	case manifestName:
		v.m = &Manifest{}
		_, err = readJSON(r, maxManifest, v.m)
	default:
		err = errors.New("it does not belong there")
	}
	if err != nil && v.ctx.Err() == nil {
		err = bad("%.200s: %w", name, err)
	}
	return err
}

func (v *verifier) blob(c cid.Cid, r io.Reader) error {
	if v.repo == nil {
		return bad("%s comes after blobs, or is missing", repoName)
	}
	if _, twice := v.blobs[c]; twice || !v.repo.refs.has(c) {
		return bad("no record refers to blob %s, or it is there twice", c)
	}
	size, err := checkBlob(v.ctx, r, c)
	if err != nil {
		return bad("blob %s: %w", c, err)
	}
	v.blobs[c] = size
	v.opt.progress(len(v.blobs))
	return nil
}

// end compares what was read with the manifest.
func (v *verifier) end() (*Manifest, error) {
	m, x := v.m, v.repo
	switch {
	case m == nil:
		return nil, bad("it was cut off: %s is missing", manifestName)
	case m.Format != 1:
		return nil, bad("it has format %d, made by a newer server?", m.Format)
	case x == nil || !v.seen[preferencesName]:
		return nil, bad("%s or %s is missing", repoName, preferencesName)
	case m.DID != x.did || m.Commit != x.root || m.Rev != x.rev || m.Records != x.records || m.Preferences != v.prefs:
		return nil, bad("%s does not fit what is in it", manifestName)
	}
	listed := make(map[cid.Cid]bool)
	for _, b := range m.Blobs {
		c, err := cid.Decode(b.CID)
		size, ok := v.blobs[c]
		if err != nil || !ok || size != b.Size || listed[c] {
			return nil, bad("blob %.200q is not in it, or was changed", b.CID)
		}
		listed[c] = true
	}
	if len(listed) != len(v.blobs) {
		return nil, bad("it has blobs that %s does not name", manifestName)
	}
	for _, text := range m.Missing {
		c, err := cid.Decode(text)
		if err != nil || listed[c] || !x.refs.has(c) {
			return nil, bad("blob %.200q is not one that is missing", text)
		}
		listed[c] = true
	}
	if len(listed) != len(x.refs.list) {
		return nil, bad("it lacks blobs that records refer to")
	}
	return m, nil
}

// blobRefs are the blobs that records refer to, in the order in which they come.
type blobRefs struct {
	list []cid.Cid
	set  map[cid.Cid]bool
}

func (b *blobRefs) has(c cid.Cid) bool { return b.set[c] }

func (b *blobRefs) add(c cid.Cid) {
	if !b.set[c] {
		b.set[c], b.list = true, append(b.list, c)
	}
}

// readRepository is what was read of a repository.
type readRepository struct {
	did     syntax.DID
	root    string
	rev     syntax.TID
	records int
	refs    blobRefs
}

// readRepo reads and verifies a repository. With a DID, it must be that one's, and with a key, be
// signed by it.
func readRepo(ctx context.Context, r io.Reader, did syntax.DID, key *crypto.PublicKey) (*readRepository, error) {
	x := &readRepository{refs: blobRefs{set: make(map[cid.Cid]bool)}}
	rd, err := commit.ReadRepo(r, commit.RepoOptions{DID: did, Key: key, CheckRecord: func(path string, record []byte) error {
		refs, _, err := data.RecordRefs(record)
		for _, c := range refs {
			x.refs.add(c)
		}
		return errors.Join(err, ctx.Err())
	}})
	if err != nil {
		return nil, err
	}
	defer rd.Close()
	for _, err := range rd.Records() {
		if err != nil {
			return nil, err
		}
		x.records++
	}
	c := rd.Commit()
	x.did, x.root, x.rev = c.DID, rd.Root().String(), c.Rev
	return x, nil
}

// checkBlob reads a blob, which must be what its CID says, and returns its size.
func checkBlob(ctx context.Context, r io.Reader, c cid.Cid) (int64, error) {
	h, err := newHash(c)
	if err != nil {
		return 0, err
	}
	size, err := io.Copy(h, &withContext{ctx, r})
	if err == nil && !h.is(c) {
		err = errors.New("its bytes are not those of its CID")
	}
	return size, err
}

func readPreferences(r io.Reader) (list preferences, digest string, err error) {
	text, err := readJSON(r, maxPreferences, &list)
	return list, digestOf(text), err
}

// readJSON reads JSON of at most most bytes, and returns its text.
func readJSON(r io.Reader, most int64, v any) ([]byte, error) {
	text, err := io.ReadAll(io.LimitReader(r, most+1))
	if err != nil {
		return nil, err
	}
	if int64(len(text)) > most {
		return nil, fmt.Errorf("it has more than %d bytes", most)
	}
	return text, data.UnmarshalPlainJSON(text, v)
}

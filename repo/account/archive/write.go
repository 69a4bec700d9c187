package archive

import (
	"archive/tar"
	"bytes"
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"os"
	"path/filepath"
	"strings"
	"time"

	"github.com/ipfs/go-cid"
	"github.com/pdskit/pdskit/internal/durablefile"
	"github.com/pdskit/pdskit/lexicon/syntax"
	"github.com/pdskit/pdskit/repo"
	"github.com/pdskit/pdskit/repo/account"
)

// sink is where an archive goes.
type sink interface {
	// put writes a file of that size.
	put(name string, size int64, t time.Time, r io.Reader) error
}

// ToTar writes an account as a tar file to w. Its memory grows only with the list of blobs.
// Options.Temp needs space for the repository. Blobs are read twice, so that no part of a damaged
// blob is written.
//
// The account may be in use. Its records are those of one moment. A blob that is deleted later
// counts as missing.
func ToTar(ctx context.Context, accounts *account.Store, did syntax.DID, w io.Writer, opt Options) (*Manifest, error) {
	out := tar.NewWriter(w)
	m, err := write(ctx, accounts, did, tarSink{out}, opt)
	if err != nil {
		return nil, err
	}
	return m, out.Close()
}

// ToFile is [ToTar] into a file. The file must not exist, and gets its name only when it is
// complete.
func ToFile(ctx context.Context, accounts *account.Store, did syntax.DID, file string, opt Options) (m *Manifest, err error) {
	if err := mustBeNew(file); err != nil {
		return nil, err
	}
	err = durablefile.WriteFunc(file, func(w io.Writer) error {
		m, err = ToTar(ctx, accounts, did, w, opt)
		return err
	})
	return m, err
}

// ToDir writes an account as a folder. The folder must not exist, and gets its name only when it is
// complete.
func ToDir(ctx context.Context, accounts *account.Store, did syntax.DID, dir string, opt Options) (m *Manifest, err error) {
	if err := mustBeNew(dir); err != nil {
		return nil, err
	}
	part, err := os.MkdirTemp(filepath.Dir(filepath.Clean(dir)), filepath.Base(dir)+".part-*")
	if err != nil {
		return nil, err
	}
	defer os.RemoveAll(part) // fails after the rename
	if err := os.Mkdir(filepath.Join(part, "blobs"), 0o700); err != nil {
		return nil, err
	}
	if m, err = write(ctx, accounts, did, dirSink(part), opt); err != nil {
		return nil, err
	}
	if err := errors.Join(durablefile.SyncDir(filepath.Join(part, "blobs")), durablefile.SyncDir(part)); err != nil {
		return nil, err
	}
	return m, durablefile.Rename(part, filepath.Clean(dir))
}

func mustBeNew(path string) error {
	if _, err := os.Lstat(path); err == nil {
		return fmt.Errorf("%w: %s", ErrExists, path)
	} else if !errors.Is(err, os.ErrNotExist) {
		return err
	}
	return nil
}

type tarSink struct{ w *tar.Writer }

func (s tarSink) put(name string, size int64, t time.Time, r io.Reader) error {
	err := s.w.WriteHeader(&tar.Header{Typeflag: tar.TypeReg, Name: name, Size: size, Mode: 0o600, ModTime: t, Format: tar.FormatPAX})
	if err == nil {
		_, err = io.CopyN(s.w, r, size)
	}
	return err
}

type dirSink string

func (s dirSink) put(name string, size int64, _ time.Time, r io.Reader) error {
	f, err := os.OpenFile(filepath.Join(string(s), filepath.FromSlash(name)), os.O_CREATE|os.O_EXCL|os.O_WRONLY, 0o600)
	if err != nil {
		return err
	}
	_, err = io.CopyN(f, r, size)
	return errors.Join(err, f.Sync(), f.Close())
}

// write writes the parts of an account in their order.
func write(ctx context.Context, accounts *account.Store, did syntax.DID, out sink, opt Options) (*Manifest, error) {
	a, err := accounts.ByDID(ctx, did)
	if err != nil {
		return nil, err
	}
	m := &Manifest{Format: 1, Created: opt.now().UTC().Truncate(time.Second), DID: a.DID, Handle: a.Handle, Blobs: []Blob{}}
	refs, err := writeRepo(ctx, accounts.Host(), m, out, opt)
	if err != nil {
		return nil, err
	}
	if err := writePreferences(ctx, accounts, m, out); err != nil {
		return nil, err
	}
	for i, ref := range refs.list {
		if err := writeBlob(ctx, accounts.Host(), m, ref, out); err != nil {
			return nil, fmt.Errorf("blob %s: %w", ref, err)
		}
		opt.progress(i + 1)
	}
	text, err := json.MarshalIndent(m, "", "\t")
	if err != nil {
		return nil, err
	}
	return m, out.put(manifestName, int64(len(text)), m.Created, bytes.NewReader(text))
}

// writeRepo exports the repository, verifies that, and returns the blobs that its records refer to.
func writeRepo(ctx context.Context, host *repo.Host, m *Manifest, out sink, opt Options) (*blobRefs, error) {
	f, err := os.CreateTemp(opt.Temp, "archive-*")
	if err != nil {
		return nil, err
	}
	defer os.Remove(f.Name()) // where it could not be removed while it is open
	defer f.Close()
	os.Remove(f.Name()) // so that a crash leaves nothing
	if err := host.Export(ctx, m.DID, "", f); err != nil {
		return nil, err
	}
	size, err := f.Seek(0, io.SeekCurrent)
	if err == nil {
		_, err = f.Seek(0, io.SeekStart)
	}
	if err != nil {
		return nil, err
	}
	x, err := readRepo(ctx, f, m.DID, nil)
	if err != nil {
		return nil, fmt.Errorf("the repository is damaged (pds check says more): %w", err)
	}
	m.Commit, m.Rev, m.Records = x.root, x.rev, x.records
	if _, err := f.Seek(0, io.SeekStart); err != nil {
		return nil, err
	}
	return &x.refs, out.put(repoName, size, m.Created, f)
}

func writePreferences(ctx context.Context, accounts *account.Store, m *Manifest, out sink) error {
	list, err := accounts.Preferences(ctx, m.DID)
	if err != nil {
		return err
	}
	if list == nil {
		list = preferences{}
	}
	text, err := json.Marshal(list)
	if err != nil {
		return err
	}
	m.Preferences = digestOf(text)
	return out.put(preferencesName, int64(len(text)), m.Created, bytes.NewReader(text))
}

func writeBlob(ctx context.Context, host *repo.Host, m *Manifest, ref cid.Cid, out sink) error {
	r, info, err := host.OpenBlob(ctx, m.DID, ref)
	if errors.Is(err, repo.ErrBlobNotFound) {
		m.Missing = append(m.Missing, ref.String())
		return nil
	} else if err != nil {
		return err
	}
	defer r.Close()
	switch size, err := checkBlob(ctx, r, ref); {
	case ctx.Err() != nil:
		return ctx.Err()
	case err != nil || size != info.Size: // damaged
		m.Missing = append(m.Missing, ref.String())
		return nil
	}
	if _, err := r.Seek(0, io.SeekStart); err != nil {
		return err
	}
	m.Blobs = append(m.Blobs, Blob{ref.String(), info.MIME, info.Size})
	return out.put(blobsName+ref.String(), info.Size, m.Created, &withContext{ctx, r})
}

// withContext is a reader that ends with a context.
type withContext struct {
	ctx context.Context
	r   io.Reader
}

func (w *withContext) Read(p []byte) (int, error) {
	if err := w.ctx.Err(); err != nil {
		return 0, err
	}
	return w.r.Read(p)
}

// blobName returns the CID of a file's name, if it is one of a blob.
func blobName(name string) (cid.Cid, bool) {
	text, ok := strings.CutPrefix(name, blobsName)
	if !ok {
		return cid.Undef, false
	}
	c, err := cid.Decode(text)
	return c, err == nil && c.String() == text
}

package blobfs

import (
	"bytes"
	"context"
	"crypto/sha256"
	"fmt"
	"io"
	"path/filepath"
	"strings"

	"github.com/ipfs/go-cid"
	"github.com/pdskit/pdskit/internal/dag"
	"github.com/pdskit/pdskit/lexicon/syntax"
	"github.com/pdskit/pdskit/storage"
)

// What follows is for those who copy the folder of a store: backups. A file of a blob is good or
// bad wherever it lies, since the CID in its name says what its bytes are.

// FileName returns the path of a promoted blob's file, with slashes, relative to the folder of a
// store. It reports false for CIDs that no blob can have.
func FileName(did syntax.DID, c cid.Cid) (name string, ok bool) {
	name, _, ok = (&Store{}).account(did).paths(c)
	return filepath.ToSlash(name), ok
}

// FileCID returns the CID of the blob whose file has a name, either one from [FileName] or that of
// a staged blob. It reports false for the names of other files.
func FileCID(name string) (cid.Cid, bool) {
	dir, base, _ := strings.Cut(name, "/")
	if i := strings.LastIndexByte(base, '/'); dir == "blobs" && i >= 0 {
		dir, base = base[:i], base[i+1:]
		if parts := strings.Split(dir, "/"); len(parts) != 2 || !isHash(parts[1]) || parts[0] != parts[1][:2] {
			return cid.Undef, false
		}
	} else if dir == "staged" {
		hash, blob, _ := strings.Cut(base, ".")
		if base = blob; !isHash(hash) {
			return cid.Undef, false
		}
	} else {
		return cid.Undef, false
	}
	digest, ok := parseName(base)
	return dag.CID(dag.Raw, &digest), ok
}

// isHash reports whether a name may be that of an account's folder.
func isHash(s string) bool {
	return len(s) == 2*sha256.Size && strings.Trim(s, "0123456789abcdef") == ""
}

// StatFile reads the trailer of a blob's file. The trailer has a checksum and the length that the
// file must have. A file that was truncated or overwritten at its end gives storage.ErrCorrupt.
func StatFile(file string, c cid.Cid) (storage.BlobInfo, error) {
	f, info, err := openFile(file, c)
	if err != nil {
		return storage.BlobInfo{}, err
	}
	return info, f.Close()
}

// CheckFile reads a blob's file. If its bytes do not match the blob's CID, the error is
// storage.ErrCorrupt.
func CheckFile(ctx context.Context, file string, c cid.Cid) (storage.BlobInfo, error) {
	f, info, err := openFile(file, c)
	if err != nil {
		return storage.BlobInfo{}, err
	}
	defer f.Close()
	h := sha256.New()
	n, err := copyTo(ctx, h, io.NewSectionReader(f, 0, info.Size), 0)
	if err != nil {
		return storage.BlobInfo{}, err
	}
	_, digest, _ := dag.Split(c)
	if n != info.Size || !bytes.Equal(h.Sum(nil), digest[:]) {
		return storage.BlobInfo{}, fmt.Errorf("%w: blob %s: its bytes are others", storage.ErrCorrupt, c)
	}
	return info, nil
}

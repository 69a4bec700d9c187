package bucket

import (
	"context"
	"encoding/hex"
	"encoding/json"
	"errors"
	"fmt"
	"strconv"
	"strings"
	"time"

	"github.com/ipfs/go-cid"
	"github.com/pdskit/pdskit/internal/dag"
	"github.com/pdskit/pdskit/internal/exactjson"
	"github.com/pdskit/pdskit/lexicon/syntax"
	"github.com/pdskit/pdskit/storage"
)

// Keys is the prefix of all keys of this package in the host's key-value store.
const Keys = "blobs/"

// Keys, and the beginnings of keys. See the package comment.
const (
	keyID     = "blobs/id"
	keyCutoff = "blobs/cutoff"
	keySweep  = "blobs/sweep"

	blobPrefix   = "blobs/b/"
	objectPrefix = "blobs/o/"
	stagedPrefix = "blobs/s/"
	usagePrefix  = "blobs/u/"
	gonePrefix   = "blobs/x/"

	// noBlob is the value of an objectPrefix key whose object is to be deleted.
	noBlob = "-"
)

// noExpiry is when rows expire: never.
var noExpiry time.Time

// blobID names a blob: "DID/DIGEST", the digest in hexadecimal.
type blobID string

// idOf returns the name of a blob. It reports false for CIDs that no blob can have.
func idOf(did syntax.DID, c cid.Cid) (blobID, bool) {
	codec, digest, ok := dag.Split(c)
	if !ok || codec != dag.Raw {
		return "", false
	}
	return newID(did, &digest), true
}

func newID(did syntax.DID, digest *dag.Digest) blobID {
	return blobID(string(did) + "/" + hex.EncodeToString(digest[:]))
}

// split is the reverse of idOf.
func (id blobID) split() (did syntax.DID, c cid.Cid, err error) {
	i := strings.LastIndexByte(string(id), '/')
	b, err := hex.DecodeString(string(id[i+1:]))
	if i < 0 || err != nil || len(b) != len(dag.Digest{}) {
		return "", cid.Undef, fmt.Errorf("%w: a blob's key ends with %.100q", storage.ErrCorrupt, string(id))
	}
	digest := dag.Digest(b)
	return syntax.DID(id[:i]), dag.CID(dag.Raw, &digest), nil
}

func (id blobID) did() syntax.DID {
	return syntax.DID(id[:max(0, strings.LastIndexByte(string(id), '/'))])
}

// row is what is stored of a blob.
type row struct {
	Object   string `json:"object"`
	Size     int64  `json:"size"`
	MIME     string `json:"mime,omitempty"`
	Created  int64  `json:"created"` // microseconds
	Promoted bool   `json:"promoted,omitempty"`
}

func (x *row) info(c cid.Cid) storage.BlobInfo {
	return storage.BlobInfo{CID: c, Size: x.Size, MIME: x.MIME, Created: time.UnixMicro(x.Created).UTC()}
}

// stagedKey is the key of a staged blob, by age.
func (x *row) stagedKey(id blobID) string { return stagedPrefix + micros(x.Created) + "/" + string(id) }

// micros formats a time so that it sorts.
func micros(n int64) string { return fmt.Sprintf("%020d", max(n, 0)) }

func parseRow(b []byte, key string) (*row, error) {
	x := new(row)
	if err := exactjson.Unmarshal(b, x); err != nil {
		return nil, fmt.Errorf("%w: %s: %w", storage.ErrCorrupt, key, err)
	}
	if !isName(x.Object) || x.Size < 0 {
		return nil, fmt.Errorf("%w: %s: object %.100q of %d bytes", storage.ErrCorrupt, key, x.Object, x.Size)
	}
	return x, nil
}

// getRow returns the row of a blob, or ErrNotFound.
func getRow(ctx context.Context, r storage.KVReader, id blobID) (*row, error) {
	b, err := r.Get(ctx, blobPrefix+string(id))
	if err != nil {
		return nil, err
	}
	return parseRow(b, blobPrefix+string(id))
}

// number returns a stored number, 0 if there is none.
func number(ctx context.Context, r storage.KVReader, key string) (int64, error) {
	b, err := r.Get(ctx, key)
	if errors.Is(err, storage.ErrNotFound) {
		return 0, nil
	} else if err != nil {
		return 0, err
	}
	n, err := strconv.ParseInt(string(b), 10, 64)
	if err != nil {
		return 0, fmt.Errorf("%w: %s: %w", storage.ErrCorrupt, key, err)
	}
	return n, nil
}

// tx is a transaction on the rows.
type tx struct {
	storage.KVTx
	ctx context.Context
	s   *Store
	// gone are the objects that the transaction gives up, to be deleted after it.
	gone []string
	due  int64 // from when on they are deleted
}

// write runs a transaction, and then deletes the objects that it gave up.
func (s *Store) write(ctx context.Context, fn func(t *tx) error) error {
	var last *tx
	err := s.kv.Write(ctx, func(kvtx storage.KVTx) error {
		last = &tx{KVTx: kvtx, ctx: ctx, s: s, due: s.now().Add(s.keepDeleted).UnixMicro()}
		return fn(last)
	})
	if err != nil {
		return err
	}
	if s.keepDeleted == 0 {
		// The objects are noted: what cannot be deleted now, Collect deletes, and says why if it
		// cannot either.
		_ = s.drop(ctx, last.due, last.gone)
	}
	return nil
}

func (t *tx) set(key, value string) error { return t.Set(t.ctx, key, []byte(value), noExpiry) }

func (t *tx) del(key string) error { return t.Delete(t.ctx, key) }

// put stores the row of a blob.
func (t *tx) put(id blobID, x *row) error {
	b, err := json.Marshal(x)
	if err != nil {
		return err
	}
	return t.Set(t.ctx, blobPrefix+string(id), b, noExpiry)
}

// give notes an object to be deleted.
func (t *tx) give(object string) error {
	t.gone = append(t.gone, object)
	if err := t.set(objectPrefix+object, noBlob); err != nil {
		return err
	}
	return t.set(goneKey(t.due, object), "1")
}

// forget removes the notes of objects that were deleted, given by their keys.
func forget(ctx context.Context, tx storage.KVTx, keys []string) error {
	for _, k := range keys {
		if err := tx.Delete(ctx, k); err != nil {
			return err
		}
		if err := tx.Delete(ctx, objectPrefix+goneObject(k)); err != nil {
			return err
		}
	}
	return nil
}

// goneObject is the reverse of goneKey.
func goneObject(key string) string { return key[min(len(key), len(gonePrefix)+21):] }

func goneKey(due int64, object string) string { return gonePrefix + micros(due) + "/" + object }

// use changes how many bytes an account has.
func (t *tx) use(did syntax.DID, change int64) error {
	if change == 0 {
		return nil
	}
	n, err := number(t.ctx, t, usagePrefix+string(did))
	if err != nil {
		return err
	}
	if n += change; n <= 0 {
		return t.del(usagePrefix + string(did))
	}
	return t.set(usagePrefix+string(did), strconv.FormatInt(n, 10))
}

// remove removes the row of a blob, with all that belongs to it.
func (t *tx) remove(id blobID, x *row) error {
	if err := t.del(blobPrefix + string(id)); err != nil {
		return err
	}
	if !x.Promoted {
		if err := t.del(x.stagedKey(id)); err != nil {
			return err
		}
	}
	if err := t.use(id.did(), -x.Size); err != nil {
		return err
	}
	return t.give(x.Object)
}

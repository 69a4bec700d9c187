package backup

import (
	"context"
	"errors"
	"fmt"
	"os"
	"path/filepath"

	"github.com/ipfs/go-cid"
	"github.com/pdskit/pdskit/lexicon/syntax"
	"github.com/pdskit/pdskit/storage"
	"github.com/pdskit/pdskit/storage/blobfs"
)

// fetched goes through the blobs that are elsewhere, and copies those that the backup does not have:
// each becomes a file as in a blobfs store, in a folder for temporary files.
func (c *copying) fetched(ctx context.Context) (err error) {
	temp, used, err := tempIn(c.src.Dir)
	if err != nil {
		return err
	}
	defer func() { err = errors.Join(err, os.RemoveAll(temp), used.Close()) }()
	files, err := blobfs.Open(filepath.Join(temp, "fetched"), blobfs.Config{})
	if err != nil {
		return err
	}
	for info, err := range c.src.Store.Repos.List(ctx, "") {
		if err != nil {
			return err
		}
		for blob, err := range c.src.Store.Blobs.List(ctx, info.DID, cid.Undef) {
			if err != nil {
				return err
			}
			if err := c.fetch(ctx, files, filepath.Join(temp, "fetched"), info.DID, blob); err != nil {
				return fmt.Errorf("copy of blob %s of %s: %w", blob.CID, info.DID, err)
			}
		}
	}
	return nil
}

// fetch copies a blob that is elsewhere, if that has not been done.
func (c *copying) fetch(ctx context.Context, files *blobfs.Store, folder string, did syntax.DID, blob storage.BlobInfo) error {
	name, ok := blobfs.FileName(did, blob.CID)
	if !ok {
		return nil
	}
	key := keyOf(name)
	if _, ok := c.seen[key]; ok {
		return nil
	}
	if size, kept, err := c.w.has(ctx, name); err != nil {
		return err
	} else if kept {
		c.seen[key] = true
		c.add(name, size)
		return nil
	}
	r, info, err := c.src.Store.Blobs.Open(ctx, did, blob.CID)
	if errors.Is(err, storage.ErrNotFound) { // deleted meanwhile
		return nil
	} else if err != nil {
		return err
	}
	got, err := files.Stage(ctx, did, info.MIME, r, storage.BlobLimits{})
	switch err := errors.Join(err, r.Close()); {
	case errors.Is(err, storage.ErrCorrupt), errors.Is(err, storage.ErrNotFound), err == nil && got.CID != blob.CID:
		c.seen[key] = false // references says so
		return errors.Join(ctx.Err(), files.DeleteAll(ctx, did))
	case err != nil:
		return err
	}
	if err := files.Promote(ctx, did, blob.CID); err != nil {
		return err
	}
	size, err := c.w.copyBlob(ctx, name, filepath.Join(folder, filepath.FromSlash(name)))
	if err != nil {
		return err
	}
	c.seen[key] = true
	c.add(name, size)
	return files.Delete(ctx, did, blob.CID)
}

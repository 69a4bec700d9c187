package bucket

import (
	"context"

	"github.com/pdskit/pdskit/storage"
)

// Forget removes all rows of a store from a KV, after the blobs were moved elsewhere, for example
// by a restore. The objects stay in the bucket and belong to no store. No store may use the KV
// meanwhile.
func Forget(ctx context.Context, kv storage.KV) error {
	for {
		var keys []string
		err := kv.Write(ctx, func(tx storage.KVTx) error {
			keys = nil
			for pair, err := range tx.Keys(ctx, storage.Prefix("blobs/")) {
				if err != nil {
					return err
				}
				if keys = append(keys, pair.Key); len(keys) == batch {
					break
				}
			}
			for _, key := range keys {
				if err := tx.Delete(ctx, key); err != nil {
					return err
				}
			}
			return nil
		})
		if err != nil {
			return fail("forget", err)
		}
		if len(keys) < batch {
			return nil
		}
	}
}

package lease_test

import (
	"context"
	"errors"
	"fmt"
	"time"

	"github.com/pdskit/pdskit/storage"
	"github.com/pdskit/pdskit/storage/lease"
	"github.com/pdskit/pdskit/storage/memory"
)

func Example() {
	ctx, kv := context.Background(), memory.New(memory.Config{}).KV
	l, err := lease.New(lease.Config{KV: kv, Name: "digest", Holder: "node-1"})
	if err != nil {
		panic(err)
	}
	enough := errors.New("enough")
	err = l.Run(ctx, func(ctx context.Context, h *lease.Held) error {
		err := kv.Write(ctx, func(tx storage.KVTx) error {
			if err := h.Check(ctx, tx); err != nil {
				return err
			}
			return tx.Set(ctx, "digest/last", []byte("now"), time.Time{})
		})
		fmt.Println("token", h.Token(), err)
		return enough
	})
	fmt.Println(err)
	// Output:
	// token 1 <nil>
	// enough
}

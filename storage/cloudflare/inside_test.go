//go:build js

package cloudflare

import (
	"context"
	"fmt"
	"testing"

	"github.com/pdskit/pdskit/storage"
	"github.com/pdskit/pdskit/storage/bucket"
	"github.com/pdskit/pdskit/storage/bucket/buckettest"
	"github.com/pdskit/pdskit/storage/durable"
	"github.com/pdskit/pdskit/storage/durable/durabletest"
	"github.com/pdskit/pdskit/storage/memory"
	"github.com/pdskit/pdskit/storage/storagetest"
)

// These tests run inside a Durable Object: see TestInside. In Node.js there is none.
var here, hereErr = Here()

func object(tb testing.TB, table string) *Object {
	tb.Helper()
	if hereErr != nil {
		tb.Skip(hereErr)
	}
	o, err := here.Object(table)
	if err != nil {
		tb.Fatal(err)
	}
	return o
}

func TestObject(t *testing.T) {
	tables := map[string]string{}
	durabletest.RunObject(t, func(tb testing.TB, name string) durable.Object {
		if tables[name] == "" {
			tables[name] = fmt.Sprintf("object%d", len(tables))
		}
		return object(tb, tables[name])
	})
}

// The whole contract of package storage, of a Solo in a table, with its blobs in memory.
func TestStore(t *testing.T) {
	if hereErr != nil {
		t.Skip(hereErr)
	}
	type kept struct {
		table  string
		bucket *buckettest.Memory
		rows   storage.KV
	}
	dirs := map[string]kept{}
	storagetest.Run(t, storagetest.Backend{
		Open: func(tb testing.TB, dir string) (storage.Store, func() error) {
			k, ok := dirs[dir]
			if !ok {
				k = kept{fmt.Sprintf("store%d", len(dirs)), new(buckettest.Memory), memory.New(memory.Config{}).KV}
				dirs[dir] = k
			}
			ctx := context.Background()
			s, err := durable.OpenSolo(ctx, func(context.Context) (durable.Object, error) {
				return object(tb, k.table), nil
			}, durable.SoloConfig{})
			if err != nil {
				tb.Fatal(err)
			}
			all := s.Store()
			if all.Blobs, err = bucket.Open(ctx, bucket.Config{KV: k.rows, Bucket: k.bucket}); err != nil {
				tb.Fatal(err)
			}
			return all, s.Close
		},
		Exclusive: true,
	})
}

func TestBucket(t *testing.T) {
	if hereErr != nil {
		t.Skip(hereErr)
	}
	buckettest.Run(t, func(tb testing.TB) bucket.Bucket {
		b, err := here.Bucket("BLOBS")
		if err != nil {
			tb.Fatal(err)
		}
		b.(*r2).page = 7
		return b
	})
}

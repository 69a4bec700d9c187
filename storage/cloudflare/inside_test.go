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

// solos are the stores of a directory each: tables of the object.
func solos(t *testing.T) storagetest.Backend {
	tables := map[string]string{}
	return storagetest.Backend{
		Open: func(tb testing.TB, dir string) (storage.Store, func() error) {
			if tables[dir] == "" {
				tables[dir] = fmt.Sprintf("solo%d", len(tables))
			}
			s, err := durable.OpenSolo(context.Background(), func(context.Context) (durable.Object, error) {
				return object(tb, tables[dir]), nil
			}, durable.SoloConfig{Blobs: memory.New(memory.Config{}).Blobs})
			if err != nil {
				tb.Fatal(err)
			}
			return s.Store(), s.Close
		},
		Exclusive: true,
	}
}

// The whole contract of package storage, but for blobs, which are of package bucket.
func TestStore(t *testing.T) {
	if hereErr != nil {
		t.Skip(hereErr)
	}
	storagetest.RunRepos(t, solos(t))
	t.Run("KV", func(t *testing.T) { storagetest.RunKV(t, solos(t)) })
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

//go:build unix

package postgres_test

import (
	"context"
	"fmt"
	"os"

	"github.com/pdskit/pdskit/storage/blobfs"
	"github.com/pdskit/pdskit/storage/postgres"
)

// Two nodes do the same, on two machines. Blobs that all nodes can reach are in package bucket.
func Example() {
	db, err := postgres.Open(context.Background(), os.Getenv("DATABASE_URL"), postgres.Config{
		Behind: func(newest, served int64) {
			fmt.Printf("the database is behind: its newest event is %d, %d was served\n", newest, served)
		},
	})
	if err != nil {
		fmt.Println(err)
		return
	}
	defer db.Close()
	store := db.Store()
	store.Blobs, err = blobfs.Open("/var/lib/pds/blobs", blobfs.Config{})
	if err != nil {
		fmt.Println(err)
		return
	}
	// The store is good for a host now: see package repo.
}

package backup_test

import (
	"context"
	"fmt"
	"os"
	"path/filepath"
	"time"

	"github.com/pdskit/pdskit/storage"
	"github.com/pdskit/pdskit/storage/backup"
	"github.com/pdskit/pdskit/storage/bucket/buckettest"
	"github.com/pdskit/pdskit/storage/sqlite"
)

func Example() {
	ctx := context.Background()
	root, err := os.MkdirTemp("", "example")
	if err != nil {
		panic(err)
	}
	defer os.RemoveAll(root)
	data := filepath.Join(root, "data")
	if err := os.Mkdir(data, 0o700); err != nil {
		panic(err)
	}
	file := filepath.Join(data, "my.sqlite")
	db, err := sqlite.Open(ctx, file, sqlite.Config{})
	if err != nil {
		panic(err)
	}
	defer db.Close()
	err = db.Store().KV.Write(ctx, func(tx storage.KVTx) error {
		return tx.Set(ctx, "greeting", []byte("hello"), time.Time{})
	})
	if err != nil {
		panic(err)
	}

	// The newest backup of each of seven days and of four weeks.
	var keep backup.Keep
	if err := keep.Set("7d,4w"); err != nil {
		panic(err)
	}
	layout := backup.Layout{Database: "my.sqlite", Others: []string{"master.key"}}
	b := backup.Backup{Layout: layout, Keep: keep, Files: func(context.Context) (map[string][]byte, error) {
		return map[string][]byte{"master.key": []byte("secret")}, nil
	}}
	src := backup.Source{Database: db, Store: db.Store(), Blobs: file + ".blobs", Dir: data}
	if _, err := b.ToDir(ctx, src, filepath.Join(root, "backup")); err != nil {
		panic(err)
	}

	restored := filepath.Join(root, "restored")
	m, err := backup.Restore{Layout: layout}.From(ctx, filepath.Join(root, "backup"), nil, restored)
	if err != nil {
		panic(err)
	}
	key, err := os.ReadFile(filepath.Join(restored, "master.key"))
	fmt.Printf("%d files besides blobs, the key is %q, %v\n", len(m.Files), key, err)
	// Output: 3 files besides blobs, the key is "secret", <nil>
}

// In a bucket, such as one of package s3, here one in memory.
func ExampleBackup_ToRemote() {
	ctx := context.Background()
	root, err := os.MkdirTemp("", "example")
	if err != nil {
		panic(err)
	}
	defer os.RemoveAll(root)
	db, err := sqlite.Open(ctx, filepath.Join(root, "pds.sqlite"), sqlite.Config{})
	if err != nil {
		panic(err)
	}
	defer db.Close()

	to := backup.Remote{Bucket: new(buckettest.Memory), Prefix: "pds/backups"}
	src := backup.Source{Database: db, Store: db.Store(), Blobs: filepath.Join(root, "pds.sqlite.blobs"), Dir: root}
	if _, err := (backup.Backup{}).ToRemote(ctx, src, to); err != nil {
		panic(err)
	}
	m, err := backup.Restore{}.FromRemote(ctx, to, filepath.Join(root, "restored"))
	fmt.Println(m.Blobs, "blobs,", err)
	// Output: 0 blobs, <nil>
}

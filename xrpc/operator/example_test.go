package operator_test

import (
	"context"
	"fmt"
	"net/http/httptest"
	"time"

	"github.com/pdskit/pdskit/crypto"
	"github.com/pdskit/pdskit/storage/memory"
	"github.com/pdskit/pdskit/xrpc/operator"
	"github.com/pdskit/pdskit/xrpc/pds"
)

// A host with an administrator has the pages, and shows in them what it knows besides.
func Example() {
	rotation, err := crypto.GenerateKey(crypto.K256)
	if err != nil {
		fmt.Println(err)
		return
	}
	s, err := pds.New(pds.Config{
		URL: "https://pds.example.com", Store: memory.New(memory.Config{}),
		Secrets: pds.Secrets{MasterKeys: [][]byte{make([]byte, 32)}, RotationKeys: []crypto.Signer{rotation}, AdminPassword: "correct horse"},
		Operator: pds.Operator{
			BackupHelp: "make-backup /backups",
			Sizes: func(context.Context) []operator.Size {
				return []operator.Size{{Name: "cache", Bytes: 12 << 20}}
			},
		},
	})
	if err != nil {
		fmt.Println(err)
		return
	}
	w := httptest.NewRecorder()
	s.ServeHTTP(w, httptest.NewRequest("GET", "https://pds.example.com/admin", nil))
	fmt.Println(w.Code, w.Header().Get("Location"))
	// Output: 303 /admin/sign-in
}

// What makes backups notes them, for the administrator to see.
func ExampleBackups() {
	store := memory.New(memory.Config{})
	notes := operator.Backups{KV: store.KV}
	ctx := context.Background()
	err := notes.Note(ctx, operator.Backup{At: time.Date(2026, 1, 15, 3, 0, 0, 0, time.UTC), Path: "/backups", Bytes: 3 << 20, Good: true})
	if err != nil {
		fmt.Println(err)
		return
	}
	list, err := notes.List(ctx)
	for _, b := range list {
		fmt.Println(b.At.Format(time.DateOnly), b.Path, b.Good)
	}
	fmt.Println(err)
	// Output:
	// 2026-01-15 /backups true
	// <nil>
}

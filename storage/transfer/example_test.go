package transfer_test

import (
	"context"
	"fmt"
	"os"
	"path/filepath"

	"github.com/pdskit/pdskit/storage/sqlite"
	"github.com/pdskit/pdskit/storage/transfer"
)

// move moves a store: the code of the README.
func move(ctx context.Context, old, new *sqlite.DB) error {
	m, err := transfer.New(transfer.Config{From: old.Store(), To: new.Store(), Name: "PostgreSQL", Hint: "set DATABASE_URL"})
	if err != nil {
		return err
	}
	if err := m.Copy(ctx); err != nil { // while the server runs; again to catch up
		return err
	}
	report, err := m.Finish(ctx) // verifies, and changes over
	if err == nil {
		fmt.Println(report.Phase)
	}
	return err
}

func Example() {
	ctx := context.Background()
	dir, err := os.MkdirTemp("", "")
	if err != nil {
		panic(err)
	}
	defer os.RemoveAll(dir)
	var stores [2]*sqlite.DB
	for i, name := range []string{"old", "new"} {
		if stores[i], err = sqlite.Open(ctx, filepath.Join(dir, name), sqlite.Config{}); err != nil {
			panic(err)
		}
		defer stores[i].Close()
	}
	if err := move(ctx, stores[0], stores[1]); err != nil {
		panic(err)
	}
	// Output: done
}

package migrate_test

import (
	"bufio"
	"context"
	"errors"
	"fmt"
	"os"
	"strings"

	"github.com/pdskit/pdskit/xrpc/migrate"
)

// A move that asks at the terminal. It can be interrupted, and goes on when it is run again.
func Example() {
	lines := bufio.NewReader(os.Stdin)
	err := migrate.Run(context.Background(), migrate.Options{
		Account: "alice.example.com",
		NewHost: "https://pds.example.net",
		State:   "alice.json",
		Ask: func(_ context.Context, q migrate.Question) (string, error) {
			fmt.Printf("%s: ", q.Text)
			line, err := lines.ReadString('\n')
			return strings.TrimSpace(line), err
		},
		Report: func(e migrate.Event) { fmt.Println(e.Step, e.Status, e.Done, e.Total, e.Message) },
	})
	var stopped *migrate.Error
	switch {
	case errors.Is(err, migrate.ErrMissingBlobs):
		fmt.Println("some blobs are lost: set AllowMissingBlobs to move without them")
	case errors.As(err, &stopped):
		fmt.Println(stopped.Step, "failed:", stopped.Err)
		fmt.Println(stopped.Next)
	case err != nil:
		fmt.Println(err)
	}
}

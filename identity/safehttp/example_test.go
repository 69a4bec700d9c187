package safehttp_test

import (
	"errors"
	"fmt"

	"github.com/pdskit/pdskit/identity/safehttp"
)

func ExampleNewClient() {
	client := safehttp.NewClient(safehttp.Config{})
	_, err := client.Get("https://169.254.169.254/latest/meta-data/") // a URL from a stranger
	fmt.Println(errors.Is(err, safehttp.ErrAddress))
	// Output: true
}

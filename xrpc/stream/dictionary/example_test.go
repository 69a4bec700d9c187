package dictionary_test

import (
	"fmt"

	"github.com/pdskit/pdskit/xrpc/stream/dictionary"
)

func Example() {
	d := dictionary.Plain() // or Parse, with a dictionary
	message := []byte(`{"kind":"commit","note":"again and again and again and again and again and again"}`)
	fmt.Println(d.ID(), len(d.AppendFrame(nil, message)) < len(message))
	// Output: 0 true
}

package msttest_test

import (
	"fmt"

	"github.com/pdskit/pdskit/mst/msttest"
)

// A law can be checked without package testing.
func ExampleLaw_Check() {
	library := msttest.PackageMST(true)
	for _, law := range msttest.Laws() {
		if law.Name == "down to nothing" && law.Missing(library) == "" {
			fmt.Println(law.Check(library, msttest.Options{}))
		}
	}
	// Output: <nil>
}

// The model says what the root must be.
func ExampleModel() {
	m := msttest.Model{"app.bsky.feed.post/3jzfcijpj2z2a": msttest.Value(0)}
	fmt.Println(m.Root())
	fmt.Println(msttest.Model{}.Root())
	// Output:
	// bafyreihpg6lukxwefp7abdwkm423ehiojuqijxiqai6bydn5qpqcx7xh6a
	// bafyreie5737gdxlw5i64vzichcalba3z2v5n6icifvx5xytvske7mr3hpm
}

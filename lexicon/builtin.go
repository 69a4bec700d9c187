package lexicon

import (
	"embed"
	"io/fs"
)

//go:embed builtin
var builtin embed.FS

// Builtin returns a new catalog of the schemas in the binary: all methods of com.atproto, the
// records that Bluesky's clients write (app.bsky, chat.bsky.actor.declaration,
// com.germnetwork.declaration), the two methods for preferences, and all that these refer to. A
// host adds its own to it.
//
// It reads some 130 documents, which takes milliseconds: call it once.
func Builtin() *Catalog {
	c := new(Catalog)
	if err := c.AddFS(BuiltinFS()); err != nil {
		panic(err) // the documents are in the binary, and a test reads them
	}
	return c
}

// BuiltinFS returns the files of Builtin, such as "com/atproto/repo/createRecord.json".
func BuiltinFS() fs.FS {
	sub, err := fs.Sub(builtin, "builtin")
	if err != nil {
		panic(err) // the name is constant
	}
	return sub
}

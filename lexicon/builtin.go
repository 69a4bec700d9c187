package lexicon

import (
	"embed"
	"io/fs"
	"maps"
	"strings"
	"sync"

	"github.com/pdskit/pdskit/lexicon/syntax"
)

//go:embed builtin
var builtin embed.FS

// Builtin returns a new catalog with the schemas in the program: all methods of com.atproto, the
// records that Bluesky's clients write (app.bsky, chat.bsky.actor.declaration,
// com.germnetwork.declaration), the two methods for preferences, and all schemas that these refer
// to. A host can add its own.
//
// A document is parsed when it is first needed; parsing all of the some 130 documents takes
// milliseconds. All catalogs of Builtin share the parsed documents.
func Builtin() *Catalog { return &Catalog{docs: maps.Clone(builtinDocs())} }

// builtinDocs returns the documents of Builtin. It must not be changed.
var builtinDocs = sync.OnceValue(listBuiltin)

func listBuiltin() map[syntax.NSID]*held {
	docs := make(map[syntax.NSID]*held)
	err := fs.WalkDir(builtin, "builtin", func(name string, entry fs.DirEntry, err error) error {
		if err != nil || entry.IsDir() {
			return err
		}
		id := strings.TrimSuffix(strings.TrimPrefix(name, "builtin/"), ".json")
		docs[syntax.NSID(strings.ReplaceAll(id, "/", "."))] = &held{read: func() *Document { return readBuiltin(name) }}
		return nil
	})
	if err != nil {
		panic(err) // the files are in the binary
	}
	return docs
}

// readBuiltin parses a document of the binary.
func readBuiltin(name string) *Document {
	b, err := builtin.ReadFile(name)
	if err != nil {
		panic(err)
	}
	doc, err := ParseSchema(b)
	if err != nil {
		panic(err) // a test reads them all
	}
	return doc
}

// BuiltinFS returns the files of Builtin, such as "com/atproto/repo/createRecord.json".
func BuiltinFS() fs.FS {
	sub, err := fs.Sub(builtin, "builtin")
	if err != nil {
		panic(err) // the name is constant
	}
	return sub
}

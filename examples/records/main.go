// Records hosts records of its own type, and keeps an index of them that is always right.
//
//	go run ./examples/records https://go.dev language
//	go run ./examples/records https://sqlite.org database
//
// Each call writes a bookmark and prints the number of bookmarks with each tag. The working
// directory then has the repositories, the index and a signing key. Any error ends the program, as
// a power failure would. At the next start it continues where it was.
package main

import (
	"context"
	"database/sql"
	_ "embed"
	"errors"
	"fmt"
	"os"
	"path/filepath"

	_ "github.com/ncruces/go-sqlite3/driver"
	"github.com/pdskit/pdskit/crypto"
	"github.com/pdskit/pdskit/lexicon"
	"github.com/pdskit/pdskit/lexicon/data"
	"github.com/pdskit/pdskit/lexicon/syntax"
	"github.com/pdskit/pdskit/repo"
	"github.com/pdskit/pdskit/repo/follow"
	"github.com/pdskit/pdskit/storage"
	"github.com/pdskit/pdskit/storage/sqlite"
)

// The type of the records: its name, and its schema in the Lexicon language.
const collection = syntax.NSID("com.example.bookmark")

//go:embed bookmark.json
var schema []byte

// The one account of this host. A server has many, each with a key of its own.
const did = syntax.DID("did:web:bookmarks.example")

// The index has a row for each bookmark. Beside the rows it stores how far it has come: for each
// account the revision that its rows have, and, about "", the position in the host's event log.
const tables = `
	CREATE TABLE IF NOT EXISTS bookmarks (did TEXT, rkey TEXT, tag TEXT, PRIMARY KEY (did, rkey));
	CREATE TABLE IF NOT EXISTS progress (about TEXT PRIMARY KEY, value TEXT);`

const progress = "SELECT coalesce(max(value), '') FROM progress WHERE about = ?"
const counts = "SELECT group_concat(n || ' ' || tag, ', ') FROM (SELECT count(*) AS n, tag FROM bookmarks GROUP BY tag)"

func main() {
	args := append(os.Args[1:], "https://atproto.com", "protocol") // what is bookmarked without arguments
	fmt.Println(run(context.Background(), ".", args[0], args[1]))
}

// run writes a bookmark, waits until the index has it, and counts the tags.
func run(ctx context.Context, dir, url, tag string) string {
	// A host of repositories, with one account.
	db := must(sqlite.Open(ctx, filepath.Join(dir, "repositories.sqlite"), sqlite.Config{}))
	defer db.Close()
	key := signingKey(filepath.Join(dir, "signing.key"))
	signer := func(context.Context, syntax.DID) (crypto.Signer, error) { return key, nil }
	host := repo.NewHost(repo.Config{Store: db.Store(), Signer: signer})
	if _, err := host.Create(ctx, did, repo.Batch{}); !errors.Is(err, repo.ErrRepoExists) {
		check(err)
	}

	// A record that conforms to the schema, and a commit with it.
	var catalog lexicon.Catalog
	catalog.Add(must(lexicon.ParseSchema(schema)))
	record, rkey := map[string]any{"$type": string(collection), "url": url, "tag": tag}, host.NextRecordKey()
	check(catalog.ValidateRecord(collection, rkey, record))
	write := repo.Write{Action: repo.Create, Collection: collection, RKey: rkey, Record: must(data.Encode(record))}
	head := must(host.Apply(ctx, did, repo.Batch{Writes: []repo.Write{write}})).Head

	// The index, until it has that commit. A server keeps it in a goroutine for as long as it runs.
	index := must(sql.Open("sqlite3", filepath.Join(dir, "index.sqlite")))
	defer index.Close()
	keep(ctx, index, db.Store(), func(s *follow.Step) bool { return s.DID == did && s.Rev >= head.Rev })
	return must(text[string](ctx, index, counts))
}

// keep carries out the steps that the index needs, each in one transaction, until one is the last.
func keep(ctx context.Context, index *sql.DB, store storage.Store, last func(*follow.Step) bool) {
	must(index.ExecContext(ctx, tables))
	feed := follow.Feed{
		Store:       store,
		Collections: []syntax.NSID{collection},
		Position:    func(ctx context.Context) (string, error) { return text[string](ctx, index, progress, "") },
		Revision: func(ctx context.Context, did syntax.DID) (syntax.TID, error) {
			return text[syntax.TID](ctx, index, progress, did)
		},
	}
	for step, err := range feed.Steps(ctx) {
		if errors.Is(err, follow.ErrPosition) { // the log was trimmed: begin again
			must(index.ExecContext(ctx, "DROP TABLE bookmarks; DROP TABLE progress"))
			keep(ctx, index, store, last)
			return
		}
		check(err)
		tx := must(index.BeginTx(ctx, nil))
		carryOut(ctx, tx, step)
		check(tx.Commit())
		if last(step) {
			return
		}
	}
}

// carryOut changes the rows as a step says, and stores with them how far the index has come.
func carryOut(ctx context.Context, tx *sql.Tx, step *follow.Step) {
	if step.Reset {
		must(tx.ExecContext(ctx, "DELETE FROM bookmarks WHERE did = ?", step.DID))
	}
	for op, err := range step.Ops {
		check(err)
		must(tx.ExecContext(ctx, "DELETE FROM bookmarks WHERE did = ? AND rkey = ?", step.DID, op.RKey))
		if value, err := op.Value(); err == nil { // there is none in a delete
			tag, _ := value["tag"].(string)
			must(tx.ExecContext(ctx, "INSERT INTO bookmarks VALUES (?, ?, ?)", step.DID, op.RKey, tag))
		}
	}
	must(tx.ExecContext(ctx, "INSERT OR REPLACE INTO progress VALUES ('', ?), (?, ?)", step.Position, step.DID, step.Rev))
}

// signingKey reads the key of the account, or makes it.
func signingKey(name string) *crypto.PrivateKey {
	if _, err := os.Stat(name); errors.Is(err, os.ErrNotExist) {
		check(os.WriteFile(name, must(crypto.GenerateKey(crypto.K256)).Bytes(), 0o600))
	}
	return must(crypto.ParsePrivateKey(crypto.K256, must(os.ReadFile(name))))
}

// text reads a text from the index.
func text[T ~string](ctx context.Context, index *sql.DB, query string, args ...any) (s T, err error) {
	err = index.QueryRowContext(ctx, query, args...).Scan(&s)
	return s, err
}

func check(err error) {
	if err != nil {
		panic(err)
	}
}

func must[T any](v T, err error) T {
	check(err)
	return v
}

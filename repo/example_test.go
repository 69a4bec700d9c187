package repo_test

import (
	"context"
	"fmt"
	"strings"
	"time"

	"github.com/pdskit/pdskit/crypto"
	"github.com/pdskit/pdskit/lexicon/data"
	"github.com/pdskit/pdskit/lexicon/syntax"
	"github.com/pdskit/pdskit/repo"
	"github.com/pdskit/pdskit/storage"
	"github.com/pdskit/pdskit/storage/memory"
)

// A host, one repository, two writes in one commit.
func Example() {
	ctx := context.Background()
	key, err := crypto.GenerateKey(crypto.K256)
	if err != nil {
		panic(err)
	}
	host := repo.NewHost(repo.Config{
		Store:  memory.New(memory.Config{}),
		Signer: func(context.Context, syntax.DID) (crypto.Signer, error) { return key, nil },
	})
	did := syntax.DID("did:plc:ewvi7nxzyoun6zhxrhs64oiz")
	if _, err := host.Create(ctx, did, repo.Batch{}); err != nil {
		panic(err)
	}
	note := func(text string) []byte {
		b, err := data.Encode(map[string]any{"$type": "com.example.note", "text": text})
		if err != nil {
			panic(err)
		}
		return b
	}
	_, err = host.Apply(ctx, did, repo.Batch{Writes: []repo.Write{
		{Action: repo.Create, Collection: "com.example.note", RKey: "one", Record: note("first")},
		{Action: repo.Put, Collection: "com.example.note", RKey: "two", Record: note("second")},
	}})
	if err != nil {
		panic(err)
	}
	page, err := host.List(ctx, did, "com.example.note", repo.ListOptions{Limit: 10})
	if err != nil {
		panic(err)
	}
	for _, rec := range page {
		fmt.Println(rec.Path, rec.CID)
	}
	// Output:
	// com.example.note/two bafyreifkympwcrpanelxpqykjpl2bmbqnmkzv54e4fr2rjalu3oxlwirzi
	// com.example.note/one bafyreiaa7hpjt4mxahxvi27xd77amkl44ihlot4ykfbzivcxqrsxyd53jq
}

// Notes by hashtag, and at most one bookmark of a page. Both indexes are right whatever wrote the
// records: single writes, batches or an import.
func ExampleIndex() {
	ctx := context.Background()
	key, err := crypto.GenerateKey(crypto.K256)
	if err != nil {
		panic(err)
	}
	hashtags := repo.Index{
		Name:        "hashtag",
		Version:     "1", // to be changed with Keys
		Collections: []syntax.NSID{"com.example.note"},
		Keys: func(_ syntax.NSID, _ syntax.RecordKey, record *data.Encoded) (tags []string) {
			value, err := record.Value()
			if err != nil {
				return nil
			}
			note, _ := value.(map[string]any)
			text, _ := note["text"].(string)
			for word := range strings.FieldsSeq(text) {
				if tag, ok := strings.CutPrefix(word, "#"); ok {
					tags = append(tags, strings.ToLower(tag))
				}
			}
			return tags
		},
	}
	host := repo.NewHost(repo.Config{
		Store:  memory.New(memory.Config{}),
		Signer: func(context.Context, syntax.DID) (crypto.Signer, error) { return key, nil },
		Indexes: []repo.Index{
			hashtags,
			repo.SubjectIndex("bookmark", map[syntax.NSID]string{"com.example.bookmark": "page.url"}),
		},
	})
	did := syntax.DID("did:plc:ewvi7nxzyoun6zhxrhs64oiz")
	if _, err := host.Create(ctx, did, repo.Batch{}); err != nil {
		panic(err)
	}
	write := func(collection syntax.NSID, rkey syntax.RecordKey, value map[string]any) {
		value["$type"] = string(collection)
		record, err := data.Encode(value)
		if err != nil {
			panic(err)
		}
		res, err := host.Apply(ctx, did, repo.Batch{Writes: []repo.Write{{Action: repo.Create, Collection: collection, RKey: rkey, Record: record}}})
		if err != nil {
			panic(err)
		}
		if len(res.Replaced) > 0 {
			fmt.Println(res.Records[0].Path, "replaces", res.Replaced)
		}
	}
	write("com.example.note", "a", map[string]any{"text": "a walk by the #Sea"})
	write("com.example.note", "b", map[string]any{"text": "fish from the #sea and #chips"})
	write("com.example.bookmark", "one", map[string]any{"page": map[string]any{"url": "https://example.com"}})
	write("com.example.bookmark", "two", map[string]any{"page": map[string]any{"url": "https://example.com"}})

	notes, err := host.Find(ctx, did, "hashtag", "sea", 10)
	if err != nil {
		panic(err)
	}
	fmt.Println(notes)
	// Output:
	// com.example.bookmark/two replaces [com.example.bookmark/one]
	// [com.example.note/a com.example.note/b]
}

// An account's own state, such as how often it was seen, changes beside its records. What the step
// relies on still holds in the transaction: if another process was faster, it is made anew.
func ExampleHost_Step() {
	ctx := context.Background()
	key, err := crypto.GenerateKey(crypto.K256)
	if err != nil {
		panic(err)
	}
	host := repo.NewHost(repo.Config{
		Store:  memory.New(memory.Config{}),
		Signer: func(context.Context, syntax.DID) (crypto.Signer, error) { return key, nil },
	})
	did := syntax.DID("did:plc:ewvi7nxzyoun6zhxrhs64oiz")
	if _, err := host.Create(ctx, did, repo.Batch{KV: []storage.KVWrite{{Key: "seen", Value: []byte("1")}}}); err != nil {
		panic(err)
	}
	_, err = host.Step(ctx, did, func(s *repo.Step) error {
		seen, err := s.Get(ctx, "seen")
		if err != nil {
			return err
		}
		s.Expect("seen", seen)
		s.Set("seen", append(seen, '1'), time.Time{})
		return nil
	})
	if err != nil {
		panic(err)
	}
	err = host.View(ctx, did, func(r storage.Reader) error {
		seen, err := r.Get(ctx, "seen")
		fmt.Println(string(seen))
		return err
	})
	if err != nil {
		panic(err)
	}
	// Output: 11
}

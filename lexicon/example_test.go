package lexicon_test

import (
	"errors"
	"fmt"
	"net/url"

	"github.com/pdskit/pdskit/lexicon"
	"github.com/pdskit/pdskit/lexicon/data"
)

func ExampleCatalog_ValidateRecord() {
	catalog := lexicon.Builtin()
	record, err := data.FromJSON([]byte(`{"$type":"app.bsky.feed.post","text":"hello","createdAt":"yesterday"}`), data.Limits{})
	if err != nil {
		panic(err)
	}
	err = catalog.ValidateRecord("app.bsky.feed.post", "3jzfcijpj2z2a", record)
	var invalid *lexicon.Error
	if errors.As(err, &invalid) {
		fmt.Println(invalid.Path, invalid.Rule)
	}
	err = catalog.ValidateRecord("com.example.note", "3jzfcijpj2z2a", record)
	fmt.Println(errors.Is(err, lexicon.ErrUnknownSchema))
	// Output:
	// Record/createdAt format
	// true
}

func ExampleCatalog_Params() {
	catalog := lexicon.Builtin()
	query, _ := url.ParseQuery("repo=alice.example.com&collection=app.bsky.feed.post&reverse=true")
	params, err := catalog.Params("com.atproto.repo.listRecords", query)
	fmt.Println(params["repo"], params["limit"], params["reverse"], err)
	_, err = catalog.Params("com.atproto.repo.listRecords", url.Values{"repo": {"alice.example.com"}})
	fmt.Println(err)
	// Output:
	// alice.example.com 50 true <nil>
	// Params must have the parameter "collection"
}

func ExampleParseSchema() {
	doc, err := lexicon.ParseSchema([]byte(`{"lexicon":1,"id":"com.example.note","defs":{"main":{
		"type":"record","key":"tid","record":{"type":"object","properties":{"text":{"type":"string","minLength":9,"maxLength":3}}}}}}`))
	fmt.Println(doc, err)
	// Output: <nil> lexicon com.example.note: defs/main/record/properties/text: minLength must not be greater than maxLength
}

func ExampleValidator() {
	validator := lexicon.Validator{Catalog: lexicon.Builtin(), AllErrors: true}
	err := validator.Record("app.bsky.feed.like", "self", map[string]any{"$type": "app.bsky.feed.like", "subject": map[string]any{"uri": "x"}})
	fmt.Println(err)
	// Output:
	// Invalid record key for app.bsky.feed.like: Record key must be of the type "tid": invalid tid "self": not 13 characters (at byte 4)
	// Invalid app.bsky.feed.like record: Record must have the property "createdAt"
	// Invalid app.bsky.feed.like record: Record/subject must have the property "cid"
	// Invalid app.bsky.feed.like record: Record/subject/uri must be of the format at-uri: invalid at-uri "x": does not start with "at://" (at byte 0)
}

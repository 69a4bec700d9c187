package api_test

import (
	"encoding/json"
	"testing"

	"github.com/pdskit/pdskit/internal/exactjson"
	"github.com/pdskit/pdskit/lexicon/data"
	"github.com/pdskit/pdskit/lexicon/syntax"
	"github.com/pdskit/pdskit/xrpc/atproto/api"
)

// What the structs by hand were before: texts are strings, nothing is a pointer that need not be.
type (
	plainCommit struct {
		CID string `json:"cid"`
		Rev string `json:"rev"`
	}
	plainWrite struct {
		URI              string       `json:"uri"`
		CID              string       `json:"cid"`
		Commit           *plainCommit `json:"commit,omitempty"`
		ValidationStatus string       `json:"validationStatus,omitempty"`
	}
	plainSession struct {
		Handle          string          `json:"handle"`
		DID             string          `json:"did"`
		Active          bool            `json:"active"`
		DIDDoc          json.RawMessage `json:"didDoc,omitempty"`
		Email           string          `json:"email,omitempty"`
		EmailAuthFactor bool            `json:"emailAuthFactor"`
		EmailConfirmed  bool            `json:"emailConfirmed"`
	}
	plainRecord struct {
		URI   string          `json:"uri"`
		Value json.RawMessage `json:"value"`
		CID   string          `json:"cid"`
	}
	plainCreate struct {
		Repo       string          `json:"repo"`
		Collection string          `json:"collection"`
		RKey       string          `json:"rkey,omitempty"`
		Validate   *bool           `json:"validate,omitempty"`
		Record     json.RawMessage `json:"record"`
		SwapCommit string          `json:"swapCommit,omitempty"`
	}
)

const (
	benchCID = "bafyreiccldh766hwcnuxnf2wh6jgzepf2nlu2lvcllt63eww5p6chi4ity"
	benchDID = "did:plc:ewvi7nxzyoun6zhxrhs64oiz"
	benchURI = "at://" + benchDID + "/app.bsky.feed.post/3jzfcijpj2z2a"
	benchDoc = `{"@context":["https://www.w3.org/ns/did/v1"],"id":"` + benchDID + `","alsoKnownAs":["at://alice.test"],` +
		`"service":[{"id":"#atproto_pds","type":"AtprotoPersonalDataServer","serviceEndpoint":"https://pds.example.com"}]}`
	benchPost = `{"$type":"app.bsky.feed.post","text":"hello to everybody who reads this text","createdAt":"2026-01-15T12:30:45Z","langs":["en"]}`
)

// BenchmarkAnswer writes answers of hot methods, as a server does, of the types of this package and
// of types as simple as can be.
//
//	go test -run '^$' -bench Answer -benchmem ./xrpc/atproto/api
func BenchmarkAnswer(b *testing.B) {
	for _, c := range []struct {
		name string
		make func() any
	}{
		{"createRecord/plain", func() any {
			return plainWrite{benchURI, benchCID, &plainCommit{benchCID, "3jzfcijpj2z2a"}, "valid"}
		}},
		{"createRecord/api", func() any {
			return api.RepoCreateRecordOutput{URI: benchURI, CID: benchCID, Commit: &api.RepoCommitMeta{CID: benchCID, Rev: "3jzfcijpj2z2a"}, ValidationStatus: "valid"}
		}},
		{"getSession/plain", func() any {
			return plainSession{"alice.test", benchDID, true, json.RawMessage(benchDoc), "alice@example.com", false, true}
		}},
		{"getSession/api", func() any {
			return api.ServerGetSessionOutput{
				Handle: "alice.test", DID: benchDID, Active: new(true), DIDDoc: data.Raw(benchDoc), Email: "alice@example.com",
				EmailAuthFactor: new(false), EmailConfirmed: new(true),
			}
		}},
		{"getRecord/plain", func() any { return plainRecord{benchURI, json.RawMessage(benchPost), benchCID} }},
		{"getRecord/api", func() any {
			return api.RepoGetRecordOutput{URI: benchURI, Value: data.Raw(benchPost), CID: benchCID}
		}},
	} {
		b.Run(c.name, func(b *testing.B) {
			b.ReportAllocs()
			for b.Loop() {
				if _, err := data.MarshalJSON(c.make()); err != nil {
					b.Fatal(err)
				}
			}
		})
	}
}

// BenchmarkInput reads inputs, as a server does.
func BenchmarkInput(b *testing.B) {
	create := []byte(`{"repo":"` + benchDID + `","collection":"app.bsky.feed.post","record":` + benchPost + `}`)
	writes := []byte(`{"repo":"` + benchDID + `","writes":[`)
	for i := range 100 {
		if i > 0 {
			writes = append(writes, ',')
		}
		writes = append(writes, `{"$type":"com.atproto.repo.applyWrites#create","collection":"app.bsky.feed.post","value":`+benchPost+`}`...)
	}
	writes = append(writes, `]}`...)
	type plainWrites struct {
		Repo   syntax.AtIdentifier `json:"repo"`
		Writes []struct {
			Type       string           `json:"$type"`
			Collection syntax.NSID      `json:"collection"`
			RKey       syntax.RecordKey `json:"rkey,omitempty"`
			Value      json.RawMessage  `json:"value,omitempty"`
		} `json:"writes"`
	}
	for _, c := range []struct {
		name string
		text []byte
		into func() any
	}{
		{"createRecord/plain", create, func() any { return new(plainCreate) }},
		{"createRecord/api", create, func() any { return new(api.RepoCreateRecordInput) }},
		{"applyWrites100/plain", writes, func() any { return new(plainWrites) }},
		{"applyWrites100/api", writes, func() any { return new(api.RepoApplyWritesInput) }},
	} {
		b.Run(c.name, func(b *testing.B) {
			b.ReportAllocs()
			b.SetBytes(int64(len(c.text)))
			for b.Loop() {
				if err := exactjson.Unmarshal(c.text, c.into()); err != nil {
					b.Fatal(err)
				}
			}
		})
	}
}

package cloudflare

import (
	"bytes"
	"testing"
	"time"

	"github.com/ipfs/go-cid"

	"github.com/pdskit/pdskit/internal/cbor"
	"github.com/pdskit/pdskit/lexicon/syntax"
	"github.com/pdskit/pdskit/storage"
	"github.com/pdskit/pdskit/storage/durable"
	"github.com/pdskit/pdskit/storage/memory"
)

// Objects call each other, and nobody else calls them. All the same, whatever bytes arrive are read
// within their bounds, and what is read is what was written.

var aCID = cid.MustParse("bafyreihffx5a2e7k5uwrmmgofbvzujc5cmw5h4espouwuxt3liqoflx3ee")

// rewritten checks that what was read without an error is written with the same bytes.
func rewritten(t *testing.T, r *cbor.Reader, b, again []byte) {
	t.Helper()
	if r.Done() == nil && !bytes.Equal(again, b) {
		t.Fatalf("%x is read as what is written %x", b, again)
	}
}

func FuzzRecords(f *testing.F) {
	f.Add(appendRecords(nil, nil))
	f.Add(appendRecords(nil, []storage.RecordChange{
		{Path: "com.example.note/1", CID: aCID, Data: []byte{0xa0}, Blobs: []cid.Cid{aCID, aCID}}, {Path: "com.example.note/2"}, {Data: []byte{}},
	}))
	f.Add([]byte{0x81, 0x84})
	f.Add([]byte{0x9a, 0xff, 0xff, 0xff, 0xff})
	f.Fuzz(func(t *testing.T, b []byte) {
		r := cbor.NewReader(b)
		list := readRecords(r)
		rewritten(t, r, b, appendRecords(nil, list))
	})
}

func FuzzEvents(f *testing.F) {
	f.Add(appendEvents(nil, []storage.Event{
		{DID: "did:plc:x", Kind: "#commit", Time: time.UnixMilli(1700000000123), Weight: 3, Payload: []byte("payload")}, {Time: time.UnixMilli(-1), Weight: -1},
	}))
	f.Add([]byte{0x81, 0x85})
	f.Fuzz(func(t *testing.T, b []byte) {
		r := cbor.NewReader(b)
		list := readEvents(r)
		rewritten(t, r, b, appendEvents(nil, list))
	})
}

func FuzzSeen(f *testing.F) {
	f.Add(appendSeen(nil, []seenQuery{{query: []byte{1}}, {query: appendRange(nil, storage.Prefix("a"))}}))
	f.Add(cbor.AppendArray(nil, maxQueries+1))
	f.Fuzz(func(t *testing.T, b []byte) {
		r := cbor.NewReader(b)
		list := readSeen(r)
		if r.Done() == nil && len(list) > maxQueries {
			t.Fatalf("%d queries of a snapshot", len(list))
		}
		rewritten(t, r, b, appendSeen(nil, list))
	})
}

// A query that is answered is one that queries writes, and its answer has the bounds of a page.
func FuzzQuery(f *testing.F) {
	store := memory.New(memory.Config{})
	err := store.KV.Write(f.Context(), func(tx storage.KVTx) error {
		for _, key := range []string{"a", "b", "c/1", "c/2"} {
			if err := tx.Set(f.Context(), key, []byte("value of "+key), time.Time{}); err != nil {
				return err
			}
		}
		return nil
	})
	if err != nil {
		f.Fatal(err)
	}
	f.Add(appendKey(cbor.AppendUint(cbor.AppendArray(nil, 2), queryGet), "a"))
	f.Add(appendRange(nil, storage.Range{From: "a", To: "c/2", Reverse: true}))
	f.Add(appendRange(nil, storage.Range{KeysOnly: true}))
	f.Add(cbor.AppendUint(cbor.AppendArray(nil, 1), queryHead))
	f.Add(cbor.AppendUint(cbor.AppendArray(nil, 1), queryCommit))
	f.Fuzz(func(t *testing.T, query []byte) {
		err := store.KV.Read(t.Context(), func(s storage.KVReader) error {
			answer, err := answerQuery(t.Context(), s, query)
			if err != nil {
				return nil
			}
			r := cbor.NewReader(query)
			n, _ := r.Array()
			var again []byte
			switch kind, _ := r.Uint(); kind {
			case queryGet:
				again = appendKey(cbor.AppendUint(cbor.AppendArray(nil, n), queryGet), readKey(r))
			case queryKeys:
				rng := storage.Range{From: readKey(r), To: readKey(r)}
				rng.Reverse, _ = r.Bool()
				rng.KeysOnly, _ = r.Bool()
				again = appendRange(nil, rng)
				if page, more, err := readPairs(answer); err != nil || more || len(page) > 4 {
					t.Errorf("%x is answered by %x: %v", query, answer, err)
				}
			default:
				t.Errorf("a store of keys answers %x", query)
			}
			rewritten(t, r, query, again)
			return nil
		})
		if err != nil {
			t.Error(err)
		}
	})
}

func FuzzPairs(f *testing.F) {
	f.Add([]byte{0x82, 0xf5, 0x80})
	f.Add([]byte{0x82, 0xf4, 0x81, 0x83, 0x41, 'a', 0xf6, 0x00})
	f.Add([]byte{0x82, 0xf4, 0x81, 0x83, 0x41, 'a', 0x41, 'b', 0x01})
	f.Fuzz(func(t *testing.T, b []byte) {
		page, more, err := readPairs(b)
		if err != nil {
			return
		}
		again := cbor.AppendArray(cbor.AppendBool(cbor.AppendArray(nil, 2), more), len(page))
		for _, p := range page {
			again = appendTime(appendValue(appendKey(cbor.AppendArray(again, 3), p.Key), p.Value), p.Expires)
		}
		if !bytes.Equal(again, b) {
			t.Fatalf("%x is read as what is written %x", b, again)
		}
	})
}

// Every method answers whatever it is called with: values, or an error that keeps its meaning.
func FuzzAnswers(f *testing.F) {
	methods := []string{
		methodEntry, methodDeliver, methodRemove, methodAnnounce, methodKVRead, methodKVWrite, methodRepoRead, methodRepoApply,
		methodRepoDelete, methodRepoList, methodEventsBounds, methodEventsSince, methodEventsOf,
	}
	const did = syntax.DID("did:plc:aaaaaaaaaaaaaaaaaaaaaaaa")
	none, text := appendSeen(nil, nil), func(b []byte) []byte { return cbor.AppendText(b, string(did)) }
	head := cbor.AppendUint(cbor.AppendArray(nil, 1), queryHead)
	kv := &storage.Change{KV: []storage.KVWrite{{Key: "account", Value: []byte("x")}}}
	for i, body := range [][]byte{
		text(nil),
		appendChange(nil, did, kv),
		appendEvents(text(cbor.AppendArray(nil, 2)), nil),
		cbor.AppendInt(text(cbor.AppendArray(nil, 2)), 5),
		cbor.AppendBytes(append(cbor.AppendArray(nil, 2), none...), appendRange(nil, storage.Range{})),
		append(append(cbor.AppendArray(nil, 2), none...), 0x81, 0x83, 0x41, 'k', 0x41, 'v', 0x00),
		cbor.AppendBytes(append(text(cbor.AppendArray(nil, 3)), none...), head),
		appendChange(appendRecords(cbor.AppendArray(nil, 2), nil), did, kv),
		appendEvents(text(cbor.AppendArray(nil, 2)), []storage.Event{{DID: did, Kind: "#account", Time: time.UnixMilli(5), Payload: []byte{0xa0}}}),
		cbor.AppendText(nil, ""),
		nil,
		cbor.AppendInt(cbor.AppendInt(cbor.AppendArray(nil, 2), 1<<62), 0),
		cbor.AppendInt(text(cbor.AppendArray(nil, 2)), 0),
	} {
		f.Add(uint8(i), body)
	}
	f.Fuzz(func(t *testing.T, method uint8, body []byte) {
		s := memory.New(memory.Config{})
		answer := Answers(map[string]Call{
			"directory": AnswerDirectory(durable.NewDirectory(s)), "kv": AnswerKV(s.KV), "repo": AnswerRepos(s, ""), "events": AnswerEvents(s.Events),
		})
		if _, err := s.Repos.Apply(t.Context(), did, kv); err != nil {
			t.Fatal(err)
		}
		name := methods[int(method)%len(methods)]
		out, err := answer(t.Context(), name, body)
		if err != nil {
			t.Fatalf("%s of %x: %v", name, body, err)
		}
		if err := cbor.Scan(out, cbor.Limits{}); err != nil {
			t.Fatalf("%s of %x is answered by %x: %v", name, body, out, err)
		}
	})
}

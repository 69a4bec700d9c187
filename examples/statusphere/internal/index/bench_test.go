package index

import (
	"fmt"
	"path/filepath"
	"testing"
	"time"

	"github.com/pdskit/pdskit/examples/statusphere/internal/status"
	"github.com/pdskit/pdskit/lexicon/syntax"
)

// BenchmarkIndex measures an index of 100,000 accounts: what a page costs, and an event with its
// fsync. On 2 shared cores of a Xeon:
//
//	BenchmarkIndex/page-2      1237   1241931 ns/op
//	BenchmarkIndex/commit-2     896   1686372 ns/op
//
//	go test -run '^$' -bench Index ./examples/statusphere/internal/index
func BenchmarkIndex(b *testing.B) {
	x, err := Open(b.Context(), filepath.Join(b.TempDir(), "index.sqlite"))
	if err != nil {
		b.Fatal(err)
	}
	defer x.Close()
	const accounts = 100000
	options := status.Options()
	err = x.update(b.Context(), func(t *tx) error {
		for i := range accounts {
			did := syntax.DID(fmt.Sprintf("did:plc:%024d", i))
			if _, err := t.account(did); err != nil {
				return err
			}
			op := Op{RKey: syntax.RecordKey(syntax.NewTID(time.UnixMicro(int64(i)*1e6+1e15), 0)), CID: "c", Status: &status.Status{Text: options[i%len(options)].Text, Created: time.UnixMilli(int64(i)*1e3 + 1e12)}}
			if err := t.apply(did, "3l3qo2vutsw2b", []Op{op}); err != nil {
				return err
			}
		}
		return nil
	})
	if err != nil {
		b.Fatal(err)
	}
	b.Run("page", func(b *testing.B) {
		for b.Loop() {
			if _, err := x.Page(b.Context(), "did:plc:000000000000000000000007"); err != nil {
				b.Fatal(err)
			}
		}
	})
	b.Run("commit", func(b *testing.B) {
		for i := 0; b.Loop(); i++ {
			now := time.Now()
			c := Commit{DID: syntax.DID(fmt.Sprintf("did:plc:%024d", i%accounts)), Rev: syntax.NewTID(now, 0), Data: "d", Ops: []Op{
				{RKey: syntax.RecordKey(syntax.NewTID(now, 0)), CID: "d", Status: &status.Status{Text: "👍", Created: now}}}}
			if err := x.Commit(b.Context(), Position{Source: "s", Seq: int64(i + 1)}, c); err != nil {
				b.Fatal(err)
			}
		}
	})
}

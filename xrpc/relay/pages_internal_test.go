package relay

import (
	"context"
	"fmt"
	"iter"
	"strconv"
	"strings"
	"testing"

	"github.com/pdskit/pdskit/lexicon/syntax"
	"github.com/pdskit/pdskit/storage"
	"github.com/pdskit/pdskit/storage/memory"
	"github.com/pdskit/pdskit/xrpc/atproto/api"
)

// headless lists accounts without heads, for ever.
type headless struct {
	storage.Repos
	most int
}

func (r *headless) List(_ context.Context, after syntax.DID) iter.Seq2[storage.RepoInfo, error] {
	return func(yield func(storage.RepoInfo, error) bool) {
		n, _ := strconv.Atoi(strings.TrimPrefix(string(after), "did:web:a"))
		for {
			n++
			r.most = n
			if !yield(storage.RepoInfo{DID: syntax.DID(fmt.Sprintf("did:web:a%09d", n))}, nil) {
				return
			}
		}
	}
}

// Accounts of which nothing was passed on make no page take long, however many somebody makes.
func TestListReposOfHeadlessAccounts(t *testing.T) {
	store := memory.New(memory.Config{})
	list := &headless{Repos: store.Repos}
	store.Repos = list
	r := &Relay{Store: store}
	r.setUp()
	cursor := ""
	for range 2 {
		before := list.most
		out, err := r.listRepos(t.Context(), nil, api.SyncListReposParams{Cursor: cursor})
		if err != nil || len(out.Repos) > 0 || out.Cursor <= cursor {
			t.Fatalf("%d repositories, cursor %q after %q, %v", len(out.Repos), out.Cursor, cursor, err)
		}
		if looks := list.most - before; looks > looksForNought+1 {
			t.Errorf("%d looks", looks)
		}
		cursor = out.Cursor
	}
}

// Hosts that were never heard do not end the list early.
func TestListHostsNeverHeard(t *testing.T) {
	r := &Relay{Store: memory.New(memory.Config{}), Development: true}
	for i := range 9 {
		name := fmt.Sprintf("pds%d.example.com", i)
		if err := r.AddHost(t.Context(), name); err != nil {
			t.Fatal(err)
		}
		if i%4 == 3 {
			r.host(name).queue.restart(int64(i))
		}
	}
	cursor, names := "", ""
	for more := true; more; more = cursor != "" {
		out, err := r.listHosts(t.Context(), nil, api.SyncListHostsParams{Cursor: cursor, Limit: 1})
		if err != nil {
			t.Fatal(err)
		}
		for _, h := range out.Hosts {
			names += h.Hostname + " "
		}
		cursor = out.Cursor
	}
	if names != "pds3.example.com pds7.example.com " {
		t.Error(names)
	}
}

package atproto_test

import (
	"bytes"
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"log/slog"
	"slices"
	"strings"
	"testing"
	"time"

	"github.com/google/go-cmp/cmp"
	"github.com/pdskit/pdskit/crypto"
	"github.com/pdskit/pdskit/lexicon/syntax"
	"github.com/pdskit/pdskit/repo"
	"github.com/pdskit/pdskit/storage/memory"
	"github.com/pdskit/pdskit/xrpc"
	"github.com/pdskit/pdskit/xrpc/atproto"
	"github.com/pdskit/pdskit/xrpc/auth"
	"github.com/pdskit/pdskit/xrpc/stream"
)

// An Authenticator that lets a request pass and says in no usable way whose it is is a fault of the
// host: the client is not blamed, and the log says what is wrong.
func TestAPrincipalThatIsNone(t *testing.T) {
	for name, tt := range map[string]struct {
		p      auth.Principal
		says   string
		public int // status of a method that anybody may call
	}{
		"nobody":            {auth.Principal{}, "no account", 200},
		"an administrator":  {auth.Principal{Role: auth.Administrator}, "no account", 200},
		"a service":         {auth.Principal{Role: auth.Service, DID: alice}, "no account", 200},
		"a user of no name": {auth.Principal{Role: auth.User, Permissions: auth.Everything()}, "without a DID", 500},
	} {
		t.Run(name, func(t *testing.T) {
			w := newWorld(t)
			var log bytes.Buffer
			as := func(*xrpc.Request) (auth.Principal, error) { return tt.p, nil }
			w.svc.Auth = atproto.Auth{User: as, Optional: as}
			w.srv = &xrpc.Server{Catalog: schemas, Logger: slog.New(slog.NewTextHandler(&log, nil))}
			w.svc.Mount(w.srv)
			for _, method := range []string{"com.atproto.repo.createRecord", "com.atproto.repo.uploadBlob"} {
				log.Reset()
				w.call("", method, nil, map[string]any{"repo": alice, "collection": note, "record": map[string]any{"text": "x"}}).want(t, 500, "InternalServerError")
				if !strings.Contains(log.String(), tt.says) {
					t.Errorf("%s: the log is %q, want %q in it", method, log.String(), tt.says)
				}
			}
			if a := w.call("", "com.atproto.sync.getLatestCommit", q("did", alice), nil); a.status != tt.public {
				t.Errorf("status %d for what is public", a.status)
			}
		})
	}
}

// A Service without what it needs is refused when it is mounted, with a sentence.
func TestServicesThatLackSomething(t *testing.T) {
	w := newWorld(t)
	for name, change := range map[string]func(*atproto.Service){
		"Host":      func(s *atproto.Service) { s.Host = nil },
		"Accounts":  func(s *atproto.Service) { s.Accounts = nil },
		"Auth.User": func(s *atproto.Service) { s.Auth.User = nil },
		"Events":    func(s *atproto.Service) { s.Outbox = &stream.Outbox{} },
	} {
		s := &atproto.Service{Host: w.svc.Host, Accounts: w.svc.Accounts, Auth: w.svc.Auth, Outbox: w.svc.Outbox}
		change(s)
		if err := s.Validate(); err == nil || !strings.Contains(err.Error(), name) {
			t.Errorf("without %s: %v", name, err)
		}
		func() {
			defer func() {
				if recover() == nil {
					t.Errorf("Mount without %s did not panic", name)
				}
			}()
			s.Mount(&xrpc.Server{})
		}()
	}
	if err := w.svc.Validate(); err != nil {
		t.Error(err)
	}
}

// startsAgain is a directory that takes the zero time for the start, whatever the DID.
type startsAgain struct{ accounts }

func (a startsAgain) ListAccounts(ctx context.Context, after time.Time, afterDID syntax.DID, limit int) ([]atproto.Account, error) {
	if after.IsZero() {
		afterDID = ""
	}
	return a.accounts.ListAccounts(ctx, after, afterDID, limit)
}

// byMillisecond is a directory that tells times apart by the millisecond only.
type byMillisecond struct{ accounts }

func (a byMillisecond) ListAccounts(_ context.Context, after time.Time, afterDID syntax.DID, limit int) (list []atproto.Account, _ error) {
	less := func(x, y atproto.Account) int {
		if c := x.Created.Truncate(time.Millisecond).Compare(y.Created.Truncate(time.Millisecond)); c != 0 {
			return c
		}
		return strings.Compare(string(x.DID), string(y.DID))
	}
	for _, acct := range a.accounts {
		if afterDID == "" || less(*acct, atproto.Account{Created: after, DID: afterDID}) > 0 {
			list = append(list, *acct)
		}
	}
	slices.SortFunc(list, less)
	return list[:min(len(list), limit)], nil
}

// Whatever times of creation a directory has, the list of repositories has each account once and
// ends.
func TestListReposOfAnyTimes(t *testing.T) {
	begin := time.Date(2026, 1, 1, 0, 0, 0, 0, time.UTC)
	for name, created := range map[string]func(i int) time.Time{
		"no times":                 func(int) time.Time { return time.Time{} },
		"some times":               func(i int) time.Time { return []time.Time{{}, begin}[i%2] },
		"equal times":              func(int) time.Time { return begin },
		"equal, with nanoseconds":  func(int) time.Time { return begin.Add(123_456_789) },
		"in one millisecond":       func(i int) time.Time { return begin.Add(time.Duration(100 - 10*i)) },
		"before 1970":              func(i int) time.Time { return time.Unix(-1000, int64(i)*999_999).UTC() },
		"in the local zone":        func(i int) time.Time { return begin.Add(time.Duration(i) * time.Microsecond).Local() },
		"descending with the DIDs": func(i int) time.Time { return begin.Add(time.Duration(-i) * time.Hour) },
	} {
		w := newWorld(t)
		dids := []syntax.DID{alice, bob, dora, sue, tom}
		for i, did := range dids {
			w.accounts[did].Created = created(i)
		}
		for kind, dir := range map[string]atproto.Directory{"strict": w.accounts, "starts again": startsAgain{w.accounts}, "by the millisecond": byMillisecond{w.accounts}} {
			for limit := 1; limit <= 3; limit++ {
				w.svc.Accounts, w.srv = dir, nil
				var got []syntax.DID
				for cursor, pages := "", 0; ; pages++ {
					out := into[struct {
						Cursor string
						Repos  []struct{ DID syntax.DID }
					}](t, w.call("", "com.atproto.sync.listRepos", q("limit", fmt.Sprint(limit), "cursor", cursor), nil).want(t, 200, ""))
					for _, r := range out.Repos {
						got = append(got, r.DID)
					}
					if cursor = out.Cursor; cursor == "" {
						break
					}
					if pages > 20 {
						t.Fatalf("%s, %s: there is no end: %v", name, kind, got)
					}
				}
				slices.Sort(got)
				if diff := cmp.Diff(dids, got); diff != "" {
					t.Errorf("%s, %s, pages of %d: %s", name, kind, limit, diff)
				}
			}
		}
	}
}

// While the host does not trust its clock, what needs a signature is answered with 503 and a time
// to come back, and what does not goes on.
func TestWritesOfAClockInDoubt(t *testing.T) {
	w := newWorld(t)
	store := memory.New(memory.Config{})
	var doubt error
	w.host = repo.NewHost(repo.Config{
		Store: store, Signer: func(context.Context, syntax.DID) (crypto.Signer, error) { return w.key, nil },
		CheckClock: func(context.Context) error { return doubt },
	})
	if _, err := w.host.Create(t.Context(), alice, repo.Batch{}); err != nil {
		t.Fatal(err)
	}
	w.svc.Host = w.host
	in := map[string]any{"repo": alice, "collection": note, "rkey": "a", "record": map[string]any{"$type": note, "text": "x"}}
	writes := map[string]any{"repo": alice, "writes": []any{map[string]any{
		"$type": "com.atproto.repo.applyWrites#create", "collection": note, "rkey": "b", "value": map[string]any{"$type": note, "text": "x"}}}}
	doubt = errors.New("two hours ahead")
	for method, body := range map[string]any{"createRecord": in, "putRecord": in, "applyWrites": writes} {
		a := w.post(alice, "com.atproto.repo."+method, body)
		if a.status != 503 || a.header.Get("Retry-After") == "" || bytes.Contains(a.body, []byte("two hours")) {
			t.Errorf("%s: %d %s", method, a.status, a.body)
		}
	}
	w.call("", "com.atproto.sync.getLatestCommit", q("did", alice), nil).want(t, 200, "")
	doubt = nil
	w.call(alice, "com.atproto.repo.createRecord", nil, in).want(t, 200, "")
}

// post calls a procedure without a look at the schema of its errors.
func (w *world) post(as, method string, in any) answer {
	w.t.Helper()
	undeclared[method] = append(undeclared[method], "ClockNotTrusted")
	text, err := json.Marshal(in)
	if err != nil {
		w.t.Fatal(err)
	}
	return w.send(as, "POST", method, nil, "application/json", text)
}

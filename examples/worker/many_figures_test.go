//go:build !js && linux

package main

import (
	"bytes"
	"context"
	"errors"
	"fmt"
	"io"
	"net/url"
	"os"
	"sync"
	"testing"
	"time"

	"github.com/pdskit/pdskit/internal/dag"
	"github.com/pdskit/pdskit/internal/workerd"
	"github.com/pdskit/pdskit/lexicon/syntax"
	"github.com/pdskit/pdskit/storage"
	"github.com/pdskit/pdskit/storage/cloudflare"
	"github.com/pdskit/pdskit/xrpc"
	"github.com/pdskit/pdskit/xrpc/atproto/api"
)

// TestManyFigures prints what a directory costs and carries: PDSKIT_FIGURES=1 go test -v -run TestManyFigures.
// All objects share one thread here, so what two of them do takes as long as both together.
func TestManyFigures(t *testing.T) {
	if os.Getenv("PDSKIT_FIGURES") == "" {
		t.Skip("PDSKIT_FIGURES is not set: this prints figures, and takes minutes")
	}
	w := deployWith(t, map[string]string{
		"PDS_HOSTNAMES": "single.test", "PDS_HOSTNAME": "pds.test", "PDS_ACCOUNT_OBJECTS": "true", "PDS_INVITE_REQUIRED": "false",
	}, "pds.test", "single.test")
	row := func(what, format string, args ...any) { t.Logf("| %s | %s |", what, fmt.Sprintf(format, args...)) }
	single, err := api.ServerCreateAccount(t.Context(), w.client("single.test"), api.ServerCreateAccountInput{
		Handle: "single.test", Email: "owner@example.com", Password: "alice's password",
	})
	if err != nil {
		t.Fatal(err)
	}
	alone := w.client("single.test")
	alone.Authorize = xrpc.Bearer(single.AccessJWT)
	var dids []syntax.DID
	var clients []*xrpc.Client
	w.measure(row, "createAccount (desk, account and directory, with start)", 4, func(i int) error {
		did, c, err := w.try(t.Context(), fmt.Sprint("name", i))
		dids, clients = append(dids, did), append(clients, c)
		return err
	})
	write := func(c *xrpc.Client, did syntax.DID) func(int) error {
		return func(i int) error { return w.write(c, did, i) }
	}
	for range 2 { // the first round warms up
		w.measure(row, "createRecord, one object for all", 300, write(alone, single.DID))
		w.measure(row, "createRecord, account and directory", 300, write(clients[0], dids[0]))
	}
	began, cpu := time.Now(), w.cpu()
	var all sync.WaitGroup
	var mu sync.Mutex
	var failed error
	for k := range clients {
		all.Go(func() {
			for i := range 150 {
				if err := w.write(clients[k], dids[k], i); err != nil {
					mu.Lock()
					failed = errors.Join(failed, err)
					mu.Unlock()
					return
				}
			}
		})
	}
	all.Wait()
	if failed != nil {
		t.Fatal(failed)
	}
	n := 150 * len(clients)
	row("createRecord, four accounts at a time", "%.0f/s, %.1f ms of processor", float64(n)/time.Since(began).Seconds(), float64(w.cpu()-cpu)/float64(n))
	w.deliver(row, 0)
	ctx, cancel := context.WithTimeout(t.Context(), 3*time.Minute)
	defer cancel()
	read := make(chan [2]int)
	for range 2 { // subscribers, which read all that there is
		go func() {
			n, bytes := 0, 0
			for m, err := range w.follow(ctx, "pds.test") {
				if err != nil {
					break
				}
				if len(m.Records) > 0 {
					n, bytes = n+1, bytes+len(m.Frame.Payload)
				}
				if n == 600+150*len(clients) {
					read <- [2]int{n, bytes}
				}
			}
		}()
	}
	for range 2 {
		got := <-read
		row("an event of a createRecord", "%d bytes", got[1]/got[0])
	}
	w.deliver(row, 2)
	w.measure(row, "resolveHandle (directory)", 300, func(int) error {
		_, err := api.IdentityResolveHandle(t.Context(), w.client("pds.test"), api.IdentityResolveHandleParams{Handle: "name1.pds.test"})
		return err
	})
	w.measure(row, "getLatestCommit (account)", 300, func(int) error {
		_, err := api.SyncGetLatestCommit(t.Context(), w.client("pds.test"), api.SyncGetLatestCommitParams{DID: dids[1]})
		return err
	})
	w.measure(row, "createSession (account)", 10, func(int) error {
		_, err := api.ServerCreateSession(t.Context(), w.client("pds.test"), api.ServerCreateSessionInput{Identifier: "name2.pds.test", Password: "alice's password"})
		return err
	})
	// Last, since who asks for many of them may ask for no other account for a minute.
	w.measure(row, "getLatestCommit of an account that is not there", 300, func(i int) error {
		did := syntax.DID(fmt.Sprintf("did:web:nobody%d.example.com", i))
		_, err := api.SyncGetLatestCommit(t.Context(), w.client("pds.test"), api.SyncGetLatestCommitParams{DID: did})
		if err == nil {
			return errors.New("it is there")
		}
		return nil
	})
	for _, object := range []string{"directory", "desk", string(dids[0]), string(dids[3])} {
		row("linear memory of "+object[:min(len(object), 11)], "%.1f MB", w.memoryOf(object))
	}
}

// deliver measures what the directory alone does for a change of an account: the test is the account's
// object, and calls by HTTP.
func (w *edgeWorld) deliver(row func(what, format string, args ...any), subscribers int) {
	w.t.Helper()
	directory := cloudflare.RemoteDirectory(func(_ context.Context, method string, body []byte) ([]byte, error) {
		q := url.Values{"object": {"directory"}, "method": {method}}
		res, err := workerd.Client.Post(w.workerd.URL+"/test/call?"+q.Encode(), "", bytes.NewReader(body))
		if err != nil {
			return nil, err
		}
		defer res.Body.Close()
		return io.ReadAll(res.Body)
	})
	did := syntax.DID(fmt.Sprintf("did:web:figures%d.example.com", subscribers))
	at := func(i int) storage.Head {
		c := dag.Sum(dag.CBOR, fmt.Append(nil, i))
		return storage.Head{Commit: c, Data: c, Rev: syntax.NewTID(time.Unix(1e9+int64(i), 0), 0)}
	}
	var prev storage.Head
	deliver := func(i int) error {
		c := &storage.Change{
			Prev: prev, Head: at(i), Commit: make([]byte, 200),
			Events: []storage.Event{{DID: did, Kind: "#identity", Time: time.Now(), Payload: []byte("\xa1\x61x\x59\x07\xd0" + string(make([]byte, 2000)))}},
			KV:     []storage.KVWrite{{Key: "durable/delivered", Value: []byte{byte(i)}}},
		}
		_, err := directory.Deliver(w.t.Context(), did, c)
		prev = c.Head
		return err
	}
	if err := deliver(0); err != nil {
		w.t.Fatal(err)
	}
	w.measure(row, fmt.Sprintf("a change that is entered in the directory, with %d subscribers", subscribers), 500, func(i int) error { return deliver(i + 1) })
	if _, err := directory.Remove(w.t.Context(), did, nil); err != nil {
		w.t.Fatal(err)
	}
}

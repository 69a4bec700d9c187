//go:build !js && linux

package main

import (
	"errors"
	"fmt"
	"os"
	"sync"
	"testing"
	"time"

	"github.com/pdskit/pdskit/lexicon/syntax"
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
	w.measure(row, "resolveHandle (directory)", 300, func(int) error {
		_, err := api.IdentityResolveHandle(t.Context(), w.client("pds.test"), api.IdentityResolveHandleParams{Handle: "name1.pds.test"})
		return err
	})
	w.measure(row, "getLatestCommit (account)", 300, func(int) error {
		_, err := api.SyncGetLatestCommit(t.Context(), w.client("pds.test"), api.SyncGetLatestCommitParams{DID: dids[1]})
		return err
	})
	w.measure(row, "getLatestCommit of an account that is not there", 300, func(i int) error {
		did := syntax.DID(fmt.Sprintf("did:web:nobody%d.example.com", i))
		_, err := api.SyncGetLatestCommit(t.Context(), w.client("pds.test"), api.SyncGetLatestCommitParams{DID: did})
		if err == nil {
			return errors.New("it is there")
		}
		return nil
	})
	w.measure(row, "createSession (account)", 10, func(int) error {
		_, err := api.ServerCreateSession(t.Context(), w.client("pds.test"), api.ServerCreateSessionInput{Identifier: "name2.pds.test", Password: "alice's password"})
		return err
	})
	for _, object := range []string{"directory", "desk", string(dids[0]), string(dids[3])} {
		row("linear memory of "+object[:min(len(object), 11)], "%.1f MB", w.memoryOf(object))
	}
}

package repo_test

import (
	"bufio"
	"context"
	"encoding/hex"
	"fmt"
	"math/rand/v2"
	"os"
	"os/exec"
	"path/filepath"
	"strings"
	"testing"

	"github.com/pdskit/pdskit/crypto"
	"github.com/pdskit/pdskit/internal/testenv"
	"github.com/pdskit/pdskit/lexicon/syntax"
	"github.com/pdskit/pdskit/repo"
	"github.com/pdskit/pdskit/storage/sqlite"
)

// TestKill kills a process that writes, five times over, each time at another moment. What it
// said was written is there when the file is opened again, and all of it agrees.
func TestKill(t *testing.T) {
	testenv.NotOnJS(t, "programs cannot be started")
	if path := os.Getenv("PDSKIT_TEST_KILL"); path != "" {
		writeForEver(path)
		return
	}
	path := filepath.Join(t.TempDir(), "test.sqlite")
	k := &keys{}
	dids := []syntax.DID{alice, bob}
	env := append(os.Environ(), "PDSKIT_TEST_KILL="+path)
	for _, did := range dids {
		env = append(env, "PDSKIT_TEST_KEY_"+string(did[8])+"="+hex.EncodeToString(k.key(did).Bytes()))
	}
	rng := rand.New(rand.NewPCG(5, 6))
	said := map[syntax.DID]map[string]string{alice: {}, bob: {}}
	for round := range 5 {
		child := exec.Command(os.Args[0], "-test.run=^TestKill$")
		child.Env = env
		child.Stderr = os.Stderr
		out, err := child.StdoutPipe()
		if err != nil {
			t.Fatal(err)
		}
		if err := child.Start(); err != nil {
			t.Fatal(err)
		}
		lines := bufio.NewScanner(out)
		left := 20 + rng.IntN(200)
		for lines.Scan() {
			fields := strings.Fields(lines.Text())
			if len(fields) != 3 {
				continue // cut off
			}
			said[syntax.DID(fields[0])][fields[1]] = fields[2]
			if left--; left == 0 {
				child.Process.Kill() // what it says until it is dead counts too
			}
		}
		child.Wait()
		if left > 0 {
			t.Fatalf("round %d: the process ended by itself", round)
		}

		db, err := sqlite.Open(ctx, path, sqlite.Config{})
		if err != nil {
			t.Fatal(err)
		}
		if err := db.Check(ctx); err != nil {
			t.Error(err)
		}
		h := repo.NewHost(repo.Config{Store: db.Store(), Signer: k.signer})
		want := map[syntax.DID]map[string]string{}
		for _, did := range dids {
			want[did] = map[string]string{}
			for path, cid := range said[did] {
				collection, rkey, err := syntax.ParsePath(path)
				if err != nil {
					t.Fatal(err)
				}
				rec, err := h.Record(ctx, did, collection, rkey)
				if err != nil || rec.CID.String() != cid {
					t.Errorf("round %d: %s of %s was written as %s, and is %v (%v)", round, path, did, cid, rec.CID, err)
				}
			}
			// Beyond what was said, there may be what was written just before the end.
			for _, rec := range all(t, h, did) {
				want[did][rec.Path] = rec.CID.String()
			}
		}
		check(t, db.Store(), k, want)
		if err := db.Close(); err != nil {
			t.Error(err)
		}
	}
}

// writeForEver writes to two accounts from several goroutines and says what is durable.
func writeForEver(path string) {
	fail := func(err error) {
		fmt.Fprintln(os.Stderr, err)
		os.Exit(2)
	}
	db, err := sqlite.Open(ctx, path, sqlite.Config{})
	if err != nil {
		fail(err)
	}
	h := repo.NewHost(repo.Config{Store: db.Store(), Signer: func(_ context.Context, did syntax.DID) (crypto.Signer, error) {
		raw, err := hex.DecodeString(os.Getenv("PDSKIT_TEST_KEY_" + string(did[8])))
		if err != nil {
			return nil, err
		}
		return crypto.ParsePrivateKey(crypto.K256, raw)
	}})
	for _, did := range []syntax.DID{alice, bob} {
		if _, err := h.Head(ctx, did); err != nil {
			if _, err := h.Create(ctx, did, repo.Batch{}); err != nil {
				fail(err)
			}
		}
		for range 3 {
			go func() {
				for {
					key := h.NextRecordKey()
					text := []byte("\xa2\x64text\x6d" + key + "\x65$type\x70com.example.note")
					res, err := h.Apply(ctx, did, one(repo.Create, key, text, nil))
					if err != nil {
						fail(err)
					}
					fmt.Printf("%s %s %s\n", did, res.Records[0].Path, res.Records[0].CID)
				}
			}()
		}
	}
	select {}
}

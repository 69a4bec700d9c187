package main_test

import (
	"bufio"
	"bytes"
	"context"
	"crypto/sha256"
	"encoding/json"
	"fmt"
	"io"
	"math/rand/v2"
	"net/url"
	"os"
	"os/exec"
	"path/filepath"
	"slices"
	"strings"
	"testing"
	"time"

	"github.com/google/go-cmp/cmp"
	"github.com/pdskit/pdskit/car"
	"github.com/pdskit/pdskit/commit"
	"github.com/pdskit/pdskit/crypto"
	"github.com/pdskit/pdskit/identity"
	"github.com/pdskit/pdskit/identity/plctest"
	"github.com/pdskit/pdskit/internal/testplc"
	"github.com/pdskit/pdskit/lexicon/syntax"
	"github.com/pdskit/pdskit/xrpc"
	"github.com/pdskit/pdskit/xrpc/migrate"
	"github.com/pdskit/pdskit/xrpc/stream"
)

// long says that the environment asks for tests of full size.
func long() bool { return os.Getenv("PDSKIT_LONG") != "" }

// home is a server that can be killed and comes back under its address.
type home struct {
	*sandbox
	dir string
	env []string
}

func newHome(t *testing.T, env ...string) *home {
	h := &home{dir: t.TempDir()}
	mail := filepath.Join(t.TempDir(), "mail.jsonl")
	h.env = append(env, "LOG_LEVEL=warn", "PDS_EMAIL_SINK_FILE="+mail, "PDS_ADMIN_PASSWORD=hunter2")
	h.sandbox = &sandbox{start(t, h.dir, h.env...), mail}
	h.env = append(h.env, h.port())
	return h
}

func (h *home) crash() {
	h.kill()
	h.process = start(h.t, h.dir, h.env...)
}

// move is one move of an account.
type move struct {
	from, to       *home
	account        string
	did            syntax.DID
	oldPass, pass  string
	state, plc     string
	token          string
	late           func() // called when a token is asked for
	runs, restarts int
	serverCrashes  map[string]*home // by event
}

// crashPoint is where a migrator is killed: so long after an event.
type crashPoint struct {
	event string
	after time.Duration
}

// run runs the program until it ends or is killed. It reports whether the move is finished.
func (m *move) run(t *testing.T, at *crashPoint) (finished bool) {
	t.Helper()
	m.runs++
	bin := program(t)
	args := []string{"migrate", "-json", "-no-input", "-state", m.state, "-plc", m.plc, "-old-server", m.from.url}
	if m.token != "" {
		args = append(args, "-token", m.token)
	}
	cmd := exec.Command(bin, append(args, m.account, m.to.url)...)
	cmd.Env = []string{"PDS_MIGRATE_OLD_PASSWORD=" + m.oldPass, "PDS_MIGRATE_NEW_PASSWORD=" + m.pass, "TMPDIR=" + t.TempDir()}
	out, err := cmd.StdoutPipe()
	if err != nil {
		t.Fatal(err)
	}
	if err := cmd.Start(); err != nil {
		t.Fatal(err)
	}
	defer cmd.Wait()
	defer cmd.Process.Kill()
	steps := migrate.Steps()
	lines := bufio.NewScanner(out)
	lines.Buffer(nil, 1<<20)
	for lines.Scan() {
		var e struct{ Step, Status, Message, Next string }
		if err := json.Unmarshal(lines.Bytes(), &e); err != nil {
			t.Fatalf("%v: %s", err, lines.Bytes())
		}
		fmt.Fprintln(t.Output(), m.runs, lines.Text())
		event := e.Status + " " + e.Step
		switch {
		case e.Status == "finished":
			return true
		case e.Status == "failed" && e.Step == migrate.Sign:
			if m.token != "" { // it was used up by a run that was killed
				m.token = ""
			} else {
				m.late()
				m.token = m.from.token(t, m.account[:strings.Index(m.account, ".")]+"@example.com")
			}
			return false
		case e.Status == "failed":
			t.Fatalf("%s: %s (%s)", e.Step, e.Message, e.Next)
		}
		if at != nil {
			status, step, _ := strings.Cut(at.event, " ")
			if event == at.event || slices.Index(steps, e.Step) > slices.Index(steps, step) && status == "started" {
				time.Sleep(at.after)
				return false
			}
		}
		if victim := m.serverCrashes[event]; victim != nil {
			delete(m.serverCrashes, event)
			m.restarts++
			victim.crash()
		}
	}
	return false
}

// done reports whether the state file has a step.
func (m *move) done(step string) bool {
	text, err := os.ReadFile(m.state)
	return err == nil && strings.Contains(string(text), `"step": "`+step+`"`)
}

// holdings is all that an account has at a server, blobs by their hashes.
func (p *process) holdings(t *testing.T, did syntax.DID, password string) map[string]string {
	t.Helper()
	ctx := context.Background()
	u, err := p.login(t, string(did), password)
	if err != nil {
		t.Fatal(err)
	}
	get := func(nsid string, q url.Values) (kind string, body []byte) {
		t.Helper()
		resp, err := u.Get(ctx, nsid, q)
		if err != nil {
			t.Fatal(nsid, err)
		}
		defer resp.Body.Close()
		if body, err = io.ReadAll(resp.Body); err != nil {
			t.Fatal(nsid, err)
		}
		return resp.Header.Get("Content-Type"), body
	}
	all := map[string]string{}
	_, file := get("com.atproto.sync.getRepo", url.Values{"did": {string(did)}})
	rd, err := commit.ReadRepo(bytes.NewReader(file), commit.RepoOptions{DID: did})
	if err != nil {
		t.Fatal(err)
	}
	defer rd.Close()
	for rec, err := range rd.Records() {
		if err != nil {
			t.Fatal(err)
		}
		all[rec.Path] = string(rec.Data)
	}
	_, text := get("com.atproto.sync.listBlobs", url.Values{"did": {string(did)}, "limit": {"1000"}})
	var blobs struct{ CIDs []string }
	if err := json.Unmarshal(text, &blobs); err != nil {
		t.Fatal(err)
	}
	for _, name := range blobs.CIDs {
		kind, body := get("com.atproto.sync.getBlob", url.Values{"did": {string(did)}, "cid": {name}})
		all["blob "+name] = fmt.Sprintf("%s %x", kind, sha256.Sum256(body))
	}
	_, prefs := get("app.bsky.actor.getPreferences", nil)
	all["preferences"] = string(prefs)
	return all
}

// fill gives an account records, blobs and preferences.
func fill(t *testing.T, u *user, records, blobs int) {
	t.Helper()
	rng := rand.New(rand.NewPCG(1, 2))
	const batch = 200
	for n := 0; n < records; n += batch {
		var writes []any
		for i := n; i < min(n+batch, records-blobs); i++ {
			collection := []string{"com.example.note", "com.example.other", "com.example.deep.thing"}[i%3]
			writes = append(writes, map[string]any{"$type": "com.atproto.repo.applyWrites#create", "collection": collection,
				"value": map[string]any{"$type": collection, "text": strings.Repeat("words ", rng.IntN(40)), "number": i}})
		}
		if writes != nil {
			u.call(t, "com.atproto.repo.applyWrites", map[string]any{"repo": u.DID, "writes": writes}, nil)
		}
	}
	for i := range blobs {
		raw := make([]byte, 1+rng.IntN(60_000))
		for j := range raw {
			raw[j] = byte(rng.Uint32())
		}
		var up struct{ Blob any }
		if err := u.Upload(context.Background(), "com.atproto.repo.uploadBlob", "application/x-thing", bytes.NewReader(raw), &up); err != nil {
			t.Fatal(err)
		}
		u.call(t, "com.atproto.repo.createRecord", map[string]any{"repo": u.DID, "collection": "com.example.picture", "record": map[string]any{"thing": up.Blob, "number": i}}, nil)
	}
	u.call(t, "app.bsky.actor.putPreferences", map[string]any{"preferences": []any{
		map[string]any{"$type": "app.bsky.actor.defs#adultContentPref", "enabled": true},
		map[string]any{"$type": "app.bsky.actor.defs#personalDetailsPref", "birthDate": "1990-01-01T00:00:00Z"},
	}}, nil)
}

// verifyStream reads a server's firehose from its start up to a revision of an account and
// checks, as a relay does, each #commit and #sync of the account with its key at that server.
// It returns the kinds of the account's messages.
func (p *process) verifyStream(t *testing.T, did syntax.DID, key *crypto.PublicKey, upTo syntax.TID) (kinds []string) {
	t.Helper()
	ctx, cancel := context.WithTimeout(t.Context(), 2*time.Minute)
	defer cancel()
	v := commit.Verifier{Key: func(context.Context, syntax.DID, bool) (*crypto.PublicKey, error) { return key, nil }}
	var last commit.State
	zero := int64(0)
	c := &stream.Consumer{URL: p.url + subscribeRepos, Cursor: &zero}
	for f, err := range c.Frames(ctx) {
		if err != nil {
			t.Fatal(err)
		}
		kind := f.Kind
		switch f.Kind {
		case commit.KindCommit:
			e, err := commit.DecodeEvent(f.Payload)
			if err != nil {
				t.Fatal(err)
			}
			if e.Repo != did {
				continue
			}
			next, _, err := v.Commit(ctx, last, e)
			if err != nil {
				t.Fatalf("#commit %s after %s: %v", e.Rev, last.Rev, err)
			}
			last = next
		case commit.KindSync:
			s, err := commit.DecodeSync(f.Payload)
			if err != nil {
				t.Fatal(err)
			}
			if s.DID != did {
				continue
			}
			next, err := v.Sync(ctx, last, s)
			if err != nil {
				t.Fatalf("#sync %s after %s: %v", s.Rev, last.Rev, err)
			}
			last = next
		case commit.KindIdentity:
			m, err := commit.DecodeIdentity(f.Payload)
			if err != nil || m.DID != did {
				continue
			}
		case commit.KindAccount:
			m, err := commit.DecodeAccount(f.Payload)
			if err != nil || m.DID != did {
				continue
			}
			kind = strings.TrimSpace(kind + " " + m.Status)
		}
		if n := len(kinds); kind != commit.KindCommit || n == 0 || kinds[n-1] != kind { // many commits are one
			kinds = append(kinds, kind)
		}
		if last.Rev >= upTo {
			return kinds
		}
	}
	return kinds
}

// TestMigration moves an account to another server and back again, interrupted at each
// step and at random points of the copying of blobs, with both servers killed again and
// again. In the end everything is there, byte for byte, and the firehose of each server has
// what it must, in order, and verifies. With PDSKIT_LONG it has 20,000 records and 200 blobs and is
// interrupted as often on its way back.
func TestMigration(t *testing.T) {
	if testing.Short() {
		t.Skip("runs many processes")
	}
	records, blobs := 600, 20
	if long() {
		records, blobs = 20_000, 200
	}
	web := testplc.Start(t, plctest.Config{NoRateLimits: true})
	plc := &identity.PLCClient{URL: web.URL, Verify: true}
	a, b := newHome(t, "PDS_DID_PLC_URL="+web.URL), newHome(t, "PDS_DID_PLC_URL="+web.URL)
	alice := a.register("alice")
	begin := time.Now()
	fill(t, alice, records, blobs)
	t.Logf("filled with %d records and %d blobs in %v", records, blobs, time.Since(begin))

	m := &move{from: a, to: b, account: "alice.test", did: alice.DID, oldPass: "password of alice", pass: "another password", plc: web.URL, state: filepath.Join(t.TempDir(), "there")}
	there(t, m, plc, true, records)
	back := &move{from: b, to: a, account: "alice.test", did: alice.DID, oldPass: m.pass, pass: "a third password", plc: web.URL, state: filepath.Join(t.TempDir(), "back")}
	there(t, back, plc, long(), records)
}

// there moves an account one way and checks what became of it.
func there(t *testing.T, m *move, plc *identity.PLCClient, everyStep bool, records int) {
	t.Helper()
	ctx := t.Context()
	old, err := m.from.login(t, string(m.did), m.oldPass)
	if err != nil {
		t.Fatal(err)
	}
	before, err := plc.Data(ctx, m.did)
	if err != nil {
		t.Fatal(err)
	}
	m.late = func() { // written after all was copied
		old.call(t, "com.atproto.repo.createRecord", map[string]any{"repo": m.did, "collection": "com.example.late", "record": map[string]any{"run": m.runs}}, nil)
	}
	switch crashes := map[string]*home{
		"started account": m.to, "started export": m.from, "started import": m.to, "started blobs": m.from, "done blobs": m.to, "started preferences": m.from,
		"started identity": m.to, "started activate": m.to, "started deactivate": m.from,
	}; {
	case m.serverCrashes != nil:
	case everyStep:
		m.serverCrashes = crashes
	default:
		m.serverCrashes = map[string]*home{"started import": m.to, "started blobs": m.from}
	}
	begin := time.Now()
	if everyStep {
		for _, step := range migrate.Steps() {
			points := []crashPoint{{"started " + step, 0}}
			if step == migrate.Blobs || step == migrate.Import {
				for range 3 {
					points = append(points, crashPoint{"started " + step, rand.N(400 * time.Millisecond)})
				}
			}
			points = append(points, crashPoint{"done " + step, 0})
			for _, at := range points {
				if !m.done(step) {
					if m.run(t, &at) && step != migrate.Deactivate {
						t.Fatalf("the move is finished at %s", at.event)
					}
				}
			}
		}
	}
	for !m.run(t, nil) {
		if m.runs > 100 {
			t.Fatal("no end")
		}
	}
	t.Logf("moved in %v, %d runs, %d kills of servers", time.Since(begin), m.runs, m.restarts)

	want := m.from.holdings(t, m.did, m.oldPass)
	if len(want) <= records {
		t.Errorf("only %d things", len(want))
	}
	if diff := cmp.Diff(want, m.to.holdings(t, m.did, m.pass)); diff != "" {
		t.Error(diff)
	}
	after, err := plc.Data(ctx, m.did)
	if err != nil {
		t.Fatal(err)
	}
	if after.Services[identity.PDSID].Endpoint != m.to.url || after.VerificationMethods[identity.SigningKeyID] == before.VerificationMethods[identity.SigningKeyID] ||
		!slices.Equal(after.AlsoKnownAs, before.AlsoKnownAs) || len(after.RotationKeys) != 1 || after.RotationKeys[0] == before.RotationKeys[0] {
		t.Errorf("document %+v, was %+v", after, before)
	}
	if after.Services[identity.PDSID].Endpoint == before.Services[identity.PDSID].Endpoint {
		t.Error("the service is the old one")
	}

	// Life goes on there; and both streams verify.
	u, err := m.to.login(t, string(m.did), m.pass)
	if err != nil {
		t.Fatal(err)
	}
	var st struct{ Activated, ValidDid bool }
	if err := u.Query(ctx, "com.atproto.server.checkAccountStatus", nil, &st); err != nil || !st.Activated || !st.ValidDid {
		t.Errorf("status %+v %v", st, err)
	}
	u.call(t, "com.atproto.repo.createRecord", map[string]any{"repo": m.did, "collection": "com.example.new", "record": map[string]any{}}, nil)
	rev := latest(t, u)
	key, err := crypto.ParseDIDKey(after.VerificationMethods[identity.SigningKeyID])
	if err != nil {
		t.Fatal(err)
	}
	kinds := m.to.verifyStream(t, m.did, key, rev)
	if diff := cmp.Diff([]string{"#account", "#identity", "#sync", "#commit"}, kinds[max(0, len(kinds)-4):]); diff != "" {
		t.Errorf("%v: %s", kinds, diff)
	}
	if n := len(slices.DeleteFunc(slices.Clone(kinds), func(k string) bool { return k != "#account" })); n != 1 && kinds[0] != "#identity" {
		t.Errorf("activated %d times: %v", n, kinds)
	}
	t.Logf("events at the new server: %v", kinds)
	kinds = m.from.events(t, m.did)
	if diff := cmp.Diff("#account deactivated", kinds[len(kinds)-1]); diff != "" {
		t.Errorf("%v: %s", kinds, diff)
	}
}

// TestMigrationPLC moves an account between servers of which one has the directory in its process.
func TestMigrationPLC(t *testing.T) {
	a := newHome(t)
	directory := ""
	for _, line := range a.out {
		if rest, ok := strings.CutPrefix(strings.TrimSpace(line), "PLC"); ok {
			directory = urlPattern.FindString(rest)
		}
	}
	b := newHome(t, "PDS_DID_PLC_URL="+directory)
	alice := a.register("alice")
	fill(t, alice, 10, 2)
	m := &move{from: a, to: b, account: "alice.test", did: alice.DID, oldPass: "password of alice", pass: "another password", plc: directory, state: filepath.Join(t.TempDir(), "s"),
		serverCrashes: map[string]*home{"started import": b, "started activate": b}}
	there(t, m, &identity.PLCClient{URL: directory}, false, 10)
}

// TestImportRefused: each broken or foreign file is answered with 400 and the reason, and changes
// nothing. App passwords may not import.
func TestImportRefused(t *testing.T) {
	b := newSandbox(t)
	alice, bob := b.register("alice"), b.register("bob")
	fill(t, alice, 20, 1)
	fill(t, bob, 20, 0)
	export := func(u *user) []byte {
		resp, err := u.Get(t.Context(), "com.atproto.sync.getRepo", url.Values{"did": {string(u.DID)}})
		if err != nil {
			t.Fatal(err)
		}
		defer resp.Body.Close()
		file, err := io.ReadAll(resp.Body)
		if err != nil {
			t.Fatal(err)
		}
		return file
	}
	good := export(alice)
	changed := bytes.Clone(good)
	changed[len(changed)-1] ^= 1
	forged := forge(t, good)
	head := latest(t, alice)
	for name, tt := range map[string]struct {
		file []byte
		want string
	}{
		"another account's": {export(bob), "repository"}, "empty": {nil, ""}, "no CAR": {[]byte("no CAR"), ""}, "torn": {good[:len(good)-3], ""}, "changed": {changed, ""},
		"signed by a stranger": {forged, "not signed by a key of the account"},
	} {
		err := alice.Upload(t.Context(), "com.atproto.repo.importRepo", "application/vnd.ipld.car", bytes.NewReader(tt.file), nil)
		if !isError(err, 400, "InvalidRequest") || tt.want != "" && !strings.Contains(err.Error(), tt.want) {
			t.Errorf("%s: %v", name, err)
		}
	}
	if rev := latest(t, alice); rev != head {
		t.Errorf("revision %s, was %s", rev, head)
	}
	var app struct{ Password string }
	alice.call(t, "com.atproto.server.createAppPassword", map[string]any{"name": "phone", "privileged": true}, &app)
	phone, err := b.login(t, "alice.test", app.Password)
	if err != nil {
		t.Fatal(err)
	}
	fails(t, phone.Upload(t.Context(), "com.atproto.repo.importRepo", "application/vnd.ipld.car", bytes.NewReader(good), nil), 400, "InvalidToken")

	// A token that this server signed for a deactivated account must not open it: the
	// session of an app password could have it signed.
	alice.call(t, "com.atproto.server.deactivateAccount", map[string]any{}, nil)
	fails(t, phone.Query(t.Context(), "com.atproto.server.getSession", nil, nil), 400, "ExpiredToken") // it has ended
	if phone, err = b.login(t, "alice.test", app.Password); err != nil {
		t.Fatal(err)
	}
	var auth struct{ Token string }
	if err := phone.Query(t.Context(), "com.atproto.server.getServiceAuth", url.Values{"aud": {"did:web:localhost"}, "lxm": {"com.atproto.server.createAccount"}}, &auth); err != nil {
		t.Fatal(err)
	}
	err = (&xrpc.Client{Host: b.url, Authorize: xrpc.Bearer(auth.Token)}).Procedure(t.Context(), "com.atproto.server.createAccount",
		map[string]any{"did": alice.DID, "handle": "alice.test", "email": "alice@example.com", "password": "stolen"}, nil)
	fails(t, err, 400, "InvalidRequest")
	if _, err := b.login(t, "alice.test", "password of alice"); err != nil {
		t.Errorf("the password was changed: %v", err)
	}
	// Deactivated, it can import, which emits nothing.
	if err := alice.Upload(t.Context(), "com.atproto.repo.importRepo", "application/vnd.ipld.car", bytes.NewReader(good), nil); err != nil {
		t.Error(err)
	}
	if kinds := b.events(t, alice.DID); kinds[len(kinds)-1] != "#account deactivated" {
		t.Errorf("events %v", kinds)
	}
}

// forge signs a repository anew with another key.
func forge(t *testing.T, file []byte) []byte {
	t.Helper()
	key, err := crypto.GenerateKey(crypto.K256)
	if err != nil {
		t.Fatal(err)
	}
	in, err := car.NewReader(bytes.NewReader(file), car.Limits{})
	if err != nil {
		t.Fatal(err)
	}
	var blocks []car.Block
	for b, err := range in.Blocks() {
		if err != nil {
			t.Fatal(err)
		}
		blocks = append(blocks, car.Block{CID: b.CID, Data: bytes.Clone(b.Data)})
	}
	root := in.Roots()[0]
	i := slices.IndexFunc(blocks, func(b car.Block) bool { return b.CID == root })
	c, err := commit.Parse(blocks[i].Data)
	if err != nil {
		t.Fatal(err)
	}
	if _, blocks[i], err = commit.Sign(t.Context(), c.DID, c.Rev, c.Data, key); err != nil {
		t.Fatal(err)
	}
	var out bytes.Buffer
	w, err := car.NewWriter(&out, blocks[i].CID)
	if err != nil {
		t.Fatal(err)
	}
	for _, b := range blocks {
		if err := w.Write(b); err != nil {
			t.Fatal(err)
		}
	}
	if err := w.Flush(); err != nil {
		t.Fatal(err)
	}
	return out.Bytes()
}

package main_test

import (
	"bytes"
	"context"
	"crypto/sha256"
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"maps"
	"math/rand/v2"
	"net/http"
	"net/url"
	"os"
	"strconv"
	"sync"
	"sync/atomic"
	"testing"
	"time"

	"github.com/google/go-cmp/cmp"
	"github.com/pdskit/pdskit/identity"
	"github.com/pdskit/pdskit/identity/plctest"
	"github.com/pdskit/pdskit/internal/testenv"
	"github.com/pdskit/pdskit/internal/testplc"
	"github.com/pdskit/pdskit/lexicon/syntax"
	"github.com/pdskit/pdskit/xrpc"
	"github.com/pdskit/pdskit/xrpc/stream"
)

// killRounds is how often TestKilledUnderLoad kills the server: 3 times, 100 with
// PDSKIT_LONG, or as PDSKIT_KILLS says.
func killRounds(t *testing.T) int {
	if text := os.Getenv("PDSKIT_KILLS"); text != "" {
		n, err := strconv.Atoi(text)
		if err != nil {
			t.Fatal(err)
		}
		return n
	}
	if long() {
		return 100
	}
	return 3
}

// TestKilledUnderLoad kills the server again and again while clients write records, upload blobs,
// refresh their sessions and make accounts. Each time it comes back, everything that was answered
// is there; what was asked for and not answered is there as a whole or not at all; the event stream
// continues where a relay's cursor is, with every event once, each of which verifies and inverts;
// and everybody can log in.
//
//	PDSKIT_KILLS=100 go test -run TestKilledUnderLoad -v ./examples/pds
func TestKilledUnderLoad(t *testing.T) {
	if testing.Short() {
		t.Skip("runs many processes")
	}
	plc := testplc.Start(t, plctest.Config{NoRateLimits: true})
	dir := t.TempDir()
	env := []string{"PDS_DID_PLC_URL=" + plc.URL}
	p := start(t, dir, env...)
	env = append(env, p.port())
	f := newFollower(t, p)
	f.plc = &identity.PLCClient{URL: plc.URL, Verify: true}
	var clients []*client
	for i := range 4 {
		clients = append(clients, newClient(p.register(fmt.Sprint("client", i)), uint64(i)))
	}
	crowd := &crowd{}

	// A last record of each client ends what the follower must see.
	catchUp := func() {
		revs := map[syntax.DID]syntax.TID{}
		for _, c := range clients {
			c.mark(t)
			revs[c.DID] = latest(t, c.user)
		}
		f.until(p, revs)
	}

	begin := time.Now()
	var answered atomic.Int64
	for round := range killRounds(t) {
		from := f.cursor
		ctx, cancel := context.WithCancel(t.Context())
		live := follow(ctx, p, from)
		var busy sync.WaitGroup
		for _, c := range clients {
			busy.Go(func() { c.work(t, &answered) })
		}
		busy.Go(func() { crowd.work(t, p, round) })
		most := answered.Load() + 10 + rand.Int64N(150)
		testenv.Until(t, "calls are answered", func() bool { return answered.Load() >= most || t.Failed() })
		p.kill()
		busy.Wait()
		cancel() // else it waits for the next process
		seen := <-live
		if t.Failed() {
			return
		}

		p = start(t, dir, env...)
		for _, c := range clients {
			c.session(t, p)
		}
		crowd.check(t, p)
		f.replayed = nil
		catchUp()
		for i, s := range seen {
			if i >= len(f.replayed) || f.replayed[i] != s {
				t.Fatalf("round %d: event %d of %d after %d differs between before and after the end of the process", round, i, len(seen), from)
			}
		}
		for _, c := range clients {
			c.settle(t, round, f.repos[c.DID])
		}
		if t.Failed() {
			return
		}
	}
	t.Logf("%d calls, %d accounts made in %v", answered.Load(), len(crowd.made), time.Since(begin).Round(time.Second))

	catchUp()
	want := map[syntax.DID]map[string]string{}
	for _, c := range clients {
		want[c.DID] = c.certain
		c.checkBlobs(t)
		f.compareExport(c.user)
	}
	for _, u := range crowd.made {
		want[u.DID] = map[string]string{}
	}
	f.compare(want)
	p.interrupt()
	var r checkReport
	if newOperator(t, dir).ok(&r, "check"); r.Found != 0 || r.Accounts < len(want) {
		t.Errorf("%+v", r)
	}
}

// event is an event of the stream, as it was seen.
type event struct {
	seq  int64
	hash [32]byte
}

// follow reads the event stream after a cursor.
func follow(ctx context.Context, p *process, cursor int64) <-chan []event {
	done := make(chan []event, 1)
	c := &stream.Consumer{URL: p.url + subscribeRepos, Cursor: &cursor}
	go func() {
		var seen []event
		for frame, err := range c.Frames(ctx) {
			if err != nil {
				break
			}
			seen = append(seen, event{frame.Seq, sha256.Sum256(frame.Payload)})
		}
		done <- seen
	}()
	return done
}

// client is an account under load.
type client struct {
	*user
	rng     *rand.Rand
	certain map[string]string // CIDs by path: what was answered
	pending []string          // paths that the call changes that was not answered; "*" for a new one
	blobs   map[string][]byte // those that records refer to
	staged  json.RawMessage   // a blob that was uploaded and waits for its record
	raw     []byte            // its bytes
	spent   []string          // refresh tokens of sessions that were ended
	n       int
}

func newClient(u *user, seed uint64) *client {
	return &client{user: u, rng: rand.New(rand.NewPCG(seed, 1)), certain: map[string]string{}, blobs: map[string][]byte{}}
}

// work makes calls until the server is gone, and counts those that were answered.
func (c *client) work(t *testing.T, answered *atomic.Int64) {
	for {
		err := c.step()
		var e *xrpc.Error
		if errors.As(err, &e) {
			t.Errorf("%s: %v", c.Handle, err)
		}
		if err != nil {
			return
		}
		c.pending = nil
		answered.Add(1)
	}
}

const note = "com.example.note"

// step makes one call.
func (c *client) step() error {
	ctx := context.Background()
	c.n++
	record := map[string]any{"text": fmt.Sprint("number ", c.n), "n": c.n}
	fresh := func() string { return fmt.Sprintf("%s/c%d", note, c.n) }
	old := func() string {
		paths := sortedKeys(c.certain)
		return paths[c.rng.IntN(len(paths))]
	}
	kind := c.rng.IntN(20)
	if len(c.certain) < 5 {
		kind = 19
	}
	var out struct{ URI, CID string }
	switch {
	case kind < 3: // update
		path := old()
		c.pending = []string{path}
		err := c.Procedure(ctx, "com.atproto.repo.putRecord", map[string]any{"repo": c.DID, "collection": note, "rkey": path[len(note)+1:], "record": record}, &out)
		if err == nil {
			c.certain[path] = out.CID
		}
		return err
	case kind < 6: // delete
		path := old()
		c.pending = []string{path}
		err := c.Procedure(ctx, "com.atproto.repo.deleteRecord", map[string]any{"repo": c.DID, "collection": note, "rkey": path[len(note)+1:]}, nil)
		if err == nil {
			delete(c.certain, path)
		}
		return err
	case kind < 9: // several at once
		gone, made := old(), []string{fresh() + "a", fresh() + "b"}
		c.pending = append([]string{gone}, made...)
		writes := []any{map[string]any{"$type": "com.atproto.repo.applyWrites#delete", "collection": note, "rkey": gone[len(note)+1:]}}
		for _, path := range made {
			writes = append(writes, map[string]any{"$type": "com.atproto.repo.applyWrites#create", "collection": note, "rkey": path[len(note)+1:], "value": record})
		}
		var out struct{ Results []struct{ URI, CID string } }
		err := c.Procedure(ctx, "com.atproto.repo.applyWrites", map[string]any{"repo": c.DID, "writes": writes}, &out)
		if err == nil {
			delete(c.certain, gone)
			for _, r := range out.Results[1:] {
				c.certain[pathOf(r.URI)] = r.CID
			}
		}
		return err
	case kind < 11: // a blob, and later its record
		if c.staged == nil {
			raw := fmt.Appendf(nil, "blob %d of %s", c.n, c.DID)
			var up struct{ Blob json.RawMessage }
			err := c.Upload(ctx, "com.atproto.repo.uploadBlob", "text/plain", bytes.NewReader(raw), &up)
			if err == nil {
				c.staged, c.raw = up.Blob, raw
			}
			return err
		}
		return c.useBlob()
	case kind < 12:
		return c.renew()
	default:
		c.pending = []string{"*"}
		err := c.Procedure(ctx, "com.atproto.repo.createRecord", map[string]any{"repo": c.DID, "collection": note, "record": record}, &out)
		if err == nil {
			c.certain[pathOf(out.URI)] = out.CID
		}
		return err
	}
}

// useBlob makes the record that refers to the blob that waits.
func (c *client) useBlob() error {
	c.n++
	path := fmt.Sprintf("%s/blob%d", note, c.n)
	c.pending = []string{path}
	var out struct{ URI, CID string }
	err := c.Procedure(context.Background(), "com.atproto.repo.createRecord", map[string]any{
		"repo": c.DID, "collection": note, "rkey": path[len(note)+1:], "record": map[string]any{"file": c.staged},
	}, &out)
	if err == nil {
		c.certain[path] = out.CID
		c.pending = nil
		c.keepBlob()
	}
	return err
}

// keepBlob: a record refers to the blob now.
func (c *client) keepBlob() {
	var blob struct {
		Ref struct {
			Link string `json:"$link"`
		}
	}
	if err := json.Unmarshal(c.staged, &blob); err != nil {
		panic(err)
	}
	c.blobs[blob.Ref.Link] = c.raw
	c.staged = nil
}

// renew refreshes the session; now and then it ends the session and begins another one.
func (c *client) renew() error {
	ctx := context.Background()
	if c.rng.IntN(4) > 0 {
		next, err := c.refresh(c.Host)
		if err == nil {
			c.adopt(next)
		}
		return err
	}
	ended := c.RefreshJWT
	cl := &xrpc.Client{Host: c.Host, Authorize: xrpc.Bearer(ended)}
	if err := cl.Procedure(ctx, "com.atproto.server.deleteSession", nil, nil); err != nil {
		c.RefreshJWT = "" // ended or not
		return err
	}
	c.spent, c.RefreshJWT = append(c.spent, ended), ""
	return c.login(cl.Host)
}

// login begins a session.
func (c *client) login(host string) error {
	var next user
	err := (&xrpc.Client{Host: host}).Procedure(context.Background(), "com.atproto.server.createSession", map[string]string{
		"identifier": string(c.DID), "password": "password of " + c.Handle[:len(c.Handle)-len(".test")],
	}, &next)
	if err == nil {
		next.Client = &xrpc.Client{Host: host}
		c.adopt(next)
	}
	return err
}

func (c *client) adopt(next user) {
	c.AccessJWT, c.RefreshJWT = next.AccessJWT, next.RefreshJWT
	c.Client = &xrpc.Client{Host: c.Host, Authorize: xrpc.Bearer(c.AccessJWT)}
}

// session checks sessions after the start of the server: the one that there is goes on, those that
// were ended stay so.
func (c *client) session(t *testing.T, p *process) {
	t.Helper()
	if c.RefreshJWT != "" {
		next, err := c.refresh(p.url)
		if err != nil {
			t.Fatalf("%s: the session is lost: %v", c.Handle, err)
		}
		c.adopt(next)
	}
	for _, token := range c.spent {
		cl := &xrpc.Client{Host: p.url, Authorize: xrpc.Bearer(token)}
		fails(t, cl.Procedure(t.Context(), "com.atproto.server.refreshSession", nil, nil), http.StatusBadRequest, "ExpiredToken")
	}
	c.spent = nil
	if err := c.login(p.url); err != nil {
		t.Fatalf("%s cannot log in: %v", c.Handle, err)
	}
}

// mark writes a record that is certain.
func (c *client) mark(t *testing.T) {
	t.Helper()
	c.n++
	path := fmt.Sprintf("%s/mark%d", note, c.n)
	var out struct{ CID string }
	c.call(t, "com.atproto.repo.createRecord", map[string]any{"repo": c.DID, "collection": note, "rkey": path[len(note)+1:], "record": map[string]any{}}, &out)
	c.certain[path] = out.CID
}

// settle holds what the repository has become against what was answered, and takes over what
// the call that was not answered has done, if it is whole.
func (c *client) settle(t *testing.T, round int, now map[string]string) {
	t.Helper()
	changed := map[string]bool{}
	for path := range c.certain {
		changed[path] = now[path] != c.certain[path]
	}
	for path := range now {
		changed[path] = now[path] != c.certain[path]
	}
	maps.DeleteFunc(changed, func(_ string, is bool) bool { return !is })
	if n := len(changed); n != 0 {
		if n != len(c.pending) {
			t.Errorf("round %d: %s: changed are %v, not answered was %v", round, c.Handle, changed, c.pending)
		}
		for _, path := range c.pending {
			if _, was := c.certain[path]; path != "*" && !changed[path] || path == "*" && was {
				t.Errorf("round %d: %s: changed are %v, not answered was %v", round, c.Handle, changed, c.pending)
			}
		}
		if c.staged != nil && len(c.pending) == 1 && bytes.HasPrefix([]byte(c.pending[0]), []byte(note+"/blob")) {
			c.keepBlob()
		}
	}
	c.certain, c.pending = maps.Clone(now), nil
	// A blob that was uploaded before the end is still there for its record.
	if c.staged != nil {
		if err := c.useBlob(); err != nil {
			t.Errorf("round %d: %s: a blob is lost: %v", round, c.Handle, err)
		}
	}
}

// checkBlobs reads all blobs.
func (c *client) checkBlobs(t *testing.T) {
	t.Helper()
	for id, want := range c.blobs {
		resp, err := c.Get(t.Context(), "com.atproto.sync.getBlob", url.Values{"did": {string(c.DID)}, "cid": {id}})
		if err != nil {
			// Its record may be deleted.
			if !errors.Is(err, &xrpc.Error{Status: http.StatusBadRequest}) {
				t.Error(err)
			}
			continue
		}
		got, err := io.ReadAll(resp.Body)
		resp.Body.Close()
		if err != nil || !bytes.Equal(got, want) {
			t.Errorf("blob %s is %q, %v", id, got, err)
		}
	}
}

// crowd is accounts that are made under load.
type crowd struct {
	made   []*user
	asked  map[string]string // for an account whose making was not answered
	newest []*user           // since the last start
}

func (c *crowd) work(t *testing.T, p *process, round int) {
	for i := 0; ; i++ {
		name := fmt.Sprintf("crowd%dx%d", round, i)
		in := map[string]string{"handle": name + ".test", "email": name + "@example.com", "password": "password of " + name}
		u := &user{}
		if err := p.anonymous().Procedure(context.Background(), "com.atproto.server.createAccount", in, u); err != nil {
			if errors.As(err, new(*xrpc.Error)) {
				t.Errorf("%s: %v", name, err)
			}
			c.asked = in
			return
		}
		c.newest = append(c.newest, u)
	}
}

// check: who was told of an account has it; who was not can log in, or the account was not made.
func (c *crowd) check(t *testing.T, p *process) {
	t.Helper()
	for _, u := range c.newest {
		if _, err := p.login(t, u.Handle, "password of "+u.Handle[:len(u.Handle)-len(".test")]); err != nil {
			t.Errorf("%s cannot log in: %v", u.Handle, err)
		}
	}
	c.made, c.newest = append(c.made, c.newest...), nil
	u, err := p.login(t, c.asked["handle"], c.asked["password"])
	if err == nil {
		c.made = append(c.made, u)
		return
	}
	fails(t, err, http.StatusUnauthorized, "AuthenticationRequired")
	err = p.anonymous().Query(t.Context(), "com.atproto.identity.resolveHandle", url.Values{"handle": {c.asked["handle"]}}, nil)
	if diff := cmp.Diff(true, errors.Is(err, &xrpc.Error{Status: http.StatusBadRequest})); diff != "" {
		t.Errorf("half of an account: %v", err)
	}
}

//go:build unix

package main

import (
	"context"
	"crypto/sha256"
	"errors"
	"fmt"
	"io"
	"net/http"
	"net/url"
	"slices"
	"strings"
	"time"

	"github.com/pdskit/pdskit/commit"
	"github.com/pdskit/pdskit/crypto"
	"github.com/pdskit/pdskit/identity"
	"github.com/pdskit/pdskit/lexicon/data"
	"github.com/pdskit/pdskit/lexicon/syntax"
	"github.com/pdskit/pdskit/xrpc"
	"github.com/pdskit/pdskit/xrpc/atproto/api"
	"github.com/pdskit/pdskit/xrpc/stream"
)

// textOf is the text of a record.
func textOf(record []byte) (string, error) {
	var v struct {
		Text string `cbor:"text" json:"text"`
	}
	err := data.Unmarshal(record, &v)
	return v.Text, err
}

// reader follows the stream while nodes come and go.
type reader struct {
	c      *cluster
	node   int // where it begins
	frames []seen
	moves  int // how often it went on at another node
	err    error
}

// seen is a frame.
type seen struct {
	seq int64
	sum [sha256.Size]byte
}

func seenOf(f stream.Frame) seen {
	return seen{f.Seq, sha256.Sum256(append([]byte(f.Kind), f.Payload...))}
}

func newReader(c *cluster, node int) *reader { return &reader{c: c, node: node} }

func (m *member) stream() string { return m.url + "/xrpc/com.atproto.sync.subscribeRepos" }

// follow reads until the context ends, at another node each time that a connection breaks.
func (r *reader) follow(ctx context.Context) {
	cursor := int64(0)
	c := &stream.Consumer{URL: r.c.nodes[r.node].stream(), Cursor: &cursor, MaxDelay: 500 * time.Millisecond, Idle: 4 * time.Second}
	c.Retry = func(error) error {
		r.moves++
		c.URL = r.c.pick(ctx).stream()
		return nil
	}
	for f, err := range c.Frames(ctx) {
		if err != nil {
			if ctx.Err() == nil {
				r.err = err
			}
			return
		}
		r.frames = append(r.frames, seenOf(f))
	}
}

// replay reads all events from one node.
func (c *cluster) replay(ctx context.Context, m *member, newest int64, fn func(stream.Frame) error) (list []seen, err error) {
	ctx, cancel := context.WithTimeout(ctx, 2*time.Minute)
	defer cancel()
	cursor := int64(0)
	consumer := &stream.Consumer{URL: m.stream(), Cursor: &cursor}
	for f, err := range consumer.Frames(ctx) {
		if err != nil {
			return list, fmt.Errorf("%s: %w", m.id, err)
		}
		if n := len(list); n > 0 && list[n-1].seq >= f.Seq {
			return list, fmt.Errorf("%s: event %d after %d", m.id, f.Seq, list[n-1].seq)
		}
		list = append(list, seenOf(f))
		if fn != nil {
			if err := fn(f); err != nil {
				return list, fmt.Errorf("%s: event %d: %w", m.id, f.Seq, err)
			}
		}
		if f.Seq >= newest {
			return list, nil
		}
	}
	return list, errors.New("the stream has ended")
}

// judge checks the events, one after the other.
type judge struct {
	verifier commit.Verifier
	states   map[syntax.DID]commit.State
	heads    map[syntax.DID]string // CIDs of the last commits
	commits  map[string]syntax.DID // all, by their CIDs
	keys     map[syntax.DID]*crypto.PublicKey
	created  map[syntax.DID]bool // with an event that says that it is active
}

func (l *load) newJudge() *judge {
	j := &judge{
		states: make(map[syntax.DID]commit.State), heads: make(map[syntax.DID]string), commits: make(map[string]syntax.DID),
		keys: make(map[syntax.DID]*crypto.PublicKey), created: make(map[syntax.DID]bool),
	}
	resolver := &identity.Resolver{PLC: l.c.plcClient(), Development: true}
	j.verifier.Key = func(ctx context.Context, did syntax.DID, _ bool) (*crypto.PublicKey, error) {
		if key := j.keys[did]; key != nil {
			return key, nil
		}
		doc, err := resolver.ResolveDID(ctx, did)
		if err != nil {
			return nil, err
		}
		key, err := doc.SigningKey()
		j.keys[did] = key
		return key, err
	}
	return j
}

func (j *judge) event(ctx context.Context, f stream.Frame) error {
	m, err := commit.Decode(f.Kind, f.Payload)
	if err != nil {
		return err
	}
	did := m.About()
	switch m := m.(type) {
	case *commit.Event:
		id := m.Commit.String()
		if other, found := j.commits[id]; found {
			return fmt.Errorf("commit %s, of %s, is in the log twice: %s", id, did, other)
		}
		before := j.states[did]
		if before != (commit.State{}) && (m.Since != before.Rev || m.PrevData != before.Data) {
			return fmt.Errorf("a commit of %s follows %s, not %s", did, m.Since, before.Rev)
		}
		next, _, err := j.verifier.Commit(ctx, before, m)
		if err != nil {
			return err
		}
		j.states[did], j.heads[did], j.commits[id] = next, id, did
	case *commit.Sync:
		next, err := j.verifier.Sync(ctx, j.states[did], m)
		if err != nil && !errors.Is(err, commit.ErrStale) {
			return err
		}
		if before := j.states[did]; before != (commit.State{}) && err == nil && next != before {
			return fmt.Errorf("a #sync of %s is of another state than the commit before it", did)
		}
	case *commit.Account:
		j.created[did] = m.Active
	}
	return nil
}

// plcClient asks the directory.
func (c *cluster) plcClient() *identity.PLCClient {
	for _, v := range c.env {
		if address, ok := strings.CutPrefix(v, "PDS_DID_PLC_URL="); ok {
			return &identity.PLCClient{URL: address}
		}
	}
	return nil
}

// examine checks everything, when all is quiet. It returns rows of the table.
func (l *load) examine(ctx context.Context, live []*reader) (rows [][2]string, err error) {
	if len(l.wrong) > 0 {
		return nil, fmt.Errorf("%d faults: %s", len(l.wrong), strings.Join(l.wrong[:min(10, len(l.wrong))], "\n"))
	}
	_, newest, err := l.c.db.Store().Events.Bounds(ctx)
	if err != nil {
		return nil, err
	}
	j := l.newJudge()
	one, err := l.c.replay(ctx, l.c.nodes[0], newest, func(f stream.Frame) error { return j.event(ctx, f) })
	if err != nil {
		return nil, err
	}
	two, err := l.c.replay(ctx, l.c.nodes[len(l.c.nodes)-1], newest, nil)
	if err != nil {
		return nil, err
	}
	if !slices.Equal(one, two) {
		return nil, fmt.Errorf("two nodes tell of %d and %d events, which are not the same", len(one), len(two))
	}
	moves := 0
	for i, r := range live {
		moves += r.moves
		if r.err != nil {
			return nil, fmt.Errorf("follower %d: %w", i, r.err)
		}
		if len(r.frames) > len(one) || !slices.Equal(r.frames, one[:len(r.frames)]) {
			return nil, fmt.Errorf("follower %d has seen other events, or not all of them, while nodes came and went", i)
		}
	}
	if err := l.acknowledged(j); err != nil {
		return nil, err
	}
	checked, err := l.states(ctx, j)
	if err != nil {
		return nil, err
	}
	if err := l.guesses(ctx); err != nil {
		return nil, err
	}
	return [][2]string{
		{"events, the same under the same numbers from two nodes", fmt.Sprint(len(one))},
		{"those that two followers saw at the time, in order, none missing", fmt.Sprintf("%d and %d; they went on at another node %d times", len(live[0].frames), len(live[1].frames), moves)},
		{"commits that follow from the one before, signed, inverted", fmt.Sprint(len(j.commits))},
		{"acknowledged writes that are in the log, once", fmt.Sprint(len(l.commits))},
		{"accounts with one head, on all nodes and in the log", fmt.Sprint(len(j.heads))},
		{"records and blobs that are as acknowledged", fmt.Sprintf("%d and %d", checked, len(l.blobs))},
		{"31st guess of a password, over all nodes", "refused"},
	}, nil
}

// acknowledged checks that nothing that was acknowledged is missing.
func (l *load) acknowledged(j *judge) error {
	for id, did := range l.commits {
		if j.commits[id] != did {
			return fmt.Errorf("commit %s of %s was acknowledged, and is not in the log", id, did)
		}
	}
	for _, p := range l.people {
		if !j.created[p.did] || j.heads[p.did] == "" {
			return fmt.Errorf("account %s was acknowledged, and is not in the log", p.did)
		}
	}
	return nil
}

// states compares what all nodes have of all accounts with the log, and with what clients know.
func (l *load) states(ctx context.Context, j *judge) (records int, err error) {
	var clients []*xrpc.Client
	for _, m := range l.c.nodes {
		clients = append(clients, &xrpc.Client{Host: m.url, HTTP: l.client})
	}
	for did, want := range j.heads {
		for i, c := range clients {
			out, err := api.SyncGetLatestCommit(ctx, c, api.SyncGetLatestCommitParams{DID: did})
			if err != nil || string(out.CID) != want || out.Rev != j.states[did].Rev {
				return 0, fmt.Errorf("%s has the head %s on %s, %s in the log (%v)", did, out.CID, l.c.nodes[i].id, want, err)
			}
		}
	}
	for i, w := range l.writers {
		head, texts, err := readRepo(ctx, clients[i%len(clients)], w.did, &commit.RepoOptions{Key: j.keys[w.did]})
		if err != nil || head.Rev != j.states[w.did].Rev {
			return 0, fmt.Errorf("repository of %s: %s, %w", w.did, head.Rev, err)
		}
		for key, may := range w.values {
			if !slices.Contains(may, texts[key]) {
				return 0, fmt.Errorf("%s: %s is %q, which should be one of %q", w.did, key, texts[key], may)
			}
			records++
		}
		for key := range texts {
			if w.values[key] == nil {
				return 0, fmt.Errorf("%s: %s was never written", w.did, key)
			}
		}
	}
	for i, b := range l.blobs {
		resp, err := clients[i%len(clients)].Get(ctx, "com.atproto.sync.getBlob", url.Values{"did": {string(b.did)}, "cid": {b.cid}})
		if err != nil {
			return 0, fmt.Errorf("blob %s of %s: %w", b.cid, b.did, err)
		}
		sum := sha256.New()
		_, err = io.Copy(sum, resp.Body)
		resp.Body.Close()
		if err != nil || [sha256.Size]byte(sum.Sum(nil)) != b.sum {
			return 0, fmt.Errorf("blob %s of %s is another one (%v)", b.cid, b.did, err)
		}
	}
	return records, nil
}

// guesses guesses a password on all nodes in turn, from one address: the limit is that of all.
func (l *load) guesses(ctx context.Context) error {
	for i := range 33 {
		c := &xrpc.Client{Host: l.c.nodes[i%len(l.c.nodes)].url, HTTP: l.client, Retries: -1, Authorize: func(r *http.Request) error {
			r.Header.Set("X-Forwarded-For", "203.0.113.77")
			return nil
		}}
		err := c.Procedure(ctx, api.ServerCreateSessionNSID, map[string]string{"identifier": l.people[0].handle, "password": fmt.Sprint("guess ", i)}, nil)
		want := 401
		if i >= 30 {
			want = 429
		}
		var xerr *xrpc.Error
		if !errors.As(err, &xerr) || xerr.Status != want {
			return fmt.Errorf("guess %d of a password: %v, want status %d", i+1, err, want)
		}
	}
	return nil
}

// rows are what clients have done.
func (l *load) rows() (rows [][2]string) {
	l.mu.Lock()
	defer l.mu.Unlock()
	names := make([]string, 0, len(l.counts))
	for name := range l.counts {
		names = append(names, name)
	}
	slices.Sort(names)
	for _, name := range names {
		n := l.counts[name]
		rows = append(rows, [2]string{name, fmt.Sprintf("%d acknowledged, %d with an unknown end", n[done], n[unknown])})
	}
	return append(rows, [2]string{"longest time without an acknowledged write", fmt.Sprintf("%.1f s", l.gap.Seconds())})
}

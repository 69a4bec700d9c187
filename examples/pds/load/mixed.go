//go:build unix

package main

import (
	"bytes"
	"context"
	"crypto/rand"
	"crypto/sha256"
	"errors"
	"fmt"
	"io"
	mathrand "math/rand/v2"
	"net/http"
	"net/url"
	"sync"
	"time"

	"github.com/pdskit/pdskit/commit"
	"github.com/pdskit/pdskit/internal/sleep"
	"github.com/pdskit/pdskit/lexicon/syntax"
	"github.com/pdskit/pdskit/xrpc"
	"github.com/pdskit/pdskit/xrpc/atproto/api"
)

// mixedCollection is where the writers write.
const mixedCollection = "com.example.note"

// outcome is what a client knows of a call.
type outcome int

const (
	done    outcome = iota // it was acknowledged
	refused                // it has not happened
	unknown                // it may have happened, or may happen yet
)

// load is what clients have done, and what they know of it.
type load struct {
	c       *cluster
	client  *http.Client
	writers []*writer

	mu      sync.Mutex
	counts  map[string]*[3]int // of calls, by what they are
	acked   time.Time          // the last write that was acknowledged
	gap     time.Duration      // the longest time between two of those
	commits map[string]syntax.DID
	people  []*person // whose accounts were acknowledged
	wrong   []string
	blobs   []blob
}

// person is an account that a client knows.
type person struct {
	did              syntax.DID
	handle, password string
	token            string
}

// blob is one that was uploaded, and that an acknowledged record refers to.
type blob struct {
	did syntax.DID
	cid string
	sum [sha256.Size]byte
}

// writer writes to one account, one call after the other.
type writer struct {
	l *load
	*person
	n int
	// values are the texts that a record may have; empty: there is none.
	values map[string][]string
	stable []string // keys of which exactly one thing is known, and that exist
}

func newLoad(c *cluster) *load {
	return &load{
		c: c, client: &http.Client{Timeout: 20 * time.Second, Transport: &http.Transport{MaxIdleConnsPerHost: 64}},
		counts: make(map[string]*[3]int), commits: make(map[string]syntax.DID),
	}
}

// begin makes the accounts.
func (l *load) begin(ctx context.Context, n int) error {
	for i := range n {
		p, o, err := l.register(ctx, fmt.Sprintf("writer%d", i))
		if o != done {
			return fmt.Errorf("an account at the start: %w", err)
		}
		l.writers = append(l.writers, &writer{l: l, person: p, values: make(map[string][]string)})
	}
	return nil
}

// call sends a request to some node, from an address of its own. What it comes to is counted.
func (l *load) call(ctx context.Context, what string, as *person, fn func(ctx context.Context, c *xrpc.Client) error) (outcome, error) {
	m := l.c.pick(ctx)
	from := fmt.Sprintf("198.18.%d.%d", mathrand.IntN(256), mathrand.IntN(256))
	c := &xrpc.Client{Host: m.url, HTTP: l.client, Retries: -1, Authorize: func(r *http.Request) error {
		r.Header.Set("X-Forwarded-For", from)
		if as != nil {
			r.Header.Set("Authorization", "Bearer "+as.token)
		}
		return nil
	}}
	m.inFlight.Add(1)
	err := fn(context.WithoutCancel(ctx), c)
	m.inFlight.Add(-1)
	o := unknown
	var xerr *xrpc.Error
	switch {
	case err == nil:
		o = done
	case errors.As(err, &xerr) && xerr.Status >= 400 && xerr.Status < 500:
		o = refused
	}
	l.mu.Lock()
	defer l.mu.Unlock()
	if l.counts[what] == nil {
		l.counts[what] = new([3]int)
	}
	l.counts[what][o]++
	if o == refused {
		l.wrong = append(l.wrong, fmt.Sprintf("%s is refused: %v", what, err))
	}
	return o, err
}

func (l *load) register(ctx context.Context, name string) (*person, outcome, error) {
	p := &person{handle: name + ".pds.example.com", password: "password of " + name}
	var out api.ServerCreateAccountOutput
	o, err := l.call(ctx, "createAccount", nil, func(ctx context.Context, c *xrpc.Client) error {
		return c.Procedure(ctx, api.ServerCreateAccountNSID, map[string]string{"handle": p.handle, "email": name + "@example.com", "password": p.password}, &out)
	})
	if o == done {
		p.did, p.token = out.DID, out.AccessJWT
		l.mu.Lock()
		l.people = append(l.people, p)
		l.mu.Unlock()
	}
	return p, o, err
}

// newcomers makes accounts and logs in, now and then.
func (l *load) newcomers(ctx context.Context) {
	for i := 0; ctx.Err() == nil; i++ {
		if i%4 == 0 {
			_, _, _ = l.register(ctx, fmt.Sprintf("newcomer%d", i))
		} else {
			l.login(ctx)
		}
		sleep.For(ctx, 300*time.Millisecond)
	}
}

// login logs in to an account that is there.
func (l *load) login(ctx context.Context) {
	l.mu.Lock()
	p := l.people[mathrand.IntN(len(l.people))]
	l.mu.Unlock()
	var out api.ServerCreateSessionOutput
	o, _ := l.call(ctx, "createSession", nil, func(ctx context.Context, c *xrpc.Client) error {
		return c.Procedure(ctx, api.ServerCreateSessionNSID, map[string]string{"identifier": p.handle, "password": p.password}, &out)
	})
	if o == done && out.DID != p.did {
		l.fault("%s logs in and is %s", p.did, out.DID)
	}
}

// fault notes that something is wrong.
func (l *load) fault(format string, args ...any) {
	l.mu.Lock()
	defer l.mu.Unlock()
	l.wrong = append(l.wrong, fmt.Sprintf(format, args...))
}

// wrote notes the commit of a write that was acknowledged.
func (l *load) wrote(did syntax.DID, c *api.RepoCommitMeta) {
	if c == nil {
		l.fault("%s: a write without a commit", did)
		return
	}
	l.mu.Lock()
	defer l.mu.Unlock()
	if other, found := l.commits[string(c.CID)]; found {
		l.wrong = append(l.wrong, fmt.Sprintf("commit %s was acknowledged twice, to %s and %s", c.CID, other, did))
	}
	l.commits[string(c.CID)] = did
	now := time.Now()
	if !l.acked.IsZero() {
		l.gap = max(l.gap, now.Sub(l.acked))
	}
	l.acked = now
}

// run writes until the context ends.
func (w *writer) run(ctx context.Context) {
	for ctx.Err() == nil {
		switch x := mathrand.IntN(100); {
		case x < 40:
			w.create(ctx)
		case x < 55:
			w.several(ctx)
		case x < 70:
			w.change(ctx, mathrand.IntN(3) == 0)
		case x < 80:
			w.picture(ctx)
		case x < 95:
			w.look(ctx)
		default:
			w.export(ctx)
		}
		sleep.For(ctx, 150*time.Millisecond)
	}
}

func (w *writer) next() (key, text string) {
	w.n++
	return fmt.Sprintf("note%d", w.n), rand.Text()
}

func note(text string) map[string]any {
	return map[string]any{"$type": mixedCollection, "text": text}
}

// learn notes what a record may be now.
func (w *writer) learn(o outcome, key, text string) {
	before := w.values[key]
	if before == nil {
		before = []string{""}
	}
	switch o {
	case done:
		w.values[key] = []string{text}
		if text != "" {
			w.stable = append(w.stable, key)
		}
	case unknown:
		w.values[key] = append(before, text) // the key is not used any more
	case refused:
		w.values[key] = before
	}
}

// take takes a key that exists, and whose value is known.
func (w *writer) take() string {
	if len(w.stable) == 0 {
		return ""
	}
	i := mathrand.IntN(len(w.stable))
	key := w.stable[i]
	w.stable = append(w.stable[:i], w.stable[i+1:]...)
	return key
}

// written is the output of all writes.
type written struct {
	Commit *api.RepoCommitMeta `json:"commit"`
}

// write calls a method that writes.
func (w *writer) write(ctx context.Context, nsid string, in map[string]any) outcome {
	in["repo"] = w.did
	var out written
	o, _ := w.l.call(ctx, nsid[len("com.atproto.repo."):], w.person, func(ctx context.Context, c *xrpc.Client) error { return c.Procedure(ctx, nsid, in, &out) })
	if o == done {
		w.l.wrote(w.did, out.Commit)
	}
	return o
}

func (w *writer) create(ctx context.Context) {
	key, text := w.next()
	w.learn(w.write(ctx, api.RepoCreateRecordNSID, map[string]any{"collection": mixedCollection, "rkey": key, "record": note(text)}), key, text)
}

// several creates two records, changes one and deletes one at once.
func (w *writer) several(ctx context.Context) {
	type change struct{ key, text string }
	var all []change
	var writes []map[string]any
	add := func(kind, key, text string) {
		in := map[string]any{"$type": "com.atproto.repo.applyWrites#" + kind, "collection": mixedCollection, "rkey": key}
		if text != "" {
			in["value"] = note(text)
		}
		all, writes = append(all, change{key, text}), append(writes, in)
	}
	for range 2 {
		key, text := w.next()
		add("create", key, text)
	}
	if key := w.take(); key != "" {
		add("update", key, rand.Text())
	}
	if key := w.take(); key != "" {
		add("delete", key, "")
	}
	o := w.write(ctx, api.RepoApplyWritesNSID, map[string]any{"writes": writes})
	for _, x := range all {
		w.learn(o, x.key, x.text)
	}
}

func (w *writer) change(ctx context.Context, remove bool) {
	key, text := w.take(), rand.Text()
	if key == "" {
		return
	}
	if remove {
		w.learn(w.write(ctx, api.RepoDeleteRecordNSID, map[string]any{"collection": mixedCollection, "rkey": key}), key, "")
		return
	}
	w.learn(w.write(ctx, api.RepoPutRecordNSID, map[string]any{"collection": mixedCollection, "rkey": key, "record": note(text)}), key, text)
}

// picture uploads a blob, and writes a record that refers to it.
func (w *writer) picture(ctx context.Context) {
	content := make([]byte, 20_000)
	rand.Read(content)
	var up struct {
		Blob map[string]any `json:"blob"`
	}
	o, _ := w.l.call(ctx, "uploadBlob", w.person, func(ctx context.Context, c *xrpc.Client) error {
		return c.Upload(ctx, api.RepoUploadBlobNSID, "application/octet-stream", bytes.NewReader(content), &up)
	})
	if o != done {
		return
	}
	key, text := w.next()
	record := note(text)
	record["file"] = up.Blob
	o = w.write(ctx, api.RepoCreateRecordNSID, map[string]any{"collection": mixedCollection, "rkey": key, "record": record})
	w.learn(o, key, text)
	if o == done {
		w.stable = w.stable[:len(w.stable)-1] // it stays
		ref, _ := up.Blob["ref"].(map[string]any)
		id, _ := ref["$link"].(string)
		w.l.mu.Lock()
		w.l.blobs = append(w.l.blobs, blob{w.did, id, sha256.Sum256(content)})
		w.l.mu.Unlock()
	}
}

// look reads from some node what another one may just have written.
func (w *writer) look(ctx context.Context) {
	if len(w.stable) == 0 {
		return
	}
	key := w.stable[len(w.stable)-1]
	var out struct {
		Value struct {
			Text string `json:"text"`
		} `json:"value"`
	}
	o, _ := w.l.call(ctx, "getRecord", w.person, func(ctx context.Context, c *xrpc.Client) error {
		return c.Query(ctx, api.RepoGetRecordNSID, url.Values{"repo": {string(w.did)}, "collection": {mixedCollection}, "rkey": {key}}, &out)
	})
	if want := w.values[key][0]; o == done && out.Value.Text != want {
		w.l.fault("%s: %s is %q on one node, after %q was acknowledged by another", w.did, key, out.Value.Text, want)
	}
}

// export downloads the repository and verifies it.
func (w *writer) export(ctx context.Context) {
	_, _ = w.l.call(ctx, "getRepo", w.person, func(ctx context.Context, c *xrpc.Client) error {
		_, _, err := readRepo(ctx, c, w.did, nil)
		return err
	})
}

// readRepo downloads a repository, verifies it, and returns its texts by their keys.
func readRepo(ctx context.Context, c *xrpc.Client, did syntax.DID, opt *commit.RepoOptions) (head commit.Commit, texts map[string]string, err error) {
	resp, err := c.Get(ctx, "com.atproto.sync.getRepo", url.Values{"did": {string(did)}})
	if err != nil {
		return head, nil, err
	}
	defer resp.Body.Close()
	if opt == nil {
		opt = &commit.RepoOptions{}
	}
	opt.DID = did
	r, err := commit.ReadRepo(resp.Body, *opt)
	if err != nil {
		return head, nil, err
	}
	defer r.Close()
	texts = make(map[string]string)
	for rec, err := range r.Records() {
		if err != nil {
			return head, nil, err
		}
		text, err := textOf(rec.Data)
		if err != nil {
			return head, nil, err
		}
		texts[rec.Path[len(mixedCollection)+1:]] = text
	}
	_, err = io.Copy(io.Discard, resp.Body)
	return r.Commit(), texts, err
}

// settle lets all calls end that are under way.
func (l *load) settle(ctx context.Context) {
	for begin := time.Now(); time.Since(begin) < 2*time.Second; {
		sleep.For(ctx, 100*time.Millisecond)
	}
}

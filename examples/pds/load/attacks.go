package main

import (
	"bufio"
	"bytes"
	"context"
	"fmt"
	"io"
	"net/http"
	"net/url"
	"strings"
	"sync"
	"time"

	"github.com/pdskit/pdskit/car"
	"github.com/pdskit/pdskit/commit"
	"github.com/pdskit/pdskit/internal/dag"
	"github.com/pdskit/pdskit/internal/seed"
	"github.com/pdskit/pdskit/lexicon/data"
	"github.com/pdskit/pdskit/lexicon/syntax"
	"github.com/pdskit/pdskit/mst"
	"github.com/pdskit/pdskit/xrpc/atproto/api"
	"github.com/pdskit/pdskit/xrpc/serviceauth"
)

// attack is something that strangers, or users, do to a server.
type attack struct {
	name, what string
	// run goes on until the context ends. What fails is the attacker's problem.
	run func(ctx context.Context, t *target)
}

// attacks are all of them: first those that hold what is scarce, then those that are small on the
// wire and large behind it.
var attacks = []attack{
	{"downloads", "100 getRepo that nobody reads, from 10 addresses", func(ctx context.Context, t *target) { t.unread(ctx, 100, 10, mallory) }},
	{"downloads-h2", "the same over HTTP/2", func(ctx context.Context, t *target) { t.unread2(ctx, 100, 10, t.getRepo(mallory)) }},
	{"pages-h2", "400 listRecords that nobody reads, over HTTP/2, from 10 addresses", func(ctx context.Context, t *target) { t.unread2(ctx, 400, 10, t.list(mallory)) }},
	{"subscribers", "400 subscribers with cursor 0 that read nothing, from 8 addresses", func(ctx context.Context, t *target) { t.subscribe(ctx, 400, 8, "?cursor=0") }},
	{"slots", "5,000 subscriptions from one address", func(ctx context.Context, t *target) { t.subscribe(ctx, 5000, 1, "") }},
	{"logins", "500 logins at a time that hang up", func(ctx context.Context, t *target) { t.logins(ctx) }},
	{"trees", "200 readers of trees above the cache, from 10 addresses", func(ctx context.Context, t *target) { t.trees(ctx) }},
	{"bodies", "1,000 bodies that never come, to all kinds of paths", func(ctx context.Context, t *target) { t.bodies(ctx) }},
	{"connections", "5,000 connections that say nothing", func(ctx context.Context, t *target) { t.idle(ctx) }},
	{"import", "imports of 1 MB that expand to 300 MB", func(ctx context.Context, t *target) { t.expand(ctx) }},
	{"blocks", "imports of two million tiny blocks", func(ctx context.Context, t *target) { t.tinyBlocks(ctx) }},
	{"uploads", "64 imports that send 1 byte in 15 s, from 8 addresses", func(ctx context.Context, t *target) { t.trickle(ctx) }},
	{"pages", "listRecords?limit=100 of large records, 64 at a time, from 8 addresses", func(ctx context.Context, t *target) { t.call(ctx, 64, 8, t.list(mallory)) }},
	{"getblocks", "getBlocks with one CID 900 times, 32 at a time, from 8 addresses", func(ctx context.Context, t *target) { t.getBlocks(ctx) }},
	{"tokens", "service tokens with IDs of 40 KB", func(ctx context.Context, t *target) { t.tokens(ctx) }},
}

// many runs fn for clients 0 to n-1, at once, each again and again until the context ends, with
// pauses: who is refused could as well use up the processors, but that is not what is attacked
// here.
func many(ctx context.Context, n int, pause time.Duration, fn func(i int)) {
	var done sync.WaitGroup
	for i := range n {
		done.Go(func() { every(ctx, pause, func() { fn(i) }) })
	}
	done.Wait()
}

// stall sends a request over a bare connection and holds it, reading nothing, until the server
// closes it.
func (t *target) stall(ctx context.Context, from, text string) {
	c, err := t.connect(ctx, from)
	if err != nil {
		return
	}
	defer c.Close()
	if _, err := io.WriteString(c, text); err != nil {
		return
	}
	// The header only.
	c.SetReadDeadline(time.Now().Add(20 * time.Second))
	r := bufio.NewReaderSize(c, 512)
	resp, err := http.ReadResponse(r, nil)
	if err != nil || resp.StatusCode >= 400 {
		return
	}
	<-ctx.Done()
}

func (t *target) unread(ctx context.Context, n, addresses, account int) {
	text := fmt.Sprintf("GET %s HTTP/1.1\r\nHost: x\r\n\r\n", t.getRepo(account))
	many(ctx, n, time.Second, func(i int) { t.stall(ctx, attacker(i%addresses), text) })
}

func (t *target) unread2(ctx context.Context, n, addresses int, path string) {
	clients := make([]*http.Client, addresses)
	for i := range clients {
		clients[i] = clientFrom(attacker(i), true)
	}
	many(ctx, n, time.Second, func(i int) {
		r, err := http.NewRequestWithContext(ctx, "GET", t.url+path, nil)
		if err != nil {
			return
		}
		resp, err := clients[i%addresses].Do(r)
		if err != nil {
			return
		}
		defer resp.Body.Close()
		if resp.StatusCode == http.StatusOK {
			<-ctx.Done()
		}
	})
}

func (t *target) subscribe(ctx context.Context, n, addresses int, query string) {
	text := "GET /xrpc/com.atproto.sync.subscribeRepos" + query + " HTTP/1.1\r\nHost: x\r\nConnection: Upgrade\r\nUpgrade: websocket\r\nSec-WebSocket-Version: 13\r\nSec-WebSocket-Key: AAAAAAAAAAAAAAAAAAAAAA==\r\n\r\n"
	many(ctx, n, 5*time.Second, func(i int) { t.stall(ctx, attacker(i%addresses), text) })
}

func (t *target) logins(ctx context.Context) {
	body := `{"identifier":"user1.test","password":"not this one"}`
	text := request("POST", "/xrpc/com.atproto.server.createSession", "", body)
	many(ctx, 500, 2*time.Second, func(int) {
		c, err := t.connect(ctx, attacker(0))
		if err != nil {
			return
		}
		c.Write(text)
		time.Sleep(20 * time.Millisecond)
		c.Close()
	})
}

func (t *target) trees(ctx context.Context) {
	many(ctx, 200, time.Second, func(i int) {
		account := cold + i%coldAccounts
		path := "/xrpc/com.atproto.sync.getRecord?did=" + url.QueryEscape(string(t.dids[account])) + "&collection=" + seed.Collection + "&rkey=3jzfcijpj2z2a"
		if i%2 == 0 {
			path = t.getRepo(account)
		}
		t.get(ctx, attacker(i%10), path)
	})
}

func (t *target) bodies(ctx context.Context) {
	paths := []string{"/", "/.well-known/did.json", "/xrpc/_health", "/nowhere", "/xrpc/com.atproto.server.createSession", "/xrpc/com.atproto.repo.uploadBlob"}
	many(ctx, 1000, 5*time.Second, func(i int) {
		c, err := t.connect(ctx, attacker(i%10))
		if err != nil {
			return
		}
		defer c.Close()
		defer context.AfterFunc(ctx, func() { c.Close() })()
		fmt.Fprintf(c, "POST %s HTTP/1.1\r\nHost: x\r\nContent-Type: application/json\r\nAuthorization: Bearer %s\r\nContent-Length: 100000\r\n\r\n{", paths[i%len(paths)], t.sessions[mallory].AccessJWT)
		io.Copy(io.Discard, c)
	})
}

func (t *target) idle(ctx context.Context) {
	many(ctx, 5000, 5*time.Second, func(i int) {
		c, err := t.connect(ctx, attacker(i%10))
		if err != nil {
			return
		}
		defer c.Close()
		defer context.AfterFunc(ctx, func() { c.Close() })()
		if i%2 == 0 { // after a request
			io.WriteString(c, "GET /robots.txt HTTP/1.1\r\nHost: x\r\n\r\n")
		}
		io.Copy(io.Discard, c)
	})
}

// get reads an answer to its end.
func (t *target) get(ctx context.Context, from, path string) {
	r, err := http.NewRequestWithContext(ctx, "GET", t.url+path, nil)
	if err != nil {
		return
	}
	resp, err := clientFrom(from, false).Do(r)
	if err != nil {
		return
	}
	defer resp.Body.Close()
	io.Copy(io.Discard, resp.Body)
}

func (t *target) call(ctx context.Context, n, addresses int, path string) {
	many(ctx, n, time.Second, func(i int) { t.get(ctx, attacker(i%addresses), path) })
}

func (t *target) list(account int) string {
	return "/xrpc/com.atproto.repo.listRecords?limit=100&collection=" + seed.Collection + "&repo=" + url.QueryEscape(string(t.dids[account]))
}

func (t *target) getBlocks(ctx context.Context) {
	resp, err := http.Get(t.url + t.list(mallory) + "&reverse=true")
	if err != nil {
		return
	}
	defer resp.Body.Close()
	var page api.RepoListRecordsOutput
	text, err := io.ReadAll(resp.Body)
	if err != nil || data.UnmarshalJSON(text, &page) != nil || len(page.Records) == 0 {
		return
	}
	path := "/xrpc/com.atproto.sync.getBlocks?did=" + url.QueryEscape(string(t.dids[mallory])) + strings.Repeat("&cids="+string(page.Records[0].CID), 900)
	t.call(ctx, 32, 8, path)
}

// upload imports a repository again and again.
func (t *target) upload(ctx context.Context, clients int, body func() io.Reader) {
	many(ctx, clients, time.Second, func(i int) {
		r, err := http.NewRequestWithContext(ctx, "POST", t.url+"/xrpc/com.atproto.repo.importRepo", body())
		if err != nil {
			return
		}
		r.Header.Set("Content-Type", "application/vnd.ipld.car")
		r.Header.Set("Authorization", "Bearer "+t.sessions[mallory].AccessJWT)
		resp, err := clientFrom(attacker(i), false).Do(r)
		if err != nil {
			return
		}
		io.Copy(io.Discard, resp.Body)
		resp.Body.Close()
	})
}

// trickle begins imports and goes on a byte at a time.
func (t *target) trickle(ctx context.Context) {
	many(ctx, 64, time.Second, func(i int) {
		c, err := t.connect(ctx, attacker(i%8))
		if err != nil {
			return
		}
		defer c.Close()
		defer context.AfterFunc(ctx, func() { c.Close() })()
		fmt.Fprintf(c, "POST /xrpc/com.atproto.repo.importRepo HTTP/1.1\r\nHost: localhost\r\nAuthorization: Bearer %s\r\n"+
			"Content-Type: application/vnd.ipld.car\r\nContent-Length: 1000000000\r\n\r\n", t.sessions[mallory].AccessJWT)
		for err == nil && ctx.Err() == nil {
			select {
			case <-time.After(15 * time.Second):
			case <-ctx.Done():
			}
			_, err = c.Write([]byte{0})
		}
	})
}

// expand imports a repository in which many paths have one large record.
func (t *target) expand(ctx context.Context) {
	record, err := data.Encode(map[string]any{"$type": seed.Collection, "text": strings.Repeat("x", 990_000)})
	if err != nil {
		return
	}
	value := dag.Sum(dag.CBOR, record)
	b := mst.NewBuilder()
	for i := range 300 {
		if b.Add(fmt.Sprintf("%s/%05d", seed.Collection, i), value) != nil {
			return
		}
	}
	tree, err := b.Tree()
	if err != nil {
		return
	}
	_, block, err := commit.Sign(ctx, t.dids[mallory], syntax.NewTID(time.Now(), 1), tree.Root(), t.keys[mallory])
	if err != nil {
		return
	}
	var file bytes.Buffer
	w, err := car.NewWriter(&file, block.CID)
	if err != nil {
		return
	}
	w.Write(block)
	for node, err := range tree.Nodes() {
		if err != nil {
			return
		}
		w.Write(node)
	}
	w.Write(car.Block{CID: value, Data: record})
	if w.Flush() != nil {
		return
	}
	t.upload(ctx, 4, func() io.Reader { return bytes.NewReader(file.Bytes()) })
}

// tinyBlocks imports a file of blocks that nothing links to, with a root that comes last, if ever.
func (t *target) tinyBlocks(ctx context.Context) {
	root := dag.Sum(dag.CBOR, []byte{0xa0})
	t.upload(ctx, 2, func() io.Reader {
		r, w := io.Pipe()
		go func() {
			buf := bufio.NewWriterSize(w, 64<<10)
			out, err := car.NewWriter(buf, root)
			for i := 0; err == nil && i < 2_000_000 && ctx.Err() == nil; i++ {
				b := []byte{0x1a, byte(i >> 24), byte(i >> 16), byte(i >> 8), byte(i)} // an integer
				err = out.Write(car.Block{CID: dag.Sum(dag.CBOR, b), Data: b})
			}
			if err == nil {
				err = out.Flush()
			}
			if err == nil {
				err = buf.Flush()
			}
			w.CloseWithError(err)
		}()
		return r
	})
}

// tokens uploads blobs with service tokens that have long IDs.
func (t *target) tokens(ctx context.Context) {
	n := 0
	var mu sync.Mutex
	many(ctx, 16, time.Second, func(i int) {
		for ctx.Err() == nil {
			mu.Lock()
			n++
			id := fmt.Sprintf("%d-%s", n, strings.Repeat("x", 40_000))
			mu.Unlock()
			token, err := serviceauth.Sign(ctx, t.keys[mallory], serviceauth.Token{
				Issuer: string(t.dids[mallory]), Audience: "did:web:localhost", Method: "com.atproto.repo.uploadBlob", ID: id,
			})
			if err != nil {
				return
			}
			r, err := http.NewRequestWithContext(ctx, "POST", t.url+"/xrpc/com.atproto.repo.uploadBlob", strings.NewReader("x"))
			if err != nil {
				return
			}
			r.Header.Set("Content-Type", "text/plain")
			r.Header.Set("Authorization", "Bearer "+token)
			resp, err := clientFrom(attacker(i), false).Do(r)
			if err != nil {
				return
			}
			io.Copy(io.Discard, resp.Body)
			resp.Body.Close()
		}
	})
}

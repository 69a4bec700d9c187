//go:build unix

package main_test

import (
	"context"
	"fmt"
	"net/http"
	"os"
	"os/exec"
	"path/filepath"
	"strings"
	"syscall"
	"testing"
	"time"

	"github.com/pdskit/pdskit/commit"
	"github.com/pdskit/pdskit/identity/plctest"
	"github.com/pdskit/pdskit/internal/pgtest"
	"github.com/pdskit/pdskit/internal/s3test"
	"github.com/pdskit/pdskit/internal/testplc"
	"github.com/pdskit/pdskit/lexicon/syntax"
	"github.com/pdskit/pdskit/xrpc"
	"github.com/pdskit/pdskit/xrpc/stream"
)

// topology is what compose.yaml describes, as processes.
type topology struct {
	t     *testing.T
	env   []string
	ports []string
	nodes []*exec.Cmd
	url   string // of the load balancer
}

func newTopology(t *testing.T, caddy string) *topology {
	t.Helper()
	plc := testplc.Start(t, plctest.Config{NoRateLimits: true})
	x := &topology{t: t, ports: []string{freePort(t), freePort(t)}, nodes: make([]*exec.Cmd, 2)}
	x.env = append(bucketEnv(t, s3test.Start(t)), "PATH="+os.Getenv("PATH"), "PDS_DATABASE_URL="+pgtest.Start(t).URL(), "PDS_DID_PLC_URL="+plc.URL,
		"PDS_HOSTNAME=pds.example.com", "PDS_DEV_MODE=true", "PDS_INVITE_REQUIRED=false", "PDS_BIND_ADDRESS=127.0.0.1", "PDS_LOG_LEVEL=warn",
		"PDS_MASTER_KEY="+strings.Repeat("5a", 32), "PDS_PLC_ROTATION_KEY_K256_PRIVATE_KEY_HEX="+strings.Repeat("3c", 32),
		"PDS_JWT_SECRET="+strings.Repeat("0123456789abcdef", 2), "PDS_ADMIN_PASSWORD=0123456789abcdef", "PDS_CLOCK_CHECK=false",
		"PDS_SHUTDOWN_DELAY_MS=8000", "PDS_SHUTDOWN_TIMEOUT_MS=30000")
	for i := range x.nodes {
		x.start(i)
	}
	x.balance(caddy)
	return x
}

// start runs a server and waits until it is well.
func (x *topology) start(i int) {
	x.t.Helper()
	bin := program(x.t)
	cmd := exec.Command(bin)
	cmd.Env = append(x.env, fmt.Sprintf("PDS_NODE_ID=pds%d", i+1), "PDS_PORT="+x.ports[i], "PDS_DATA_DIRECTORY="+x.t.TempDir())
	cmd.Stderr = os.Stderr
	if err := cmd.Start(); err != nil {
		x.t.Fatal(err)
	}
	x.nodes[i] = cmd
	x.t.Cleanup(func() { _ = cmd.Process.Kill(); _ = cmd.Wait() })
	x.well("http://127.0.0.1:" + x.ports[i])
}

func (x *topology) well(url string) {
	x.t.Helper()
	for end := time.Now().Add(time.Minute); ; time.Sleep(20 * time.Millisecond) {
		resp, err := http.Get(url + "/xrpc/_health")
		if err == nil {
			resp.Body.Close()
			if resp.StatusCode == http.StatusOK {
				return
			}
		}
		if time.Now().After(end) {
			x.t.Fatalf("%s is not well: %v", url, err)
		}
	}
}

// balance runs Caddy with the configuration in deploy/nodes, over plain HTTP.
func (x *topology) balance(caddy string) {
	x.t.Helper()
	nodes, err := filepath.Abs(nodesDir + "nodes.caddy")
	if err != nil {
		x.t.Fatal(err)
	}
	dir, port := x.t.TempDir(), freePort(x.t)
	file := filepath.Join(dir, "Caddyfile")
	text := fmt.Sprintf("{\n\tadmin off\n\tauto_https off\n}\nhttp://127.0.0.1:%s {\n\timport %s\n}\n", port, nodes)
	if err := os.WriteFile(file, []byte(text), 0o600); err != nil {
		x.t.Fatal(err)
	}
	cmd := exec.Command(caddy, "run", "--config", file, "--adapter", "caddyfile")
	cmd.Env = []string{"PATH=" + os.Getenv("PATH"), "HOME=" + dir, fmt.Sprintf("BALANCER_NODES=127.0.0.1:%s 127.0.0.1:%s", x.ports[0], x.ports[1])}
	if err := cmd.Start(); err != nil {
		x.t.Fatal(err)
	}
	x.t.Cleanup(func() { _ = cmd.Process.Kill(); _ = cmd.Wait() })
	x.url = "http://127.0.0.1:" + port
	x.well(x.url)
}

// Through the load balancer with the deployed configuration of Caddy, a client posts and a relay reads
// the event stream while one server is drained and comes back, and then the other one is. A client that
// tries again sees no error, and the stream, which reconnects, has every post once.
//
//	PDSKIT_TOPOLOGY=1 go test -run TestTopology -v ./examples/pds
func TestTopology(t *testing.T) {
	if os.Getenv("PDSKIT_TOPOLOGY") == "" {
		t.Skip("set PDSKIT_TOPOLOGY=1 for two servers, PostgreSQL, S3 and Caddy as processes")
	}
	caddy, err := exec.LookPath("caddy")
	if err != nil {
		t.Fatal("no caddy: install the package of that name")
	}
	x := newTopology(t, caddy)
	p := &process{t: t, url: x.url}
	u := &user{}
	if err := p.anonymous().Procedure(t.Context(), "com.atproto.server.createAccount", map[string]string{
		"handle": "alice.pds.example.com", "email": "alice@example.com", "password": "password of alice",
	}, u); err != nil {
		t.Fatal(err)
	}
	u.Client = &xrpc.Client{Host: x.url, Authorize: xrpc.Bearer(u.AccessJWT)}

	ctx, cancel := context.WithCancel(t.Context())
	defer cancel()
	seen := make(chan string, 100_000)
	go x.read(ctx, u.DID, seen)

	posted, stop := make(chan []string, 1), make(chan struct{})
	failed := make(chan error, 1)
	go func() { posted <- x.post(u, stop, failed) }()
	for i := range x.nodes {
		began := time.Now()
		if err := x.nodes[i].Process.Signal(syscall.SIGTERM); err != nil {
			t.Fatal(err)
		}
		if err := x.nodes[i].Wait(); err != nil {
			t.Errorf("server %d ended: %v", i+1, err)
		}
		t.Logf("server %d was drained in %s", i+1, time.Since(began).Round(time.Millisecond))
		x.start(i)
		time.Sleep(5 * time.Second) // until the load balancer has seen that it is back: two checks
	}
	close(stop)
	want := <-posted
	select {
	case err := <-failed:
		t.Errorf("a client that tries again has seen: %v", err)
	default:
	}
	left := map[string]bool{}
	for _, path := range want {
		left[path] = true
	}
	timeout := time.After(30 * time.Second)
	for n := len(left); n > 0; {
		select {
		case path := <-seen:
			if left[path] {
				left[path] = false
				n--
			} else {
				t.Errorf("the stream has %s twice, or it was never posted", path)
			}
		case <-timeout:
			t.Fatalf("the stream lacks %d of %d posts", n, len(want))
		}
	}
	t.Logf("%d posts", len(want))
}

// post posts until it is told to stop, and returns the paths of what it has posted. Each post has a key of its
// own, so that it can be repeated.
func (x *topology) post(u *user, stop <-chan struct{}, failed chan<- error) (paths []string) {
	for n := 0; ; n++ {
		select {
		case <-stop:
			return paths
		default:
		}
		rkey := fmt.Sprintf("post-%06d", n)
		in := map[string]any{"repo": u.DID, "collection": "com.example.note", "rkey": rkey, "record": map[string]any{"text": rkey}}
		var err error
		for try := range 5 {
			if err = u.Procedure(context.Background(), "com.atproto.repo.putRecord", in, nil); err == nil {
				break
			}
			x.t.Logf("%s, try %d: %v", rkey, try+1, err)
			time.Sleep(time.Duration(try+1) * 200 * time.Millisecond)
		}
		if err != nil {
			failed <- err
			return paths
		}
		paths = append(paths, "com.example.note/"+rkey)
	}
}

// read reads the event stream through the load balancer, reconnecting with its cursor, and tells of the
// account's records.
func (x *topology) read(ctx context.Context, did syntax.DID, seen chan<- string) {
	zero := int64(0)
	c := &stream.Consumer{URL: strings.Replace(x.url, "http", "ws", 1) + subscribeRepos, Cursor: &zero}
	for f, err := range c.Frames(ctx) {
		if err != nil {
			if ctx.Err() == nil {
				x.t.Log("the stream: ", err)
			}
			continue
		}
		if f.Kind != commit.KindCommit {
			continue
		}
		m, err := commit.DecodeEvent(f.Payload)
		if err != nil {
			x.t.Error(err)
			return
		}
		if m.Repo != did {
			continue
		}
		for _, op := range m.Ops {
			seen <- op.Path
		}
	}
}

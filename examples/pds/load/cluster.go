//go:build unix

package main

import (
	"context"
	"errors"
	"fmt"
	"io"
	"math/rand/v2"
	"net"
	"net/http"
	"os"
	"os/exec"
	"path/filepath"
	"strconv"
	"strings"
	"sync"
	"sync/atomic"
	"syscall"
	"time"

	"github.com/pdskit/pdskit/identity/plctest"
	"github.com/pdskit/pdskit/internal/pgtest"
	"github.com/pdskit/pdskit/internal/s3test"
	"github.com/pdskit/pdskit/internal/sleep"
	"github.com/pdskit/pdskit/internal/testenv"
	"github.com/pdskit/pdskit/storage/lease"
	"github.com/pdskit/pdskit/storage/postgres"
)

// nodeLease is how long a node leads that does not answer.
const nodeLease = 3 * time.Second

// cluster is several nodes on one machine, and a load balancer that asks for their health.
type cluster struct {
	dir, program string
	nodes        []*member
	pg           *pgtest.Server
	s3           *s3test.Server
	db           *postgres.DB // a look from the side
	maintenance  *lease.Lease // to look at
	plc          *plctest.Directory
	plcServer    *http.Server
	env          []string
	notes        io.Writer
	began        time.Time
	stopHealth   context.CancelFunc
	health       sync.WaitGroup
}

// member is one node.
type member struct {
	c        *cluster
	id, dir  string
	url      string
	port     int
	cmd      *exec.Cmd
	log      *os.File
	ended    chan error
	up       atomic.Bool // its health is good
	inFlight atomic.Int64
}

func newCluster(ctx context.Context, dir, program string, n int, notes io.Writer) (_ *cluster, err error) {
	c := &cluster{dir: dir, program: program, notes: notes, began: time.Now()}
	defer func() {
		if err != nil {
			c.close()
		}
	}()
	if c.pg, err = pgtest.New(); err != nil {
		return nil, err
	}
	bucketDir := filepath.Join(dir, "s3")
	if err := os.Mkdir(bucketDir, 0o700); err != nil {
		return nil, err
	}
	if c.s3, err = s3test.New(bucketDir); err != nil {
		return nil, err
	}
	bucket, err := c.s3.NewBucket()
	if err != nil {
		return nil, err
	}
	if c.plc, err = plctest.New(plctest.Config{NoRateLimits: true}); err != nil {
		return nil, err
	}
	l, err := net.Listen("tcp", "127.0.0.1:0")
	if err != nil {
		return nil, err
	}
	c.plcServer = &http.Server{Handler: c.plc}
	go c.plcServer.Serve(l)
	if c.db, err = postgres.Open(ctx, c.pg.URL(), postgres.Config{Readers: 4}); err != nil {
		return nil, err
	}
	if c.maintenance, err = lease.New(lease.Config{KV: c.db.Store().KV, Name: "maintenance", Holder: "load"}); err != nil {
		return nil, err
	}
	c.env = []string{
		"PATH=" + os.Getenv("PATH"), "PDS_HOSTNAME=pds.example.com", "PDS_DEV_MODE=true", "PDS_INVITE_REQUIRED=false",
		"PDS_MASTER_KEY=" + strings.Repeat("5a", 32), "PDS_JWT_SECRET=" + strings.Repeat("b7", 32), "PDS_ADMIN_PASSWORD=" + adminPassword,
		"PDS_PLC_ROTATION_KEY_K256_PRIVATE_KEY_HEX=" + strings.Repeat("3c", 32), "PDS_DID_PLC_URL=http://" + l.Addr().String(),
		"PDS_DATABASE_URL=" + c.pg.URL(), "PDS_NODE_LEASE_MS=" + strconv.FormatInt(nodeLease.Milliseconds(), 10),
		"PDS_BLOBSTORE_S3_BUCKET=" + bucket, "PDS_BLOBSTORE_S3_ENDPOINT=" + c.s3.Endpoint(), "PDS_BLOBSTORE_S3_FORCE_PATH_STYLE=true",
		"PDS_BLOBSTORE_S3_ACCESS_KEY_ID=" + s3test.AccessKeyID, "PDS_BLOBSTORE_S3_SECRET_ACCESS_KEY=" + s3test.SecretAccessKey,
		"PDS_RATE_LIMITS_ENABLED=true", "PDS_SHUTDOWN_DELAY_MS=1000", "PDS_SHUTDOWN_TIMEOUT_MS=10000", "PDS_CLOCK_CHECK=false",
	}
	for i := range n {
		m := &member{c: c, id: fmt.Sprint("node", i+1), dir: filepath.Join(dir, fmt.Sprint("node", i+1))}
		if err := os.Mkdir(m.dir, 0o700); err != nil {
			return nil, err
		}
		if m.port, err = testenv.FreePort("localhost"); err != nil {
			return nil, err
		}
		m.url = fmt.Sprintf("http://127.0.0.1:%d", m.port)
		c.nodes = append(c.nodes, m)
	}
	health, stop := context.WithCancel(context.WithoutCancel(ctx))
	c.stopHealth = stop
	for _, m := range c.nodes {
		c.health.Go(func() { m.watch(health) })
		if err := m.start(ctx); err != nil {
			return nil, err
		}
	}
	return c, nil
}

// adminPassword is that of all nodes.
const adminPassword = "of the administrator"

// note tells what happens.
func (c *cluster) note(format string, args ...any) {
	fmt.Fprintf(c.notes, "%6.1f s: %s\n", time.Since(c.began).Seconds(), fmt.Sprintf(format, args...))
}

// pick is a node that the load balancer knows as well; after a while, any.
func (c *cluster) pick(ctx context.Context) *member {
	for range 100 {
		if m := c.any(); m.up.Load() {
			return m
		}
		sleep.For(ctx, 10*time.Millisecond)
	}
	return c.any()
}

// allUp waits until all nodes are well.
func (c *cluster) allUp(ctx context.Context) error {
	for _, m := range c.nodes {
		if err := m.wait(ctx); err != nil {
			return err
		}
	}
	return nil
}

func (c *cluster) close() {
	if c.stopHealth != nil {
		c.stopHealth()
		c.health.Wait()
	}
	for _, m := range c.nodes {
		m.kill()
	}
	if c.db != nil {
		c.db.Close()
	}
	if c.plcServer != nil {
		c.plcServer.Close()
	}
	if c.s3 != nil {
		c.s3.Kill()
	}
	if c.pg != nil {
		c.pg.Close()
	}
}

// start runs the node and waits until it is well.
func (m *member) start(ctx context.Context) (err error) {
	if m.log, err = os.OpenFile(filepath.Join(m.dir, "log"), os.O_CREATE|os.O_APPEND|os.O_WRONLY, 0o600); err != nil {
		return err
	}
	m.cmd = exec.Command(m.c.program, "serve")
	m.cmd.Env = append(m.c.env, "HOME="+m.dir, "TMPDIR="+m.dir, "PDS_DATA_DIRECTORY="+m.dir, "PDS_PORT="+strconv.Itoa(m.port), "PDS_BIND_ADDRESS=127.0.0.1", "PDS_NODE_ID="+m.id)
	m.cmd.Dir, m.cmd.Stdout, m.cmd.Stderr = m.dir, m.log, m.log
	if err := m.cmd.Start(); err != nil {
		return err
	}
	m.ended = make(chan error, 1)
	cmd, ended, log := m.cmd, m.ended, m.log
	go func() {
		ended <- errors.Join(cmd.Wait(), log.Close())
	}()
	return m.wait(ctx)
}

func (m *member) wait(ctx context.Context) error {
	for begin := time.Now(); !m.up.Load(); sleep.For(ctx, 20*time.Millisecond) {
		if time.Since(begin) > time.Minute || ctx.Err() != nil {
			return fmt.Errorf("%s is not well within a minute", m.id)
		}
	}
	return nil
}

// watch asks for the node's health, as a load balancer does.
func (m *member) watch(ctx context.Context) {
	client := &http.Client{Timeout: time.Second, Transport: &http.Transport{DisableKeepAlives: true}}
	for ctx.Err() == nil {
		resp, err := client.Get(m.url + "/xrpc/_health")
		if err == nil {
			resp.Body.Close()
		}
		m.up.Store(err == nil && resp.StatusCode == http.StatusOK)
		sleep.For(ctx, 100*time.Millisecond+rand.N(50*time.Millisecond))
	}
}

// kill ends the node without a word.
func (m *member) kill() {
	if m.cmd == nil {
		return
	}
	_ = m.cmd.Process.Kill()
	<-m.ended
	m.cmd = nil
	m.up.Store(false)
}

// drain tells the node to end.
func (m *member) drain() error {
	if err := m.cmd.Process.Signal(syscall.SIGTERM); err != nil {
		return err
	}
	defer m.up.Store(false)
	select {
	case err := <-m.ended:
		m.cmd = nil
		if err != nil {
			return fmt.Errorf("%s ends with %w", m.id, err)
		}
		return nil
	case <-time.After(time.Minute):
		return fmt.Errorf("%s does not end within a minute", m.id)
	}
}

// stop pauses the node's process, and returns how many requests it has.
func (m *member) stop() int {
	_ = m.cmd.Process.Signal(syscall.SIGSTOP)
	return int(m.inFlight.Load())
}

func (m *member) goOn() { _ = m.cmd.Process.Signal(syscall.SIGCONT) }

package pds

import (
	"context"
	"crypto/hmac"
	"crypto/rand"
	"crypto/sha256"
	"encoding/hex"
	"encoding/json"
	"errors"
	"fmt"
	"os"
	"strings"
	"sync"
	"sync/atomic"
	"time"

	"github.com/pdskit/pdskit/internal/exactjson"
	"github.com/pdskit/pdskit/storage"
)

// Node identifies one of several servers over one store. The zero value is for a single server.
type Node struct {
	// ID is the name of the server in logs, in _health and in the list of nodes: 1 to 64 ASCII
	// letters, digits and "-_.". It must be unique for each process. Empty: see [NodeID].
	ID string
	// Shared means that other servers use the store at the same time, with the same Secrets, URL
	// and Policy. Used proofs and service tokens are then remembered in the store. If Rates is nil,
	// so are the limits that apply to all nodes together. Only one node at a time asks relays to
	// read the server and tidies the store.
	Shared bool
	// Lease is how long a node that does not respond keeps its tasks: see package lease. 0: 15
	// seconds.
	Lease time.Duration
	// SkipRepair makes New skip two tasks that another node does: completing changes that crashes
	// interrupted (account.Store.Repair), and checking that the blobs exist. It is for nodes that
	// start for a single request.
	SkipRepair bool
}

// NodeID returns a name for this process: that of the machine, and a random part.
func NodeID() string {
	host, _ := os.Hostname()
	host = strings.Map(func(r rune) rune {
		if notInNodeID(r) {
			return '-'
		}
		return r
	}, host)
	return strings.TrimPrefix(host[:min(len(host), 50)]+"-"+strings.ToLower(rand.Text()[:6]), "-")
}

func notInNodeID(r rune) bool {
	return !(r >= 'a' && r <= 'z' || r >= 'A' && r <= 'Z' || r >= '0' && r <= '9' || r == '-' || r == '_' || r == '.')
}

func (n Node) check() error {
	if len(n.ID) > 64 || strings.ContainsFunc(n.ID, notInNodeID) {
		return fmt.Errorf("pds: Config.Node.ID is %.100q: 1 to 64 ASCII letters, digits and \"-_.\"", n.ID)
	}
	return nil
}

// NodeStatus is the state of one of the servers that share a store. Each of them writes its own
// every five seconds.
type NodeStatus struct {
	ID      string
	Version string
	Started time.Time
	// Seen is when it last wrote its state, by its own clock. A node that has died stays in the
	// list for a day; one that was shut down is removed.
	Seen time.Time
	// Draining is set when it is about to end.
	Draining bool
	// Leads are the leases that it holds.
	Leads []string
	// Subscribers is the number of its subscribers of the event stream.
	Subscribers int

	keys string
}

// Alive reports whether a node was seen recently. It tolerates clocks that differ by less than half
// a minute.
func (n NodeStatus) Alive(now time.Time) bool { return now.Sub(n.Seen) < nodeGone }

const (
	nodePrefix = "node/"
	nodeBeat   = 5 * time.Second
	nodeGone   = 45 * time.Second
	nodeKept   = 24 * time.Hour
	// nodeVersion is that of what is stored. Nodes of other versions are not listed.
	nodeVersion = 1
	// maxNodes bounds how many are listed.
	maxNodes = 1000
)

// nodeRow is what is stored of a node.
type nodeRow struct {
	Version     int       `json:"version"`
	Instance    string    `json:"instance"` // of the process
	Program     string    `json:"program"`
	Started     time.Time `json:"started"`
	Seen        time.Time `json:"seen"`
	Draining    bool      `json:"draining"`
	Leads       []string  `json:"leads"`
	Subscribers int       `json:"subscribers"`
	// Keys is a hash of the secrets and names that all nodes must have in common.
	Keys string `json:"keys"`
}

// node is this server as one of several.
type node struct {
	instance  string
	draining  atomic.Bool
	keys      string
	drain     context.Context // ends with Drain
	end       context.CancelFunc
	leaseJobs sync.WaitGroup // jobs of leases
	beat      chan struct{}  // has room for one: full when the row is to be written at once

	// mu guards these.
	mu         sync.Mutex
	leads      map[string]bool
	others     int    // subscribers of the others, as of the last look
	mismatched string // a node that has other keys
}

func (s *Server) openNode() error {
	n := &s.node
	session, err := s.cfg.Secrets.sessionKey()
	if err != nil {
		return err
	}
	oauth, err := s.cfg.Secrets.oauthSecret()
	if err != nil {
		return err
	}
	mac := hmac.New(sha256.New, session)
	fmt.Fprintf(mac, "%x %q %q", oauth, s.hostname(), s.cfg.ServiceDID)
	n.keys = hex.EncodeToString(mac.Sum(nil))
	n.instance, n.beat, n.leads = rand.Text(), make(chan struct{}, 1), make(map[string]bool)
	n.drain, n.end = context.WithCancel(context.Background())
	if s.cfg.Node.Shared {
		s.log = s.log.With("node", s.cfg.Node.ID)
		s.cfg.Logger = s.log
	}
	return nil
}

// Node returns the name of this server among those that share its store.
func (s *Server) Node() string { return s.cfg.Node.ID }

// Draining reports whether Drain was called.
func (s *Server) Draining() bool { return s.node.draining.Load() }

// Drain prepares the end of a server, which continues to serve requests. From now on _health
// responds with status 503, so that load balancers send new requests to other nodes. Drain also
// releases this node's leases, so that others take over its tasks at once. It returns when that is
// done, or when the context ends. Then wait as long as load balancers need to notice, and end the
// server as in the package comment.
func (s *Server) Drain(ctx context.Context) {
	s.made()
	if !s.node.draining.Swap(true) {
		s.log.Info("the server is draining: it asks for no more requests")
	}
	s.node.end()
	s.node.beatNow()
	done := make(chan struct{})
	go func() {
		s.node.leaseJobs.Wait()
		close(done)
	}()
	select {
	case <-done:
	case <-ctx.Done():
	}
}

func (n *node) beatNow() {
	select {
	case n.beat <- struct{}{}:
	default:
	}
}

// beat writes what others know of this node until the context ends, and looks at them.
func (s *Server) beat(ctx context.Context) {
	if !s.cfg.Node.Shared {
		return
	}
	tick := time.NewTicker(nodeBeat)
	defer tick.Stop()
	for failed := false; ; {
		err := errors.Join(s.writeNode(ctx), s.countOthers(ctx))
		if err != nil && ctx.Err() == nil && !failed {
			s.log.Warn("other nodes do not hear of this one", "err", err)
		}
		failed = err != nil
		select {
		case <-tick.C:
		case <-s.node.beat:
		case <-ctx.Done():
			s.forgetNode(ctx)
			return
		}
	}
}

func (s *Server) nodeKey() string { return nodePrefix + s.cfg.Node.ID }

func (s *Server) writeNode(ctx context.Context) error {
	row := nodeRow{
		Version: nodeVersion, Instance: s.node.instance, Program: s.cfg.Version, Started: s.started.UTC(), Seen: s.cfg.Now().UTC(),
		Draining: s.Draining(), Leads: s.node.leading(), Subscribers: s.ownSubscribers(), Keys: s.node.keys,
	}
	text, err := json.Marshal(row)
	if err != nil {
		return err
	}
	var other nodeRow
	err = s.cfg.Store.KV.Write(ctx, func(tx storage.KVTx) error {
		other = nodeRow{}
		old, err := tx.Get(ctx, s.nodeKey())
		if err == nil && exactjson.UnmarshalPlain(old, &other) != nil {
			other = nodeRow{} // of another version, or broken: it is replaced
		} else if err != nil && !errors.Is(err, storage.ErrNotFound) {
			return err
		}
		return tx.Set(ctx, s.nodeKey(), text, row.Seen.Add(nodeKept))
	})
	if err == nil && other.Instance != "" && other.Instance != row.Instance && !other.Draining && row.Seen.Sub(other.Seen) < nodeBeat+nodeBeat/2 {
		s.log.Error("another process has the ID of this node, or had it seconds ago: each needs one of its own")
	}
	return err
}

// forgetNode takes this node off the list.
func (s *Server) forgetNode(ctx context.Context) {
	ctx, cancel := context.WithTimeout(context.WithoutCancel(ctx), 2*time.Second)
	defer cancel()
	err := s.cfg.Store.KV.Write(ctx, func(tx storage.KVTx) error { return tx.Delete(ctx, s.nodeKey()) })
	if err != nil {
		s.log.Warn("this node stays in the list of nodes", "err", err)
	}
}

// Nodes returns the servers that share the store, or only this one if Node.Shared is not set. See
// [ListNodes].
func (s *Server) Nodes(ctx context.Context) ([]NodeStatus, error) {
	if !s.cfg.Node.Shared {
		return []NodeStatus{{
			ID: s.cfg.Node.ID, Version: s.cfg.Version, Started: s.started, Seen: s.cfg.Now(), Draining: s.Draining(), Subscribers: s.ownSubscribers(),
		}}, nil
	}
	return ListNodes(ctx, s.cfg.Store.KV)
}

// ListNodes returns the servers that share a store, sorted by name, at most a thousand. It is for
// programs other than the servers.
func ListNodes(ctx context.Context, kv storage.KV) (list []NodeStatus, err error) {
	err = kv.Read(ctx, func(r storage.KVReader) error {
		list = nil
		for pair, err := range r.Keys(ctx, storage.Prefix(nodePrefix)) {
			if err != nil || len(list) == maxNodes {
				return err
			}
			var row nodeRow
			if exactjson.UnmarshalPlain(pair.Value, &row) != nil || row.Version != nodeVersion {
				continue
			}
			list = append(list, NodeStatus{
				ID: pair.Key[len(nodePrefix):], Version: row.Program, Started: row.Started, Seen: row.Seen,
				Draining: row.Draining, Leads: row.Leads, Subscribers: row.Subscribers, keys: row.Keys,
			})
		}
		return nil
	})
	return list, err
}

// countOthers notes how many read the event stream from other nodes.
func (s *Server) countOthers(ctx context.Context) error {
	list, err := s.Nodes(ctx)
	if err != nil {
		return err
	}
	n, now, odd := 0, s.cfg.Now(), ""
	for _, x := range list {
		if x.ID != s.cfg.Node.ID && x.Alive(now) {
			n += x.Subscribers
			if x.keys != s.node.keys {
				odd = x.ID
			}
		}
	}
	if odd != "" && odd != s.node.mismatched {
		s.log.Error("another node has other secrets, or another host name: sessions of one are none on the other, and accounts of one cannot sign on the other", "other", odd)
	}
	s.node.mu.Lock()
	s.node.mismatched = odd
	before := s.node.others
	s.node.others = n
	s.node.mu.Unlock()
	if before > 0 && n == 0 {
		s.subscribersLeft()
	}
	return nil
}

// subscribers is how many read the event stream, from all nodes. Those of others were counted
// some seconds ago.
func (s *Server) subscribers() int {
	s.node.mu.Lock()
	defer s.node.mu.Unlock()
	return s.node.others + s.ownSubscribers()
}

// ownSubscribers is how many read it from this node.
func (s *Server) ownSubscribers() int {
	if s.cfg.Subscribers != nil {
		return s.cfg.Subscribers()
	}
	return s.Outbox.Subscribers()
}

// subscribersLeft is told when the last one of some node has left.
func (s *Server) subscribersLeft() {
	if s.crawler != nil && s.subscribers() == 0 {
		s.crawler.Left()
	}
}

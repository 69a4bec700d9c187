package operator_test

import (
	"context"
	"testing"
	"time"

	"github.com/pdskit/pdskit/xrpc/operator"
	"github.com/pdskit/pdskit/xrpc/pds"
)

// The overview has the servers that share the store, and tells which one has answered.
func TestOverviewOfNodes(t *testing.T) {
	w := newWorld(t, func(c *pds.Config) {
		c.Operator.Change = func(o *operator.Config) {
			overview := o.Overview
			o.Overview = func(ctx context.Context) operator.Overview {
				v := overview(ctx)
				v.Node = "one"
				v.Nodes = []operator.Node{
					{ID: "one", Version: "1.2.3", Started: time.Now(), Seen: time.Now(), Leads: []string{"crawl"}, Subscribers: 7},
					{ID: "two", Version: "1.2.4", Started: time.Now(), Seen: time.Now(), Draining: true},
				}
				return v
			}
		}
	})
	b := w.tab().signIn()
	b.has("Nodes", "<strong>one</strong>", "1.2.4", "subscribers: 7", "<code>crawl</code>", "shutting down")
	b.hasNot("<strong>two</strong>")
}

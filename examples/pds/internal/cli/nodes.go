package cli

import (
	"context"
	"strconv"
	"strings"
	"time"

	library "github.com/pdskit/pdskit/xrpc/pds"
)

// nodes lists the servers that share the database.
func nodes(ctx context.Context, c *call) error {
	_, _, d, err := c.open(ctx, false)
	if err != nil {
		return err
	}
	defer d.Close()
	list, err := library.ListNodes(ctx, d.Store.KV)
	if err != nil {
		return err
	}
	if c.json {
		return c.writeJSON(list)
	}
	var rows [][]string
	for _, n := range list {
		state := "runs"
		if !n.Alive(time.Now()) {
			state = "gone"
		} else if n.Draining {
			state = "drains"
		}
		rows = append(rows, []string{n.ID, n.Version, n.Started.Format(time.RFC3339), n.Seen.Format(time.RFC3339), strconv.Itoa(n.Subscribers), state, strings.Join(n.Leads, " ")})
	}
	return c.table("NODE VERSION STARTED SEEN SUBSCRIBERS STATE LEADS", rows)
}

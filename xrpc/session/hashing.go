package session

import (
	"context"
	"runtime"
	"time"

	"github.com/pdskit/pdskit/xrpc/limit"
)

// HashQueue returns an Enter for [credential.Config], for a public host. Half the processors, at
// most four, hash at a time. Up to 256 passwords wait, up to 32 of one client network, for up to
// ten seconds. Networks are served in turn. A client that disconnects no longer waits. If too many
// wait, the error is a *limit.Error.
func HashQueue() func(context.Context) (leave func(), err error) {
	return hashGate().wait
}

type gate struct{ *limit.Gate }

func hashGate() gate {
	return gate{&limit.Gate{
		Name: "passwords", Total: max(1, min(4, runtime.NumCPU()/2)), Queue: 256, QueuePerNetwork: 32, Wait: 10 * time.Second,
	}}
}

func (g gate) wait(ctx context.Context) (leave func(), err error) {
	return g.Enter(ctx, limit.ClientOf(ctx))
}

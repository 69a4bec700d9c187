package session

import (
	"context"
	"runtime"
	"time"

	"github.com/pdskit/pdskit/xrpc/limit"
)

// HashQueue returns an Enter for [credential.Config], for a host that strangers ask to hash
// passwords. Half the processors, but no more than four, hash at a time, to leave processors and
// memory to others. Up to 256 passwords wait, of one client network up to 32, for up to ten
// seconds. Networks are served in turn, and who hangs up does not wait any more. The error is a
// *limit.Error if too many wait.
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

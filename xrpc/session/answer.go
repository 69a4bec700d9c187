package session

import (
	"context"

	"github.com/pdskit/pdskit/xrpc"
)

// Query is [xrpc.Query] for a function on accounts: its errors go through [Answer].
func Query[P, O any](fn func(context.Context, *xrpc.Request, P) (O, error)) xrpc.Handler {
	return xrpc.Query(answered(fn))
}

// Procedure is [xrpc.Procedure] for a function on accounts: its errors go through [Answer].
func Procedure[I, O any](fn func(context.Context, *xrpc.Request, I) (O, error)) xrpc.Handler {
	return xrpc.Procedure(answered(fn))
}

func answered[I, O any](fn func(context.Context, *xrpc.Request, I) (O, error)) func(context.Context, *xrpc.Request, I) (O, error) {
	return func(ctx context.Context, r *xrpc.Request, in I) (O, error) {
		out, err := fn(ctx, r, in)
		return out, Answer(err)
	}
}

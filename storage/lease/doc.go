// Package lease elects one of several processes that share a store, for work that only one may do
// at a time, such as asking relays or tidying the store.
//
//	l, err := lease.New(lease.Config{KV: store.KV, Name: "maintenance", Holder: "node-1"})
//	err = l.Run(ctx, func(ctx context.Context, h *lease.Held) error { … })
//
// Run waits until the lease is free and calls the function. The function's context ends before
// another process can take the lease: when the lease was not renewed in time, when the context of
// [Lease.Run] ends, or when the lease was lost.
//
// # Time
//
// Clocks of different machines are never compared, so they may differ. A holder trusts its lease
// for a term, measured by its own monotonic clock from before it began to write the renewal. A
// waiting process measures from when it has read that renewal, and takes the lease if nothing has
// changed for nine eighths of the term. So the two can overlap only if one clock runs more than an
// eighth faster than the other. A released lease is taken within a quarter of a term. (The
// monotonic clock stops while a machine is suspended. That is like a paused process.)
//
// # Fencing
//
// A process that is paused does not see its context end. When it continues, it may still do one
// write, however late. So each time the lease is taken, its token increases. Writes under the lease
// check the token in their own transaction, by [Held.Check]:
//
//	err = store.KV.Write(ctx, func(tx storage.KVTx) error {
//		if err := h.Check(ctx, tx); err != nil {
//			return err // lease.ErrLost: somebody else does this now
//		}
//		return tx.Set(ctx, key, value, time.Time{})
//	})
//
// KV.Write is serializable. So such a write either precedes the taking of the lease by another
// process, or fails. Actions outside of the store must tolerate two holders for a moment, such as
// asking a relay twice.
//
// # Cost
//
// A holder writes one row each third of a term. A waiting process reads it four times a term.
package lease

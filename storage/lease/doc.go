// Package lease chooses one of several processes that share a store: the one that may ask relays,
// tidy the store, or do whatever else only one is to do at a time.
//
//	l, err := lease.New(lease.Config{KV: store.KV, Name: "maintenance", Holder: "node-1"})
//	err = l.Run(ctx, func(ctx context.Context, h *lease.Held) error { … })
//
// Run waits until the lease is free and calls the function. The function's context ends before
// another process can take the lease: when it was not renewed in time, when [Lease.Run] is told to
// end, or when it was lost.
//
// # Time
//
// No clocks are compared, so it does not matter how far those of two machines are apart. A holder
// believes in its lease for a term, counted by its own monotonic clock from before it began to
// write the renewal. A process that waits counts from when it has read that renewal, and takes the
// lease when nothing has changed for the term and an eighth of it. So the two overlap only if one
// clock runs more than an eighth faster than the other. A lease that its holder has given back is
// taken within a quarter of a term. (The clock does not count while a machine is suspended. That is
// like a paused process.)
//
// # Fencing
//
// A process that is paused does not see its context end: it may write one thing more when it goes
// on, however late. So each time that a lease is taken, its token becomes greater, and what is
// written under the lease checks the token in its own transaction, by [Held.Check]:
//
//	err = store.KV.Write(ctx, func(tx storage.KVTx) error {
//		if err := h.Check(ctx, tx); err != nil {
//			return err // lease.ErrLost: somebody else does this now
//		}
//		return tx.Set(ctx, key, value, time.Time{})
//	})
//
// KV.Write is serializable. So such a write is either before the other process took the lease,
// or fails. What lies outside of the store has to bear two holders for a moment: a
// relay that is asked twice does so.
//
// # Cost
//
// A holder writes one row each third of a term. A process that waits reads it four times a
// term.
package lease

package storagetest

import (
	"context"
	"iter"

	"github.com/pdskit/pdskit/lexicon/syntax"
	"github.com/pdskit/pdskit/storage"
)

// faultyMovable is faultyRepos that can be moved and loaded.
type faultyMovable struct {
	faultyRepos
	m storage.Movable
	l storage.Loader
}

func (x faultyMovable) Watch(ctx context.Context, note string) error {
	return x.f.call("Movable.Watch", func() error { return x.m.Watch(ctx, note) })
}

func (x faultyMovable) Shut(ctx context.Context, note string) error {
	return x.f.call("Movable.Shut", func() error { return x.m.Shut(ctx, note) })
}

func (x faultyMovable) Unwatch(ctx context.Context) error {
	return x.f.call("Movable.Unwatch", func() error { return x.m.Unwatch(ctx) })
}

func (x faultyMovable) Watched(ctx context.Context) (storage.Watch, error) {
	return call2(x.f, "Movable.Watched", func() (storage.Watch, error) { return x.m.Watched(ctx) })
}

func (x faultyMovable) Changed(ctx context.Context) iter.Seq2[storage.Changed, error] {
	return faulty(x.f, "Movable.Changed", x.m.Changed(ctx))
}

func (x faultyMovable) Settle(ctx context.Context, list []storage.Changed) error {
	return x.f.call("Movable.Settle", func() error { return x.m.Settle(ctx, list) })
}

func (x faultyMovable) Touch(ctx context.Context, did syntax.DID) error {
	return x.f.call("Movable.Touch", func() error { return x.m.Touch(ctx, did) })
}

func (x faultyMovable) Moving() storage.KV { return faultyKV{x.f, x.m.Moving()} }

func (x faultyMovable) Load(ctx context.Context, did syntax.DID, l *storage.Load) error {
	return x.f.call("Loader.Load", func() error { return x.l.Load(ctx, did, l) })
}

func (x faultyMovable) Unload(ctx context.Context, did syntax.DID) error {
	return x.f.call("Loader.Unload", func() error { return x.l.Unload(ctx, did) })
}

func (x faultyMovable) LoadEvents(ctx context.Context, l *storage.LoadEvents) error {
	return x.f.call("Loader.LoadEvents", func() error { return x.l.LoadEvents(ctx, l) })
}

// faultyStaged is faultyBlobs that lists staged ones.
type faultyStaged struct {
	faultyBlobs
	s storage.StagedBlobs
}

func (x faultyStaged) Staged(ctx context.Context, did syntax.DID) iter.Seq2[storage.BlobInfo, error] {
	return faulty(x.f, "Blobs.Staged", x.s.Staged(ctx, did))
}

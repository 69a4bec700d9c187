package cli

import (
	"context"
	"errors"
	"fmt"
	"time"

	"github.com/pdskit/pdskit/examples/pds/internal/selfcheck"
	"github.com/pdskit/pdskit/internal/sleep"
)

// Pauses before something that has failed is tried again.
const (
	firstPause   = time.Minute
	longestPause = time.Hour
)

// runBackup makes a backup, or one after another.
func runBackup(ctx context.Context, c *call) error {
	every := c.values.every
	switch {
	case every == 0:
		return backupOnce(ctx, c)
	case every < time.Minute:
		return fmt.Errorf("%w: -every is at least a minute, such as 24h", errUsage)
	case c.values.asTar && c.args[0] == "-":
		return fmt.Errorf("%w: with -every, backups do not fit into standard output", errUsage)
	}
	if _, err := c.config(); err != nil { // it does not get better by waiting
		return err
	}
	first := time.Duration(0)
	if last := c.lastBackup(ctx); !last.IsZero() {
		first = min(max(time.Until(last.Add(every)), 0), every)
	}
	if first > 0 {
		fmt.Fprintf(c.Stderr, "The last backup is of %s ago: the next one is due in %s.\n", (every - first).Round(time.Second), first.Round(time.Second))
	}
	repeat(ctx, first, every, func() error {
		err := backupOnce(ctx, c)
		if err != nil && ctx.Err() == nil {
			fmt.Fprintf(c.Stderr, "pds: %s\n", inWords(err))
		}
		if errors.Is(err, errLostBlobs) { // the backup is good
			return nil
		}
		return err
	})
	return nil
}

// repeat calls fn after first and then at intervals from one beginning to the next, until the
// context ends. What fails is tried again sooner, with pauses that grow.
func repeat(ctx context.Context, first, every time.Duration, fn func() error) {
	pause := firstPause
	for wait := first; sleep.For(ctx, wait) == nil; {
		begun := time.Now()
		if err := fn(); err != nil {
			wait, pause = min(pause, every), min(2*pause, longestPause)
			continue
		}
		wait, pause = max(every-time.Since(begun), 0), firstPause
	}
}

// lastBackup is when the last good backup to the same place was made; zero: there is none, or nobody
// knows.
func (c *call) lastBackup(ctx context.Context) (last time.Time) {
	_, _, d, err := c.open(ctx, false)
	if err != nil {
		return last
	}
	defer d.Close()
	list, err := selfcheck.Notes(d.Store).List(ctx)
	if err != nil {
		return last
	}
	for _, b := range list {
		if b.Good && b.Path == c.place(c.args[0]) && b.At.After(last) {
			last = b.At
		}
	}
	return last
}

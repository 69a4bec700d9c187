package cli

import (
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"net/url"
	"path/filepath"
	"strings"
	"time"

	"github.com/pdskit/pdskit/examples/pds/internal/config"
	"github.com/pdskit/pdskit/examples/pds/internal/datadir"
	"github.com/pdskit/pdskit/storage/bucket"
	"github.com/pdskit/pdskit/storage/transfer"
)

const storageHelp = `
It copies everything to another database, another place for blobs, or both: accounts, repositories,
sessions, the event log with its numbers, blobs. It runs beside the server, on the same machine,
with the same configuration.

    pds migrate-storage -to-database postgres://pds@db/pds -dry-run    show how much there is
    pds migrate-storage -to-database postgres://pds@db/pds             copy, while the server runs
    pds migrate-storage -to-database postgres://pds@db/pds -finish     catch up, verify, switch

-to FILE names an environment file with the settings that will be different, such as
PDS_DATABASE_URL, or PDS_BLOBSTORE_S3_BUCKET with the variables that belong to it; an empty value
removes a variable. -to-database and -to-blobs are short forms that need no file.

Without -finish, the server does not change; run the command again to catch up. With -finish, the
server refuses writes at the end ("try again in a minute"), for a second in most cases; then the
target is ready. Start the server with the new settings: it refuses to start with the old ones. If
anything fails before that, the old server accepts writes again. The command can be killed at any
moment; run it again to continue.

-abort ends the move, and also undoes -finish as long as no server has been started on the target.
Nothing is deleted from the old storage; delete it when the new one has proven itself.

The exit code is 3 if the target differs from the source, or blobs of the source are damaged.
`

// storageMove is what the command line says of migrate-storage.
type storageMove struct {
	to, database, blobs                  string
	rate                                 float64
	workers, sample                      int
	dryRun, finish, abort, status, force bool
	acceptDamaged                        bool
}

func storageFlags(c *call) {
	v := &c.values.storage
	c.StringVar(&v.to, "to", "", "an environment `file` with the settings that differ at the target")
	c.StringVar(&v.database, "to-database", "", "the `URL` of a PostgreSQL database to move to, or sqlite")
	c.StringVar(&v.blobs, "to-blobs", "", "`disk` moves blobs from a bucket to the data directory (for a bucket, use -to)")
	c.Float64Var(&v.rate, "rate", 0, "copy at most so many `megabytes` per second while the server is in use")
	c.IntVar(&v.workers, "workers", 4, "copy this `number` of accounts at the same time")
	c.IntVar(&v.sample, "sample", 1, "read back one in `n` blobs at the target")
	c.BoolVar(&v.acceptDamaged, "accept-damaged-blobs", false, "leave out blobs that the server has lost or that are damaged")
	c.BoolVar(&v.dryRun, "dry-run", false, "show how much there is and about how long it takes; copy nothing")
	c.BoolVar(&v.status, "status", false, "show the state of the move")
	c.BoolVar(&v.finish, "finish", false, "end the move: verify, and switch to the target")
	c.BoolVar(&v.abort, "abort", false, "give up the move: the server stays where it is")
	c.BoolVar(&v.force, "force", false, "with -abort: do not ask the target, for when it is lost")
}

// targetConfig is the configuration of the server after the move, and what to change for it.
func (c *call) targetConfig(now *config.Config) (next *config.Config, hint string, err error) {
	v := &c.values.storage
	env, _, err := config.Environment(c.Environ, c.envFile)
	if err != nil {
		return nil, "", fmt.Errorf("%w: %w", errConfig, err)
	}
	var hints []string
	if v.to != "" {
		if err := config.Override(env, v.to); err != nil {
			return nil, "", fmt.Errorf("%w: -to: %w", errConfig, err)
		}
		hints = append(hints, "set the variables of "+v.to)
	}
	switch v.database {
	case "":
	case "sqlite":
		env["PDS_DATABASE_URL"] = ""
		hints = append(hints, "remove PDS_DATABASE_URL")
	default:
		env["PDS_DATABASE_URL"] = v.database
		hints = append(hints, "set PDS_DATABASE_URL to that database")
	}
	switch v.blobs {
	case "":
	case datadir.OnDisk:
		for name := range env {
			if strings.HasPrefix(name, "PDS_BLOBSTORE_S3_") {
				delete(env, name)
			}
		}
		hints = append(hints, "remove PDS_BLOBSTORE_S3_BUCKET and what belongs to it")
	default:
		return nil, "", fmt.Errorf("%w: -to-blobs is disk; for a bucket, put PDS_BLOBSTORE_S3_BUCKET and what belongs to it into a file, and name it with -to", errUsage)
	}
	if next, err = config.Load(env); err != nil {
		return nil, "", fmt.Errorf("%w, at the target:\n%w", errConfig, err)
	}
	return next, strings.Join(hints, ", "), nil
}

// options are those of the data directory of a configuration, for who moves it.
func movingOptions(cfg *config.Config) datadir.Options {
	return datadir.Options{Database: cfg.DatabaseURL, Blobs: cfg.BlobDirectory, S3: cfg.S3, KeepDeleted: cfg.KeepDeleted, Use: datadir.Move}
}

// placeOf names a database, without its password.
func placeOf(cfg *config.Config) string {
	if cfg.DatabaseURL == "" {
		return filepath.Join(absolute(cfg.DataDirectory), datadir.Database)
	}
	if u, err := url.Parse(cfg.DatabaseURL); err == nil && u.Host != "" {
		return "PostgreSQL at " + u.Host + u.Path
	}
	return "PostgreSQL"
}

// blobsOf names the place of blobs.
func blobsOf(cfg *config.Config, d *datadir.Dir) string {
	if cfg.S3.Bucket != "" {
		return "bucket " + cfg.S3.Endpoint + " " + cfg.S3.Bucket
	}
	return "folder " + absolute(d.Blobs)
}

func migrateStorage(ctx context.Context, c *call) (err error) {
	v := &c.values.storage
	cfg, err := c.config()
	if err != nil {
		return err
	}
	opt := movingOptions(cfg)
	opt.Existing = true
	from, err := datadir.Open(ctx, cfg.DataDirectory, opt)
	if err != nil {
		return err
	}
	defer func() { err = errors.Join(err, from.Close()) }()
	if !v.status && !v.dryRun {
		if err := from.OnlyMover(); err != nil {
			return err
		}
	}
	if v.to == "" && v.database == "" && v.blobs == "" {
		switch {
		case v.status:
			st, err := transfer.SourceStatus(ctx, from.Store)
			if err != nil {
				return err
			}
			return c.showStorage(st)
		case v.abort && v.force:
			v.database = "sqlite" // not asked
		default:
			return fmt.Errorf("%w: say where to, with -to, -to-database or -to-blobs", errUsage)
		}
	}
	next, hint, err := c.targetConfig(cfg)
	if err != nil {
		return err
	}
	m := transfer.Config{
		From: from.Store, Hint: hint, Blobs: datadir.KindOfBlobs(next.S3), Workers: v.workers, Rate: int64(v.rate * 1e6), Sample: v.sample,
		AcceptDamaged: v.acceptDamaged, Progress: c.storageProgress(),
		OnlyBlobs: cfg.DatabaseURL == next.DatabaseURL && (cfg.DatabaseURL != "" || absolute(cfg.DataDirectory) == absolute(next.DataDirectory)),
	}
	if v.abort && v.force {
		m.To, m.OnlyBlobs, m.SameBlobs = from.Store, false, true
		return c.abortStorage(ctx, m)
	}
	to, err := datadir.Open(ctx, next.DataDirectory, movingOptions(next))
	if err != nil {
		return fmt.Errorf("the target: %w", err)
	}
	defer func() { err = errors.Join(err, to.Close()) }()
	m.To, m.SameBlobs = to.Store, blobsOf(cfg, from) == blobsOf(next, to)
	m.Name = placeOf(next)
	if !m.SameBlobs {
		m.Rows = []string{bucket.Keys}
		m.Name += ", blobs in the " + blobsOf(next, to)
	}
	if m.OnlyBlobs && !m.SameBlobs && cfg.S3.Bucket != "" && next.S3.Bucket != "" {
		// Its rows say what is in the bucket: they are the same for both.
		return fmt.Errorf("%w: to go on in another bucket with the same database, stop the server, copy all objects with the bucket's own tools, and set PDS_BLOBSTORE_S3_*", errUsage)
	}
	if m.OnlyBlobs && m.SameBlobs {
		return fmt.Errorf("%w: the server's data is there already", errUsage)
	}
	return c.moveStorage(ctx, m)
}

// moveStorage does what the flags say.
func (c *call) moveStorage(ctx context.Context, cfg transfer.Config) error {
	v := &c.values.storage
	if v.abort {
		return c.abortStorage(ctx, cfg)
	}
	m, err := transfer.New(cfg)
	if err != nil {
		return err
	}
	switch {
	case v.status:
		st, err := m.Status(ctx)
		if err != nil {
			return err
		}
		return c.showStorage(st)
	case v.dryRun:
		p, err := m.Plan(ctx)
		if err != nil {
			return err
		}
		return c.result(p, "To %s: %d accounts with about %d records, %d keys, %d events and %d blobs, %s. Roughly %s for copying and verifying, while the server runs.",
			cfg.Name, p.Accounts, p.Records, p.Keys, p.Events, p.Blobs, bytes64(p.Bytes), p.Time.Round(time.Second))
	case v.finish:
		r, err := m.Finish(ctx)
		if err == nil {
			paused := ""
			if r.Pause > 0 { // else an earlier run did
				paused = " for the last " + r.Pause.Round(time.Millisecond).String()
			}
			err = c.result(r, "\nThe data is in %s, verified. The old server refused writes%s, and goes on to.\nNow %s, and restart the server. The old data is left as it is.",
				cfg.Name, paused, cfg.Hint)
		}
		return c.storageError(err, r)
	}
	err = m.Copy(ctx)
	r := m.Report()
	if err == nil {
		err = c.result(r, "\nCopied to %s. The server goes on as before, and what changes is noted.\nTo change over, run this again with -finish; to give it up, with -abort.", cfg.Name)
	}
	return c.storageError(err, r)
}

func (c *call) abortStorage(ctx context.Context, cfg transfer.Config) error {
	m, err := transfer.New(cfg)
	if err != nil {
		return err
	}
	if err := m.Abort(ctx, c.values.storage.force); err != nil {
		return err
	}
	return c.result(map[string]bool{"aborted": true}, "The move was given up. The server takes writes where it is.")
}

// storageError adds to an error what has to be known of it.
func (c *call) storageError(err error, r transfer.Report) error {
	for i, d := range r.Damaged {
		if i == 10 {
			fmt.Fprintf(c.Stderr, "  and %d more\n", len(r.Damaged)-i)
			break
		}
		fmt.Fprintf(c.Stderr, "damaged: blob %s of %s: %s\n", d.CID, d.DID, d.Why)
	}
	var differs *transfer.VerifyError
	switch {
	case errors.As(err, &differs):
		return fmt.Errorf("%w: %w\nThe server takes writes where it is. Run \"pds check\"; if all is well, empty the target and begin anew", errProblems, err)
	case errors.Is(err, transfer.ErrDamagedBlobs):
		return fmt.Errorf("%w: %w\n\"pds check\" lists them, and puts them back from a backup; -accept-damaged-blobs leaves them behind", errProblems, err)
	case errors.Is(err, context.Canceled):
		return fmt.Errorf("interrupted: run it again to go on: %w", err)
	}
	return err
}

func (c *call) showStorage(st transfer.Status) error {
	text := "The server's data is " + st.Source
	if st.Name != "" {
		text += ", to " + st.Name
	}
	if st.Target != "" {
		text += "; the target is " + st.Target
	}
	switch {
	case st.Copied:
		text += ", all was copied once"
	case st.After != "":
		text += ", copied up to " + string(st.After)
	}
	if st.Source == "being copied" || st.Source == "shut" {
		text += fmt.Sprintf(". %d changes wait", st.Noted)
	}
	return c.result(st, "%s.", text)
}

// storageProgress shows how far a move is: as lines of JSON, in place on a terminal, or a line now and
// then.
func (c *call) storageProgress() func(transfer.Progress) {
	if c.quiet {
		return nil
	}
	if c.json {
		e := json.NewEncoder(c.Stderr)
		return func(p transfer.Progress) { e.Encode(p) }
	}
	shown := c.progress("")
	var phase transfer.Phase
	return func(p transfer.Progress) {
		now := time.Now()
		if p.Phase == phase && now.Before(shown.next) {
			return
		}
		end := "\n"
		if shown.terminal {
			shown.next, end = now.Add(time.Second/5), " "
			if p.Phase != phase && phase != "" {
				fmt.Fprintln(c.Stderr)
			}
			fmt.Fprint(c.Stderr, "\r")
		} else {
			shown.next = now.Add(10 * time.Second)
		}
		phase = p.Phase
		fmt.Fprintf(c.Stderr, "%s: %d accounts, %d records, %d events, %d blobs, %s, %d verified%s",
			p.Phase, p.Accounts, p.Records, p.Events, p.Blobs, bytes64(p.Bytes), p.Verified, end)
	}
}

package cli

import (
	"context"
	"errors"
	"fmt"
	"io"
	"os"
	"path/filepath"

	"github.com/ipfs/go-cid"
	"github.com/pdskit/pdskit/examples/pds/internal/config"
	"github.com/pdskit/pdskit/examples/pds/internal/datadir"
	"github.com/pdskit/pdskit/lexicon/syntax"
	"github.com/pdskit/pdskit/repo/check"
	"github.com/pdskit/pdskit/storage"
	"github.com/pdskit/pdskit/storage/backup"
)

func restore(ctx context.Context, c *call) error {
	cfg, err := c.config()
	if err != nil {
		return err
	}
	if cfg.DatabaseURL != "" {
		return datadir.ErrServer
	}
	done, err := c.restoreTo(ctx, cfg, cfg.DataDirectory)
	if err != nil {
		return err
	}
	m, report, resynced := done.m, done.report, done.resynced
	text := fmt.Sprintf("Restored the backup of %s made at %s to %s.", m.Host, m.Created.Format("2006-01-02 15:04 MST"), absolute(cfg.DataDirectory))
	if report != nil {
		well := "All is well with"
		if report.MissingBlobs > 0 {
			well = fmt.Sprintf("%d blobs that records refer to are not in it. It has", report.MissingBlobs)
		}
		text += fmt.Sprintf(" %s %s, %d records and %d blobs.", well, accountCount(report.Accounts), report.Records, report.Blobs)
	}
	if resynced.accounts > 0 {
		text += fmt.Sprintf(" The repositories of %s were signed anew.", accountCount(resynced.accounts))
	}
	c.warnAhead(resynced)
	if cfg.S3.Bucket != "" {
		text += fmt.Sprintf("\nIts blobs are in the bucket %s. Do not start it while the server that the backup is of runs: each of them would delete what the other one uploads.", cfg.S3.Bucket)
	}
	if m.Host != cfg.Hostname {
		fmt.Fprintf(c.Stderr, "warning: the backup is of %s, but PDS_HOSTNAME is %s\n", m.Host, cfg.Hostname)
	}
	err = c.result(map[string]any{"backup": m, "check": report, "resynced": resynced.accounts}, "%s", text)
	if err == nil && report != nil {
		err = problemsError(report)
	}
	return err
}

// restored is what was restored.
type restored struct {
	m        *backup.Manifest
	report   *check.Report // nil: -fast
	resynced resynced
}

// restoreTo restores the backup that is the argument into a directory, and checks it there.
func (c *call) restoreTo(ctx context.Context, cfg *config.Config, dest string) (done restored, err error) {
	if err := c.checkRemote(); err != nil {
		return done, err
	}
	decrypt, err := c.decryption()
	if err != nil {
		return done, err
	}
	shown := c.progress("files")
	checked := c.progress("accounts checked")
	signed := c.progress("accounts signed anew")
	r := backup.Restore{Decrypt: decrypt, Layout: datadir.Layout, Blobs: cfg.BlobDirectory, Incomplete: c.values.acceptMissing, Progress: shown.at}
	opt := check.Options{Progress: checked.at, AcceptMissing: c.values.acceptMissing}
	if cfg.S3.Bucket != "" {
		opt.Blobs = check.FindBlobs // the whole bucket is not read, only listed
	}
	r.Verify = datadir.Verify(datadir.Options{S3: cfg.S3, KeepDeleted: cfg.KeepDeleted}, func(ctx context.Context, d *datadir.Dir, m *backup.Manifest) error {
		shown.done()
		elsewhere := c.values.trial && m.BlobsElsewhere != ""
		if elsewhere {
			opt.Blobs = check.NoBlobs
		}
		if m.BlobsElsewhere != "" && cfg.S3.Bucket == "" && !elsewhere {
			return fmt.Errorf("the backup has no blobs: they are in %s; set PDS_BLOBSTORE_S3_BUCKET and what belongs to it", m.BlobsElsewhere)
		}
		// The keys are those of the backup itself.
		own := *cfg
		own.DataDirectory = d.Path
		if err := own.CheckKeys(); err != nil {
			return err
		}
		secrets, err := own.Secrets()
		if err != nil {
			return err
		}
		s, err := inDir(d, secrets.MasterKeys)
		if err != nil {
			return err
		}
		if err := s.Accounts.Repair(ctx); err != nil {
			return err
		}
		putBack := m.BlobsCopied && d.Bucket != nil
		if putBack { // from the folder of the backup, what the bucket has lost
			s.Database = d.DB.Check
			opt.Blobs, opt.From = check.ReadBlobs, func(ctx context.Context, did syntax.DID, blob cid.Cid) (io.ReadCloser, storage.BlobInfo, error) {
				return datadir.Layout.Blob(ctx, d.Path, did, blob)
			}
		} else if !c.values.acceptMissing && !elsewhere {
			if err := s.BlobsThere(ctx); err != nil {
				return fmt.Errorf("the backup has no blobs: %w (pds restore -accept-missing-blobs restores the rest)", check.ErrNoBlobs)
			}
		}
		if c.values.fast && !putBack {
			err = d.Check(ctx)
		} else if done.report, err = s.Run(ctx, opt); err == nil {
			if n := done.report.MissingBlobs - m.Missing; n > 0 && !c.values.acceptMissing && !elsewhere {
				done.report.Add(check.FromOutside, "", "the backup has lost %d blobs (-accept-missing-blobs restores the rest)", n)
			}
			if done.report.Found > done.report.LostBlobs { // what the server had lost is no reason not to restore the rest
				err = problemsError(done.report)
			}
			if err == nil && putBack && done.report.Found == 0 {
				err = os.RemoveAll(d.Blobs)
			}
		}
		checked.done()
		if err != nil || c.values.noResync {
			return err
		}
		// Only a clock that somebody else confirms tells which revisions are from the future.
		confirmed, err := c.checkClock(ctx, cfg, s.Store.Events)
		if err != nil {
			return err
		}
		done.resynced, err = resyncAll(ctx, s, nil, confirmed, signed.at)
		signed.done()
		return err
	})
	if c.isRemote() {
		from, err := c.remote(cfg)
		if err != nil {
			return done, err
		}
		done.m, err = r.FromRemote(ctx, from, dest)
		return done, err
	}
	done.m, err = r.From(ctx, c.args[0], c.In, dest)
	return done, err
}

const verifyHelp = `
BACKUP is restored into a temporary folder, as "pds restore" does it, and everything is read:
digests, database, every repository, every blob. Then the folder is deleted. The server and the
backup do not change, and nothing is announced to the network. The folder (-temp) needs as much disk
space as the backup.

Blobs that are in a bucket and not in the backup are not checked.

The exit code is 0 if the backup can be restored, and 3 if it can be, but lacks blobs that the
server had lost.
`

func verifyFlags(c *call) {
	remoteFlag(c)
	c.BoolVar(&c.values.fast, "fast", false, "check only digests of files, not every repository and blob")
	c.StringVar(&c.values.temp, "temp", "", "the `folder` to restore into (default: the system's for temporary files)")
	identityFlag(c)
}

// verifyBackupCommand restores a backup for nothing but to see whether that works.
func verifyBackupCommand(ctx context.Context, c *call) (err error) {
	cfg, err := c.config()
	if err != nil {
		return err
	}
	temp, err := os.MkdirTemp(c.values.temp, "pds-verify-*")
	if err != nil {
		return err
	}
	defer func() { err = errors.Join(err, os.RemoveAll(temp)) }()
	trial := *cfg
	trial.BlobDirectory, trial.S3.Bucket, trial.DatabaseURL = "", "", "" // nothing of the server is touched
	c.values.noResync, c.values.trial = true, true
	done, err := c.restoreTo(ctx, &trial, filepath.Join(temp, "data"))
	if err != nil {
		return err
	}
	m := done.m
	text := fmt.Sprintf("The backup of %s made at %s can be restored.", m.Host, m.Created.Format("2006-01-02 15:04 MST"))
	if r := done.report; r != nil {
		text += fmt.Sprintf(" It has %s, %d records and %d blobs.", accountCount(r.Accounts), r.Records, r.Blobs)
	}
	if m.BlobsElsewhere != "" {
		text += fmt.Sprintf(" Its blobs are in %s, where nobody has looked.", m.BlobsElsewhere)
	}
	err = c.result(map[string]any{"backup": m, "check": done.report}, "%s", text)
	if err == nil && done.report != nil {
		err = problemsError(done.report)
	}
	return err
}

package cli

import (
	"context"
	"errors"
	"fmt"

	"github.com/pdskit/pdskit/examples/pds/internal/datadir"
	"github.com/pdskit/pdskit/internal/durablefile"
	"github.com/pdskit/pdskit/storage/blobfs"
)

const moveBlobsHelp = `
The blobs of a server that has them on disk are copied to another folder, and each copy is read
again. The old folder stays as it is.

    pds move-blobs /srv/pds-blobs      while the server runs; this may take long
    systemctl stop pds
    pds move-blobs /srv/pds-blobs      what has changed since
    (set PDS_BLOBSTORE_DISK_LOCATION=/srv/pds-blobs, install deploy/pds.service.d/blobs.conf)
    systemctl start pds

Until the second run has ended, a server refuses to use the new folder, and afterwards the old one.
The command can be killed at any moment; run it again to continue. Delete the old folder when "pds
check" finds no problem.

"pds migrate-storage" moves blobs between a disk and a bucket. The exit code is 3 if blobs are
damaged; they are copied as they are.
`

func moveBlobs(ctx context.Context, c *call) (err error) {
	cfg, err := c.config()
	if err != nil {
		return err
	}
	if cfg.S3.Bucket != "" {
		return fmt.Errorf("%w: the blobs are in the bucket %s: see pds help migrate-storage", errUsage, cfg.S3.Bucket)
	}
	opt := movingOptions(cfg)
	opt.Existing, opt.Alone = true, true
	d, err := datadir.Open(ctx, cfg.DataDirectory, opt)
	running := errors.Is(err, datadir.ErrInUse)
	if running {
		opt.Alone = false
		d, err = datadir.Open(ctx, cfg.DataDirectory, opt)
	}
	if err != nil {
		return err
	}
	defer func() { err = errors.Join(err, d.Close()) }()
	if err := d.OnlyMover(); err != nil {
		return err
	}
	from, to := absolute(d.Blobs), absolute(c.args[0])
	if err := datadir.CheckUnfinished(from); err != nil {
		return err
	}
	if err := durablefile.MkdirAll(to); err != nil {
		return err
	}
	if err := blobfs.Separate(from, to); err != nil {
		return fmt.Errorf("%w: %w", errUsage, err)
	}
	if err := datadir.BeginBlobs(to); err != nil {
		return err
	}
	shown := c.progress("blobs")
	done, err := blobfs.Copy(ctx, from, to, shown.at)
	shown.done()
	if err != nil {
		return fmt.Errorf("%w (the blobs in %s are as they were; run it again to go on)", err, from)
	}
	next := "The server is running: stop it, and run this again, which copies what has changed since."
	if !running {
		if err := datadir.EndBlobs(from, to); err != nil {
			return err
		}
		next = fmt.Sprintf("Set PDS_BLOBSTORE_DISK_LOCATION=%s, and start the server. When \"pds check\" finds all well, delete %s.", to, from)
	}
	err = c.result(map[string]any{"copied": done, "from": from, "to": to, "finished": !running},
		"%s has all %d blobs of %s; %d of them, %s, were copied now. %s", to, done.Files, from, done.Written, bytes64(done.Bytes), next)
	if len(done.Damaged) > 0 {
		err = errors.Join(err, withFirst(fmt.Errorf("%w: blobs are damaged, and were copied as they are; pds check says whose they are", errProblems), done.Damaged))
	}
	return err
}

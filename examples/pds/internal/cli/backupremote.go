package cli

import (
	"context"
	"fmt"
	"slices"
	"strings"

	"github.com/pdskit/pdskit/examples/pds/internal/config"
	"github.com/pdskit/pdskit/storage/backup"
	"github.com/pdskit/pdskit/storage/s3"
)

// remoteScheme begins the names of places in stores of objects.
const remoteScheme = "s3://"

func remoteFlag(c *call) {
	c.BoolVar(&c.values.inS3, "s3", false, "the argument is s3://BUCKET/PREFIX, with the credentials of PDS_BACKUP_S3_* or PDS_BLOBSTORE_S3_*")
}

// isRemote reports whether the argument is a place in a store of objects.
func (c *call) isRemote() bool { return strings.HasPrefix(c.args[0], remoteScheme) }

// place names where a backup is: a file or folder by its whole path.
func (c *call) place(at string) string {
	if at == "-" || strings.HasPrefix(at, remoteScheme) {
		return at
	}
	return absolute(at)
}

// remote is the place that the argument names, with what reaches it.
func (c *call) remote(cfg *config.Config) (to backup.Remote, err error) {
	name, prefix, _ := strings.Cut(strings.TrimPrefix(c.args[0], remoteScheme), "/")
	if i := strings.LastIndex("/"+prefix, "/generations/"); i >= 0 {
		to.Generation = strings.Trim(prefix[i+len("generations/"):], "/")
		prefix = prefix[:i]
	}
	to.Prefix = strings.Trim(prefix, "/")
	s := cfg.BackupS3
	if s.Bucket = name; s.AccessKeyID == "" {
		return to, fmt.Errorf("%w: PDS_BACKUP_S3_ACCESS_KEY_ID and PDS_BACKUP_S3_SECRET_ACCESS_KEY are not set, nor are those of PDS_BLOBSTORE_S3_* (and PDS_BACKUP_S3_ENDPOINT, unless the store is AWS)", errConfig)
	}
	if name == cfg.S3.Bucket && s.Endpoint == cfg.S3.Endpoint {
		fmt.Fprintf(c.Stderr, "warning: the bucket %s has the server's blobs, too: who loses it loses both\n", name)
	}
	to.Bucket, err = s3.New(s)
	if err != nil {
		return to, fmt.Errorf("%w: %w", errUsage, err)
	}
	return to, nil
}

// checkRemote looks at flags that say what the argument is.
func (c *call) checkRemote() error {
	switch {
	case c.values.inS3 && !c.isRemote():
		return fmt.Errorf("%w: -s3 is followed by s3://BUCKET/PREFIX", errUsage)
	case c.isRemote() && c.values.asTar:
		return fmt.Errorf("%w: -tar is for files: in a store of objects, each blob is an object", errUsage)
	}
	return nil
}

// toRemote makes a backup in a store of objects.
func (c *call) toRemote(ctx context.Context, cfg *config.Config, b backup.Backup, src backup.Source) (*backup.Manifest, error) {
	to, err := c.remote(cfg)
	if err != nil {
		return nil, err
	}
	if to.Generation != "" {
		return nil, fmt.Errorf("%w: a generation gets its name by itself: pds backup %s%s/PREFIX", errUsage, remoteScheme, "BUCKET")
	}
	return b.ToRemote(ctx, src, to)
}

// id stands for the recipients, in whichever order they were given.
func (r *recipients) id() string {
	var names []string
	for _, n := range r.names {
		names = append(names, strings.FieldsFunc(n, func(r rune) bool { return r == ',' || r == '\n' })...)
	}
	slices.Sort(names)
	return strings.Join(slices.Compact(names), ",")
}

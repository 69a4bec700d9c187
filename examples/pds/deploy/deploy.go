// Package deploy holds the files beside it that a server is set up with, for "pds init".
package deploy

import "embed"

// Files are unit files of systemd and configurations of proxies. Their names and paths are those of
// the operator's guide.
//
//go:embed pds.service pds-backup.service pds-backup.timer Caddyfile nginx.conf
var Files embed.FS

// Package deploy embeds the files in its folder with which a server is set up, for "pds init".
package deploy

import "embed"

// Files are unit files of systemd and configurations of proxies. Their names and paths are those of
// the operator's guide.
//
//go:embed pds.service pds-backup.service pds-backup.timer Caddyfile nginx.conf
var Files embed.FS

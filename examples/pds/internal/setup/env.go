package setup

import (
	"bytes"
	"fmt"
	"strings"
	"text/template"
)

// Env is the text of the configuration.
func (a Answers) Env() []byte {
	var b bytes.Buffer
	if err := envText.Execute(&b, a); err != nil {
		panic(fmt.Sprintf("setup: %v", err)) // the template is a constant
	}
	return b.Bytes()
}

// Quote writes a value as an environment file has it.
func Quote(s string) string {
	if !strings.ContainsAny(s, " \t\n\"'\\$`#") && s != "" {
		return s
	}
	return `"` + strings.NewReplacer(`\`, `\\`, `"`, `\"`, `$`, `\$`, "`", "\\`", "\n", `\n`).Replace(s) + `"`
}

var envText = template.Must(template.New("env").Funcs(template.FuncMap{"quote": Quote}).Parse(`# The configuration of a Personal Data Server, made by "pds init". "pds config" checks it; what is
# changed holds from the next start on ("systemctl restart pds"). All variables are in the operator's
# guide: https://github.com/pdskit/pdskit/blob/main/examples/pds/operations.md#all-variables
#
# It may have passwords in it: only the user of the server and root may read it.

# The name of the server. It is in the accounts' handles and DIDs: it cannot be changed later without
# moving them.
PDS_HOSTNAME={{.Hostname}}

# Everything is kept here: database, blobs, keys (secrets.json, with the administrator's password).
PDS_DATA_DIRECTORY={{.Data}}
# Blobs may be on another disk:
#PDS_BLOBSTORE_DISK_LOCATION=/srv/pds-blobs

{{if eq .TLS "acme" -}}
# The server listens on ports 443 and 80, and gets certificates for its name and its accounts' handles.
PDS_TLS_ACME=true
{{if .Email}}PDS_ACME_EMAIL={{quote .Email}}{{else}}#PDS_ACME_EMAIL=you@your.domain{{end}}
{{- else -}}
# The proxy in front ({{.TLS}}) speaks TLS, and reaches the server here.
PDS_BIND_ADDRESS={{if eq .TLS "other"}}0.0.0.0{{else}}127.0.0.1{{end}}
PDS_PORT={{.Port}}{{if eq .TLS "other"}}
# Its address, if it is neither on this machine nor in a private network:
#PDS_TRUSTED_PROXIES=192.0.2.1{{end}}
{{- end}}

# Mail: users need it to reset passwords and to move away. Special characters of the user and the
# password are written as %XX: @ is %40. "pds mail-test you@your.domain" tries it.
{{if .SMTP}}PDS_EMAIL_SMTP_URL={{quote .SMTP}}
PDS_EMAIL_FROM_ADDRESS={{quote .From}}{{else}}#PDS_EMAIL_SMTP_URL=smtps://user:password@smtp.your.domain:465
#PDS_EMAIL_FROM_ADDRESS="The PDS <pds@your.domain>"{{end}}

# New accounts need an invite code ("pds invite create").
PDS_INVITE_REQUIRED=true

# The network: the AppView that answers what this server does not, where reports go, and the relays
# that read this server.{{if not .Network}} Without them, nobody learns what is written here.{{end}}
{{$c := "#"}}{{if .Network}}{{$c = ""}}{{end -}}
{{$c}}PDS_BSKY_APP_VIEW_URL=https://api.bsky.app
{{$c}}PDS_BSKY_APP_VIEW_DID=did:web:api.bsky.app
{{$c}}PDS_REPORT_SERVICE_URL=https://mod.bsky.app
{{$c}}PDS_REPORT_SERVICE_DID=did:plc:ar7c4by46qjdydhdevvrndac
{{$c}}PDS_CRAWLERS=https://bsky.network

# Videos are large.
PDS_BLOB_UPLOAD_LIMIT=104857600

# For Prometheus, on this machine only.
PDS_METRICS_ADDRESS=127.0.0.1:2590

{{if .Email}}PDS_CONTACT_EMAIL_ADDRESS={{quote .Email}}{{else}}#PDS_CONTACT_EMAIL_ADDRESS=you@your.domain{{end}}
`))

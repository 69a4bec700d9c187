// Package config reads the environment of the reference server: the PDS_*
// variables of the official server, all problems reported at once.
package config

import (
	"errors"
	"fmt"
	"net/url"
	"slices"
	"strconv"
	"strings"

	"github.com/pdskit/pdskit/crypto"
	"github.com/pdskit/pdskit/lexicon/syntax"
)

// Config is how the server is set up. Load fills in what the environment leaves open.
type Config struct {
	// DevMode allows what is only good on one's own machine: plain HTTP, private
	// addresses, and an in-process did:plc directory. PDS_DEV_MODE; default: whether
	// the hostname is localhost.
	DevMode bool
	// Port to listen on; 0 lets the system choose. PDS_PORT, default 2583.
	Port int
	// Hostname under which the server is reached. PDS_HOSTNAME, default localhost.
	Hostname string
	// ServiceDID is the server's own DID. PDS_SERVICE_DID, default did:web:HOSTNAME.
	ServiceDID syntax.DID
	// DataDirectory holds all data. PDS_DATA_DIRECTORY, default ./pds-data.
	DataDirectory string
	// PLC is the did:plc directory. PDS_DID_PLC_URL; default: one in the process
	// in development mode, else https://plc.directory.
	PLC string
	// HandleDomains are the domains, with a leading dot, under which accounts get
	// handles. PDS_SERVICE_HANDLE_DOMAINS, default .test on localhost, else .HOSTNAME.
	HandleDomains []string
	// InviteRequired demands an invite code for a new account. PDS_INVITE_REQUIRED;
	// default: not in development mode.
	InviteRequired bool
	// AdminPassword, JWTSecret and PLCRotationKey are secrets: PDS_ADMIN_PASSWORD,
	// PDS_JWT_SECRET, PDS_PLC_ROTATION_KEY_K256_PRIVATE_KEY_HEX. Those not given are
	// generated: see Secrets.
	AdminPassword  string
	JWTSecret      string
	PLCRotationKey string // hex
	// RecoveryKey is a did:key of the operator's that may recover accounts' DIDs.
	// PDS_RECOVERY_DID_KEY.
	RecoveryKey string
	// BlobLimit is the size in bytes of the largest blob. PDS_BLOB_UPLOAD_LIMIT,
	// default 5 MiB, as in the official server.
	BlobLimit int64
	// EmailSMTPURL is the mail server, smtp:// or smtps://, and EmailFrom the sender of
	// messages: PDS_EMAIL_SMTP_URL, PDS_EMAIL_FROM_ADDRESS. Without a server, messages are
	// logged, or appended to the file EmailSink: PDS_EMAIL_SINK_FILE.
	EmailSMTPURL, EmailFrom, EmailSink string
	// What describeServer says: PDS_PRIVACY_POLICY_URL,
	// PDS_TERMS_OF_SERVICE_URL, PDS_CONTACT_EMAIL_ADDRESS.
	PrivacyPolicy, TermsOfService, ContactEmail string
}

// Load reads the configuration through getenv. Its error names every variable
// that is wrong.
func Load(getenv func(string) string) (*Config, error) {
	r := reader{getenv: getenv}
	c := &Config{
		Port:           r.integer("PDS_PORT", 2583, 0, 65535),
		Hostname:       strings.ToLower(r.text("PDS_HOSTNAME", "localhost")),
		DataDirectory:  r.text("PDS_DATA_DIRECTORY", "pds-data"),
		PLC:            strings.TrimSuffix(r.url("PDS_DID_PLC_URL"), "/"),
		AdminPassword:  getenv("PDS_ADMIN_PASSWORD"),
		JWTSecret:      getenv("PDS_JWT_SECRET"),
		PLCRotationKey: r.key("PDS_PLC_ROTATION_KEY_K256_PRIVATE_KEY_HEX"),
		RecoveryKey:    getenv("PDS_RECOVERY_DID_KEY"),
		BlobLimit:      int64(r.integer("PDS_BLOB_UPLOAD_LIMIT", 5<<20, 1, 1<<40)),
		EmailSMTPURL:   getenv("PDS_EMAIL_SMTP_URL"),
		EmailFrom:      getenv("PDS_EMAIL_FROM_ADDRESS"),
		EmailSink:      getenv("PDS_EMAIL_SINK_FILE"),
		PrivacyPolicy:  r.url("PDS_PRIVACY_POLICY_URL"),
		TermsOfService: r.url("PDS_TERMS_OF_SERVICE_URL"),
		ContactEmail:   getenv("PDS_CONTACT_EMAIL_ADDRESS"),
	}
	local := c.Hostname == "localhost"
	if _, err := syntax.ParseHandle(c.Hostname); err != nil && !local {
		r.wrong("PDS_HOSTNAME", "%q is not a host name", c.Hostname)
	}
	c.DevMode = r.boolean("PDS_DEV_MODE", local)
	c.InviteRequired = r.boolean("PDS_INVITE_REQUIRED", !c.DevMode)
	if c.PLC == "" && !c.DevMode {
		c.PLC = "https://plc.directory"
	}
	did, err := syntax.ParseDID(r.text("PDS_SERVICE_DID", "did:web:"+c.Hostname))
	if err != nil && r.set("PDS_SERVICE_DID") {
		r.wrong("PDS_SERVICE_DID", "%v", err)
	}
	c.ServiceDID = did
	domains := "." + c.Hostname
	if local {
		domains = ".test"
	}
	c.HandleDomains = r.domains("PDS_SERVICE_HANDLE_DOMAINS", domains)
	if c.RecoveryKey != "" {
		if _, err := crypto.ParseDIDKey(c.RecoveryKey); err != nil {
			r.wrong("PDS_RECOVERY_DID_KEY", "%v", err)
		}
	}
	return c, errors.Join(r.problems...)
}

// PublicURL is the address of the server as it stands in DID documents, for the
// port that it listens on.
func (c *Config) PublicURL(port int) string {
	if c.Hostname == "localhost" {
		return fmt.Sprintf("http://localhost:%d", port)
	}
	return "https://" + c.Hostname
}

// reader reads variables and collects what is wrong with them.
type reader struct {
	getenv   func(string) string
	problems []error
}

func (r *reader) wrong(name, format string, args ...any) {
	r.problems = append(r.problems, fmt.Errorf("%s: %s", name, fmt.Sprintf(format, args...)))
}

func (r *reader) set(name string) bool { return r.getenv(name) != "" }

func (r *reader) text(name, fallback string) string {
	if v := r.getenv(name); v != "" {
		return v
	}
	return fallback
}

func (r *reader) integer(name string, fallback, least, most int) int {
	v := r.getenv(name)
	if v == "" {
		return fallback
	}
	n, err := strconv.Atoi(v)
	if err != nil || n < least || n > most {
		r.wrong(name, "%q is not a number from %d to %d", v, least, most)
	}
	return n
}

func (r *reader) boolean(name string, fallback bool) bool {
	switch v := strings.ToLower(r.getenv(name)); v {
	case "":
		return fallback
	case "1", "true":
		return true
	case "0", "false":
		return false
	default:
		r.wrong(name, "%q is neither true nor false", v)
		return fallback
	}
}

func (r *reader) url(name string) string {
	v := r.getenv(name)
	if v == "" {
		return ""
	}
	u, err := url.Parse(v)
	if err != nil || u.Scheme != "http" && u.Scheme != "https" || u.Host == "" {
		r.wrong(name, "%q is not an http or https URL", v)
	}
	return v
}

func (r *reader) key(name string) string {
	v := r.getenv(name)
	if v == "" {
		return ""
	}
	if _, err := parseKey(v); err != nil {
		r.wrong(name, "not a K-256 private key in hexadecimal")
	}
	return v
}

func (r *reader) domains(name, fallback string) []string {
	var list []string
	for d := range strings.SplitSeq(strings.ToLower(r.text(name, fallback)), ",") {
		d = strings.TrimSpace(d)
		if _, err := syntax.ParseHandle("x" + d); err != nil || !strings.HasPrefix(d, ".") {
			r.wrong(name, "%q is not a domain with a leading dot", d)
			continue
		}
		if !slices.Contains(list, d) {
			list = append(list, d)
		}
	}
	return list
}

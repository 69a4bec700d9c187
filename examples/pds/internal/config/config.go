// Package config reads the environment of the reference server: the PDS_* variables of the official
// server and some additional ones.
//
// It reads and checks everything at once, so that all errors are reported together. A value that is
// valid but probably a mistake (a misspelled name, a variable of the official server without effect
// here) is a warning.
package config

import (
	"errors"
	"fmt"
	"log/slog"
	"net/netip"
	"strings"
	"time"

	"github.com/pdskit/pdskit/crypto"
	"github.com/pdskit/pdskit/lexicon/syntax"
	"github.com/pdskit/pdskit/storage/s3"
	"github.com/pdskit/pdskit/xrpc/limit"
)

// Config is how the server is set up. Load fills in what the environment leaves open.
type Config struct {
	// DevMode allows what is only good on one's own machine: plain HTTP, private
	// addresses, and an in-process did:plc directory. PDS_DEV_MODE; default: whether
	// the hostname is localhost.
	DevMode bool
	// Port to listen on; 0 lets the system choose. PDS_PORT, default 2583, or 443
	// with ACME.
	Port int
	// Bind is the address to listen on. PDS_BIND_ADDRESS; default: localhost in
	// development mode, else all addresses ("").
	Bind string
	// Hostname under which the server is reached. PDS_HOSTNAME, default localhost.
	Hostname string
	// ServiceDID is the server's own DID. PDS_SERVICE_DID, default did:web:HOSTNAME.
	ServiceDID syntax.DID
	// DataDirectory holds all data. PDS_DATA_DIRECTORY, default ./pds-data.
	DataDirectory string
	// DatabaseURL is the connection string of the PostgreSQL database that has accounts,
	// repositories and events instead of a file in the data directory. PDS_DATABASE_URL; empty:
	// SQLite.
	DatabaseURL string
	// NodeID names this process among those that share the database, PDS_NODE_ID; default: the name
	// of the machine, and something random. NodeLease is for how long one leads that does not
	// answer, PDS_NODE_LEASE_MS, default 15 seconds.
	NodeID    string
	NodeLease time.Duration
	// DrainDelay is how long the server goes on after a signal to end, with status 503 as its
	// health, until load balancers have noticed; DrainTimeout bounds how long requests may take
	// then. In milliseconds: PDS_SHUTDOWN_DELAY_MS, default 0; PDS_SHUTDOWN_TIMEOUT_MS, default 5
	// seconds.
	DrainDelay, DrainTimeout time.Duration
	// BlobDirectory holds the blobs. PDS_BLOBSTORE_DISK_LOCATION; default ("") the
	// folder pds.sqlite.blobs in the data directory.
	BlobDirectory string
	// BackupS3 is how "pds backup s3://BUCKET/PREFIX" reaches a store of objects: by
	// PDS_BACKUP_S3_ENDPOINT, _REGION, _FORCE_PATH_STYLE, _ACCESS_KEY_ID and _SECRET_ACCESS_KEY,
	// or, if there are no such credentials, as S3. Its Bucket is empty.
	BackupS3 s3.Config
	// S3 is the bucket that has the blobs instead. PDS_BLOBSTORE_S3_BUCKET, _REGION, _ENDPOINT,
	// _FORCE_PATH_STYLE, _ACCESS_KEY_ID, _SECRET_ACCESS_KEY, _UPLOAD_TIMEOUT_MS,
	// _REQUEST_TIMEOUT_MS. Zero: blobs are on disk.
	S3 s3.Config
	// KeepDeleted is for how long the bucket keeps blobs that were deleted, so that a backup from
	// before can be restored. PDS_BLOBSTORE_S3_KEEP_DELETED_MS, default 7 days.
	KeepDeleted time.Duration
	// HandleDomains are the domains, with a leading dot, under which accounts get
	// handles. PDS_SERVICE_HANDLE_DOMAINS, default .test on localhost, else .HOSTNAME.
	HandleDomains []string

	// AdminPassword, JWTSecret and PLCRotationKeys are secrets: PDS_ADMIN_PASSWORD,
	// PDS_JWT_SECRET, PDS_PLC_ROTATION_KEY_K256_PRIVATE_KEY_HEX. Those not given are
	// generated: see Secrets. Weak ones are refused, or a warning in development mode.
	AdminPassword string
	JWTSecret     string
	// PLCRotationKeys, in hexadecimal: the first one is that of new DIDs, the others those of older
	// ones until it takes their place.
	PLCRotationKeys []string
	// MasterKeys, in hexadecimal, seal the accounts' signing keys; the first one what is
	// sealed from now on. PDS_MASTER_KEY, separated by commas; default: one in
	// secrets.json.
	MasterKeys []string
	// RecoveryKey is a did:key of the operator's that may recover accounts' DIDs.
	// PDS_RECOVERY_DID_KEY.
	RecoveryKey string

	// PLC is the did:plc directory. PDS_DID_PLC_URL; default: one in the process
	// in development mode, else https://plc.directory.
	PLC string
	// IdentityTTL and IdentityMaxTTL are for how long a resolved identity is believed,
	// and used while it cannot be refreshed; IdentityTimeout bounds one resolution.
	// In milliseconds: PDS_DID_CACHE_STALE_TTL (1 hour), PDS_DID_CACHE_MAX_TTL (1 day),
	// PDS_ID_RESOLVER_TIMEOUT (3 seconds).
	IdentityTTL, IdentityMaxTTL, IdentityTimeout time.Duration
	// AllowPrivateAddresses lets the server call addresses of private networks that strangers
	// have named. PDS_DISABLE_SSRF_PROTECTION, default: whether in development mode.
	AllowPrivateAddresses bool

	// InviteRequired demands an invite code for a new account. PDS_INVITE_REQUIRED;
	// default: not in development mode.
	InviteRequired bool
	// InviteInterval is how often an account gets a code to give away, counted from
	// InviteEpoch. In milliseconds: PDS_INVITE_INTERVAL, default never (0);
	// PDS_INVITE_EPOCH, in Unix time.
	InviteInterval time.Duration
	InviteEpoch    time.Time

	Mail   Mail
	Limits Limits
	Proxy  Proxy
	TLS    TLS
	Log    Log

	// BlobLimit is the size in bytes of the largest blob. PDS_BLOB_UPLOAD_LIMIT,
	// default 5 MiB, as in the official server.
	BlobLimit int64
	// BlobQuota is how many bytes of blobs an account may have. PDS_BLOB_ACCOUNT_QUOTA, default 0:
	// no limit, but 32 GiB for an account that is not active.
	BlobQuota int64
	// AcceptImports allows importRepo, of at most ImportLimit bytes (0: 1 GiB).
	// PDS_ACCEPTING_REPO_IMPORTS, default true; PDS_MAX_REPO_IMPORT_SIZE.
	AcceptImports bool
	ImportLimit   int64
	// TreeCache is how many bytes of memory the trees of repositories may take that are kept
	// between uses. PDS_TREE_CACHE_SIZE, default 128 MiB.
	TreeCache int64
	// SpoolLimit is how many bytes of downloads and imports may wait in temporary files.
	// PDS_SPOOL_SIZE, default 2 GiB.
	SpoolLimit int64
	// Backfill is for how long events can be replayed. In milliseconds:
	// PDS_REPO_BACKFILL_LIMIT_MS, default 3 days.
	Backfill time.Duration
	// Crawlers are the relays that are told of the server. PDS_CRAWLERS, default none.
	Crawlers []string
	// Jetstream serves events as JSON besides. PDS_JETSTREAM, default false. JetstreamDictionary
	// and JetstreamDictionaryV2 are files with the dictionaries of version 1 and 2 for compression
	// with zstd. PDS_JETSTREAM_DICTIONARY, default none: version 1 is compressed without one;
	// PDS_JETSTREAM_V2_DICTIONARY, default none: version 2 is not compressed.
	Jetstream                                  bool
	JetstreamDictionary, JetstreamDictionaryV2 string
	// ClockCheck refuses to sign while the clock is found to be wrong. Without, that is only logged
	// and shown in the metrics. PDS_CLOCK_CHECK, default true.
	ClockCheck bool
	// Now is the clock, for tests. Nil: time.Now.
	Now func() time.Time
	// Metrics is the address of a listener for metrics and profiles, as
	// "127.0.0.1:2590". PDS_METRICS_ADDRESS, default none.
	Metrics string

	// UpdateFeed is asked once a day whether there is a newer version. PDS_UPDATE_CHECK: false, the
	// default; true for the project's list of releases; or the address of another one.
	UpdateFeed string

	// AdminPages are the administrator's pages at /admin. PDS_ADMIN_PAGES, default true.
	AdminPages bool

	// What describeServer and the pages say: PDS_SERVICE_NAME, PDS_HOME_URL, PDS_LOGO_URL,
	// PDS_SUPPORT_URL, PDS_PRIVACY_POLICY_URL, PDS_TERMS_OF_SERVICE_URL,
	// PDS_CONTACT_EMAIL_ADDRESS.
	ServiceName                                        string
	Home, Logo, Support, PrivacyPolicy, TermsOfService string
	ContactEmail                                       string
	// Colour is that of buttons, "#1d4ed8". PDS_PRIMARY_COLOR, default that of package site.
	Colour string
	// TrustedApps are the client_ids of apps that the operator vouches for.
	// PDS_OAUTH_TRUSTED_CLIENTS.
	TrustedApps []string

	// EnvFile is the environment file that was read, if there is one. Load does not know it.
	EnvFile string
	// Warnings are about variables that are probably not meant as they are.
	Warnings []string
}

// Mail is about mail to users.
type Mail struct {
	// SMTP is the mail server, smtp:// or smtps://, and From the sender of messages:
	// PDS_EMAIL_SMTP_URL, PDS_EMAIL_FROM_ADDRESS. Without a server, messages are logged. If there
	// is a file Sink, PDS_EMAIL_SINK_FILE, they are appended to it instead, as lines of JSON.
	SMTP, From, Sink string
	// ModerationSMTP and ModerationFrom are for mail of the administrators:
	// PDS_MODERATION_EMAIL_SMTP_URL, PDS_MODERATION_EMAIL_ADDRESS; default SMTP and From.
	ModerationSMTP, ModerationFrom string
}

// Limits is about the rate of requests.
type Limits struct {
	// Enabled turns limits on. PDS_RATE_LIMITS_ENABLED; default: not in development mode.
	Enabled bool
	// BypassKey in the header X-Ratelimit-Bypass, or an address in Bypass,
	// exempts a request. PDS_RATE_LIMIT_BYPASS_KEY, PDS_RATE_LIMIT_BYPASS_IPS.
	BypassKey string
	Bypass    []netip.Prefix
	// TrustedProxies are the networks whose X-Forwarded-For is believed.
	// PDS_TRUSTED_PROXIES; default: this machine and private networks, besides Bypass.
	TrustedProxies []netip.Prefix
}

// Service is another server: its address and its DID.
type Service struct {
	URL string
	DID syntax.DID
}

// Proxy is about requests that are passed on.
type Proxy struct {
	// AppView answers what this server does not: PDS_BSKY_APP_VIEW_URL, _DID; CDN is the
	// pattern of its image addresses: PDS_BSKY_APP_VIEW_CDN_URL_PATTERN.
	AppView Service
	CDN     string
	// Moderation may act as an administrator: PDS_MOD_SERVICE_URL, _DID.
	Moderation Service
	// Reports gets the users' reports: PDS_REPORT_SERVICE_URL, _DID.
	Reports Service
	// HeadersTimeout and BodyTimeout bound the wait for an answer, and for
	// each part of it. In milliseconds: PDS_PROXY_HEADERS_TIMEOUT (10 seconds),
	// PDS_PROXY_BODY_TIMEOUT (30 seconds).
	HeadersTimeout, BodyTimeout time.Duration
	// MaxResponse bounds the bytes of an answer that must be held in memory.
	// PDS_PROXY_MAX_RESPONSE_SIZE, default 10 MiB.
	MaxResponse int64
}

// TLS is about encryption by the server itself.
type TLS struct {
	// ACME gets certificates for the server's name and its accounts' handles.
	// PDS_TLS_ACME, default false: a proxy in front does that.
	ACME bool
	// Email is the contact of the ACME account: PDS_ACME_EMAIL. Directory is the
	// authority: PDS_ACME_DIRECTORY_URL, default Let's Encrypt.
	Email, Directory string
	// HTTPPort is where HTTP is redirected to HTTPS and challenges are answered.
	// PDS_HTTP_PORT, default 80; -1: nowhere.
	HTTPPort int
}

// Log is about the log, which goes to standard error.
type Log struct {
	// Level is the least that is logged: trace, debug, info, warn, error, or off.
	// PDS_LOG_LEVEL or LOG_LEVEL, default info; LOG_ENABLED=false: off.
	Level slog.Level
	// JSON writes objects in lines. PDS_LOG_FORMAT, text or json; default text.
	JSON bool
}

// LogOff is a level above all.
const LogOff = slog.Level(100)

// Load reads the configuration from an environment. Its error names every variable
// that is wrong.
func Load(env map[string]string) (*Config, error) {
	r := reader{env: env, known: make(map[string]bool)}
	c := r.load()
	c.Warnings = r.warnings
	return c, errors.Join(r.problems...)
}

// load reads everything.
func (r *reader) load() *Config {
	c := &Config{
		Hostname:        strings.ToLower(r.text("PDS_HOSTNAME", "localhost")),
		Bind:            r.text("PDS_BIND_ADDRESS", ""),
		DataDirectory:   r.text("PDS_DATA_DIRECTORY", "pds-data"),
		DatabaseURL:     r.text("PDS_DATABASE_URL", ""),
		NodeID:          r.text("PDS_NODE_ID", ""),
		NodeLease:       r.millis("PDS_NODE_LEASE_MS", 15*time.Second),
		DrainDelay:      r.millis("PDS_SHUTDOWN_DELAY_MS", 0),
		DrainTimeout:    r.millis("PDS_SHUTDOWN_TIMEOUT_MS", 5*time.Second),
		BlobDirectory:   r.text("PDS_BLOBSTORE_DISK_LOCATION", ""),
		S3:              r.s3(),
		KeepDeleted:     r.millis("PDS_BLOBSTORE_S3_KEEP_DELETED_MS", 7*24*time.Hour),
		AdminPassword:   r.text("PDS_ADMIN_PASSWORD", ""),
		JWTSecret:       r.text("PDS_JWT_SECRET", ""),
		PLCRotationKeys: r.keys("PDS_PLC_ROTATION_KEY_K256_PRIVATE_KEY_HEX"),
		RecoveryKey:     r.text("PDS_RECOVERY_DID_KEY", ""),
		MasterKeys:      r.masterKeys("PDS_MASTER_KEY"),

		PLC:             r.url("PDS_DID_PLC_URL"),
		IdentityTTL:     r.millis("PDS_DID_CACHE_STALE_TTL", time.Hour),
		IdentityMaxTTL:  r.millis("PDS_DID_CACHE_MAX_TTL", 24*time.Hour),
		IdentityTimeout: r.millis("PDS_ID_RESOLVER_TIMEOUT", 3*time.Second),

		BlobLimit:     r.size("PDS_BLOB_UPLOAD_LIMIT", 5<<20),
		BlobQuota:     r.size("PDS_BLOB_ACCOUNT_QUOTA", 0),
		AcceptImports: r.boolean("PDS_ACCEPTING_REPO_IMPORTS", true),
		ImportLimit:   r.size("PDS_MAX_REPO_IMPORT_SIZE", 0),
		TreeCache:     r.size("PDS_TREE_CACHE_SIZE", 128<<20),
		SpoolLimit:    r.size("PDS_SPOOL_SIZE", 2<<30),
		Backfill:      r.millis("PDS_REPO_BACKFILL_LIMIT_MS", 72*time.Hour),
		Crawlers:      r.urls("PDS_CRAWLERS"),
		ClockCheck:    r.boolean("PDS_CLOCK_CHECK", true),
		Jetstream:     r.boolean("PDS_JETSTREAM", false),
		Metrics:       r.address("PDS_METRICS_ADDRESS"),
		UpdateFeed:    r.updates(),

		JetstreamDictionary: r.text("PDS_JETSTREAM_DICTIONARY", ""), JetstreamDictionaryV2: r.text("PDS_JETSTREAM_V2_DICTIONARY", ""),

		AdminPages:     r.boolean("PDS_ADMIN_PAGES", true),
		ServiceName:    r.text("PDS_SERVICE_NAME", ""),
		Home:           r.url("PDS_HOME_URL"),
		Logo:           r.url("PDS_LOGO_URL"),
		Support:        r.url("PDS_SUPPORT_URL"),
		PrivacyPolicy:  r.url("PDS_PRIVACY_POLICY_URL"),
		TermsOfService: r.url("PDS_TERMS_OF_SERVICE_URL"),
		ContactEmail:   r.text("PDS_CONTACT_EMAIL_ADDRESS", ""),
		Colour:         r.colour("PDS_PRIMARY_COLOR"),
		TrustedApps:    r.list("PDS_OAUTH_TRUSTED_CLIENTS"),
	}
	local := c.Hostname == "localhost"
	if _, err := syntax.ParseHandle(c.Hostname); err != nil && !local {
		r.wrong("PDS_HOSTNAME", "%q is not a host name (without https:// and port)", c.Hostname)
	}
	c.DevMode = r.boolean("PDS_DEV_MODE", local)
	c.AllowPrivateAddresses = r.boolean("PDS_DISABLE_SSRF_PROTECTION", c.DevMode)
	if c.PLC == "" && !c.DevMode {
		c.PLC = "https://plc.directory"
	}
	if c.Bind == "" && c.DevMode {
		c.Bind = "localhost"
	}
	domains := "." + c.Hostname
	if local {
		domains = ".test"
	}
	c.HandleDomains = r.domains("PDS_SERVICE_HANDLE_DOMAINS", domains)
	c.ServiceDID = r.did("PDS_SERVICE_DID")
	if c.ServiceDID == "" {
		c.ServiceDID = syntax.DID("did:web:" + c.Hostname)
	}
	if c.RecoveryKey != "" {
		if _, err := crypto.ParseDIDKey(c.RecoveryKey); err != nil {
			r.wrong("PDS_RECOVERY_DID_KEY", "%v", err)
		}
	}
	c.InviteRequired = r.boolean("PDS_INVITE_REQUIRED", !c.DevMode)
	c.InviteInterval = r.millis("PDS_INVITE_INTERVAL", 0)
	c.InviteEpoch = time.UnixMilli(r.millis("PDS_INVITE_EPOCH", 0).Milliseconds())
	c.Mail = r.mail(c.DevMode)
	c.Limits = r.limits(c.DevMode)
	r.secrets(c)
	c.Proxy = r.proxy()
	c.TLS = r.tls(local)
	fallback := 2583
	if c.TLS.ACME {
		fallback = 443
	}
	c.BackupS3 = r.backupS3(c.S3)
	c.Port = r.integer("PDS_PORT", fallback, 0, 65535)
	c.Log = r.log()
	r.misleading(c)
	r.unknown()
	return c
}

// s3 is the bucket of the blobs, if one is named.
func (r *reader) s3() s3.Config {
	const p = "PDS_BLOBSTORE_S3_"
	c := s3.Config{
		Bucket: r.text(p+"BUCKET", ""), Region: r.text(p+"REGION", ""), Endpoint: r.text(p+"ENDPOINT", ""),
		ForcePathStyle: r.boolean(p+"FORCE_PATH_STYLE", false),
		AccessKeyID:    r.text(p+"ACCESS_KEY_ID", ""), SecretAccessKey: r.text(p+"SECRET_ACCESS_KEY", ""),
		UploadTimeout: r.millis(p+"UPLOAD_TIMEOUT_MS", 5*time.Minute), StallTimeout: r.millis(p+"REQUEST_TIMEOUT_MS", 15*time.Second),
	}
	switch {
	case c.Bucket == "" && (c.Endpoint != "" || c.AccessKeyID != ""):
		r.wrong(p+"BUCKET", "is not set, but other variables of it are")
	case c.Bucket == "":
		return s3.Config{}
	case r.set("PDS_BLOBSTORE_DISK_LOCATION"):
		r.wrong(p+"BUCKET", "and PDS_BLOBSTORE_DISK_LOCATION are both set: blobs are in a bucket or on disk")
	default:
		if _, err := s3.New(c); err != nil {
			r.wrong(p+"BUCKET", "%v", err)
		}
	}
	return c
}

// backupUpload is how long the upload of a database to a backup may take, as long as it makes
// progress.
const backupUpload = 24 * time.Hour

// backupS3 is how a store of objects for backups is reached.
func (r *reader) backupS3(blobs s3.Config) s3.Config {
	const p = "PDS_BACKUP_S3_"
	c := s3.Config{
		Region: r.text(p+"REGION", ""), Endpoint: r.text(p+"ENDPOINT", ""), ForcePathStyle: r.boolean(p+"FORCE_PATH_STYLE", false),
		AccessKeyID: r.text(p+"ACCESS_KEY_ID", ""), SecretAccessKey: r.text(p+"SECRET_ACCESS_KEY", ""),
	}
	switch {
	case (c.AccessKeyID == "") != (c.SecretAccessKey == ""):
		r.wrong(p+"ACCESS_KEY_ID", "and PDS_BACKUP_S3_SECRET_ACCESS_KEY are set together, or not at all")
	case c.AccessKeyID == "" && c.Endpoint+c.Region != "":
		r.wrong(p+"ACCESS_KEY_ID", "is not set, but other variables of it are")
	case c.AccessKeyID == "":
		c = blobs
		c.Bucket = ""
	}
	c.UploadTimeout = backupUpload
	return c
}

// mail reads what is about mail.
func (r *reader) mail(dev bool) Mail {
	m := Mail{
		SMTP: r.smtp("PDS_EMAIL_SMTP_URL"),
		From: r.sender("PDS_EMAIL_FROM_ADDRESS"),
		Sink: r.text("PDS_EMAIL_SINK_FILE", ""),
	}
	m.ModerationSMTP = r.smtp("PDS_MODERATION_EMAIL_SMTP_URL")
	m.ModerationFrom = r.sender("PDS_MODERATION_EMAIL_ADDRESS")
	switch {
	case m.SMTP != "" && m.From == "":
		r.wrong("PDS_EMAIL_FROM_ADDRESS", "needed with PDS_EMAIL_SMTP_URL")
	case m.Sink != "" && !dev:
		r.warn("PDS_EMAIL_SINK_FILE is set: mail is written there and sent to nobody")
	case m.SMTP == "" && !dev:
		r.warn("PDS_EMAIL_SMTP_URL is not set: mail is written to the log and sent to nobody")
	}
	if m.ModerationSMTP == "" {
		m.ModerationSMTP = m.SMTP
	}
	if m.ModerationFrom == "" {
		m.ModerationFrom = m.From
	}
	return m
}

// limits reads what is about the rate of requests.
func (r *reader) limits(dev bool) Limits {
	l := Limits{
		Enabled:   r.boolean("PDS_RATE_LIMITS_ENABLED", !dev),
		BypassKey: r.text("PDS_RATE_LIMIT_BYPASS_KEY", ""),
		Bypass:    r.networks("PDS_RATE_LIMIT_BYPASS_IPS"),
	}
	l.TrustedProxies = append(limit.PrivateNetworks(), l.Bypass...)
	if r.set("PDS_TRUSTED_PROXIES") {
		l.TrustedProxies = r.networks("PDS_TRUSTED_PROXIES")
	}
	return l
}

// proxy reads what is about requests that are passed on.
func (r *reader) proxy() Proxy {
	p := Proxy{
		AppView:        r.service("PDS_BSKY_APP_VIEW"),
		CDN:            r.text("PDS_BSKY_APP_VIEW_CDN_URL_PATTERN", ""),
		Moderation:     r.service("PDS_MOD_SERVICE"),
		Reports:        r.service("PDS_REPORT_SERVICE"),
		HeadersTimeout: r.millis("PDS_PROXY_HEADERS_TIMEOUT", 10*time.Second),
		BodyTimeout:    r.millis("PDS_PROXY_BODY_TIMEOUT", 30*time.Second),
		MaxResponse:    r.size("PDS_PROXY_MAX_RESPONSE_SIZE", 10<<20),
	}
	if p.CDN != "" && strings.Count(p.CDN, "%s") != 3 {
		r.wrong("PDS_BSKY_APP_VIEW_CDN_URL_PATTERN", "must have %%s three times: for preset, DID and CID")
	}
	return p
}

// tls reads what is about encryption.
func (r *reader) tls(local bool) TLS {
	t := TLS{
		ACME:      r.boolean("PDS_TLS_ACME", false),
		Email:     r.text("PDS_ACME_EMAIL", ""),
		Directory: r.url("PDS_ACME_DIRECTORY_URL"),
		HTTPPort:  r.integer("PDS_HTTP_PORT", 80, -1, 65535),
	}
	if t.ACME && local {
		r.wrong("PDS_TLS_ACME", "needs a PDS_HOSTNAME that the Internet knows")
	}
	return t
}

// log reads what is about the log. The names without PDS_ are the official server's.
func (r *reader) log() Log {
	var l Log
	name := "PDS_LOG_LEVEL"
	if !r.set(name) {
		name = "LOG_LEVEL"
	}
	switch v := strings.ToLower(r.text(name, "info")); v {
	case "trace", "debug":
		l.Level = slog.LevelDebug
	case "info":
		l.Level = slog.LevelInfo
	case "warn", "warning":
		l.Level = slog.LevelWarn
	case "error", "fatal":
		l.Level = slog.LevelError
	case "off", "silent":
		l.Level = LogOff
	default:
		r.wrong(name, "%q is none of trace, debug, info, warn, error, off", v)
	}
	if !r.boolean("LOG_ENABLED", true) {
		l.Level = LogOff
	}
	switch v := strings.ToLower(r.text("PDS_LOG_FORMAT", "text")); v {
	case "text":
	case "json":
		l.JSON = true
	default:
		r.wrong("PDS_LOG_FORMAT", "%q is neither text nor json", v)
	}
	return l
}

// PublicURL is the address of the server as it stands in DID documents, for the
// port that it listens on.
func (c *Config) PublicURL(port int) string {
	if c.Hostname == "localhost" {
		return fmt.Sprintf("http://localhost:%d", port)
	}
	return "https://" + c.Hostname
}

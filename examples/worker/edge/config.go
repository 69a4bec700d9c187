package edge

import (
	"cmp"
	"encoding/hex"
	"errors"
	"fmt"
	"log/slog"
	"maps"
	"net/url"
	"slices"
	"strconv"
	"strings"

	"github.com/pdskit/pdskit/crypto"
	"github.com/pdskit/pdskit/identity"
	"github.com/pdskit/pdskit/lexicon/syntax"
	"github.com/pdskit/pdskit/xrpc/pds"
)

// Config is what the variables and secrets of a Worker say. ReadConfig reads it.
type Config struct {
	// Hosts are the host names of servers for one account each. PDS_HOSTNAMES, separated by commas
	// or spaces.
	Hosts []string
	// Host is the host name of a server for many accounts, and Domains are those below which they
	// have handles. PDS_HOSTNAME; PDS_SERVICE_HANDLE_DOMAINS, default: the host name.
	Host    string
	Domains []string
	// AccountObjects gives each account of Host an object of its own: see Part. It cannot be
	// changed once there are accounts. PDS_ACCOUNT_OBJECTS, default false.
	AccountObjects bool
	// Secrets are PDS_MASTER_KEY, PDS_PLC_ROTATION_KEY_K256_PRIVATE_KEY_HEX and PDS_ADMIN_PASSWORD.
	// The keys may be several, separated by commas: the first one is used from now on.
	Secrets pds.Secrets
	// RecoveryKey is a did:key that gets authority over new DIDs. PDS_RECOVERY_DID_KEY, default
	// none.
	RecoveryKey string
	// PLC is the address of the did:plc directory. PDS_DID_PLC_URL.
	PLC string
	// DNS is the address of the server that is asked for the TXT records of handles. PDS_DNS_URL.
	DNS string
	// AppView answers app.bsky methods: PDS_BSKY_APP_VIEW_URL, _DID; "off" for the URL: nobody
	// does.
	AppView pds.AppView
	// Reports gets reports: PDS_REPORT_SERVICE_URL, _DID.
	Reports pds.Service
	// Relays are asked to read the server. PDS_CRAWLERS; "off": none are.
	Relays []string
	// BlobLimit and BlobQuota bound a blob and all of an account, in bytes. PDS_BLOB_UPLOAD_LIMIT,
	// default 100 MB; PDS_BLOB_ACCOUNT_QUOTA, default 0: none (32 GiB for an account that is not
	// active).
	BlobLimit, BlobQuota int64
	// InviteRequired: a new account needs an invite code. PDS_INVITE_REQUIRED, default true.
	InviteRequired bool
	// MailURL, MailToken and MailFrom send mail: see mail.HookConfig. PDS_EMAIL_HOOK_URL,
	// PDS_EMAIL_HOOK_TOKEN, PDS_EMAIL_FROM_ADDRESS. Without a URL there is no mail.
	MailURL, MailToken, MailFrom string
	// Name is what pages call the server. PDS_SERVICE_NAME.
	Name string
	// Development allows what pds.Config.Development does. PDS_DEV_MODE.
	Development bool
	// LogLevel is what is logged at least. PDS_LOG_LEVEL: debug, info (a line for each request that
	// changes something or fails), warn or error. Default warn: Cloudflare has a line for each request,
	// and one of ours takes a tenth of the processor time of a write.
	LogLevel slog.Level
}

// The defaults are those of the network as it is.
const (
	DefaultPLC   = "https://plc.directory"
	DefaultRelay = "https://bsky.network"
)

// DefaultBlobLimit is that of Config, in bytes.
const DefaultBlobLimit = 100_000_000

// values reads variables, and collects what is wrong with them.
type values struct {
	get   func(name string) string
	known map[string]bool
	errs  []error
}

func (v *values) text(name, def string) string {
	v.known[name] = true
	return cmp.Or(strings.TrimSpace(v.get(name)), def)
}

func (v *values) wrong(name, format string, args ...any) {
	v.errs = append(v.errs, fmt.Errorf("%s: %s", name, fmt.Sprintf(format, args...)))
}

func (v *values) list(name, def string) []string {
	return strings.FieldsFunc(v.text(name, def), func(r rune) bool { return r == ',' || r == ' ' || r == '\n' || r == '\t' })
}

func (v *values) flag(name string, def bool) bool {
	text := v.text(name, strconv.FormatBool(def))
	b, err := strconv.ParseBool(text)
	if err != nil {
		v.wrong(name, "%q is neither true nor false", text)
	}
	return b
}

func (v *values) level(name, def string) (level slog.Level) {
	text := v.text(name, def)
	if err := level.UnmarshalText([]byte(text)); err != nil {
		v.wrong(name, "%q is none of debug, info, warn, error", text)
	}
	return level
}

func (v *values) size(name string, def int64) int64 {
	text := v.text(name, strconv.FormatInt(def, 10))
	n, err := strconv.ParseInt(text, 10, 64)
	if err != nil || n < 0 {
		v.wrong(name, "%q is no number of bytes", text)
	}
	return n
}

func (v *values) url(name, def string) string {
	text := v.text(name, def)
	if u, err := url.Parse(text); text != "" && (err != nil || u.Host == "" || u.Scheme != "https" && u.Scheme != "http") {
		v.wrong(name, "%q is no address: give one as https://example.com", text)
	}
	return text
}

func (v *values) service(prefix, address, did string) pds.Service {
	given := strings.TrimSpace(v.get(prefix+"_URL")) + strings.TrimSpace(v.get(prefix+"_DID"))
	if given == "" {
		v.text(prefix+"_URL", "")
		v.text(prefix+"_DID", "")
		return pds.Service{URL: address, DID: syntax.DID(did)}
	}
	if v.text(prefix+"_URL", "") == "off" {
		v.text(prefix+"_DID", "")
		return pds.Service{}
	}
	s := pds.Service{URL: v.url(prefix+"_URL", ""), DID: syntax.DID(v.text(prefix+"_DID", ""))}
	if _, err := syntax.ParseDID(string(s.DID)); err != nil {
		v.wrong(prefix+"_DID", "%v", err)
	}
	return s
}

// hosts reads host names.
func (v *values) hosts(name string) (list []string) {
	for _, host := range v.list(name, "") {
		host = strings.ToLower(host)
		if _, err := syntax.ParseHandle(host); err != nil {
			v.wrong(name, "%q is no host name: give it as pds.example.com, without https://", host)
		}
		if slices.Contains(list, host) {
			v.wrong(name, "%q is there twice", host)
		}
		list = append(list, host)
	}
	return list
}

// keys reads keys in hexadecimal.
func (v *values) keys(name string) (list [][]byte) {
	for _, text := range v.list(name, "") {
		key, err := hex.DecodeString(text)
		if err != nil || len(key) != 32 {
			v.wrong(name, "a key is 32 bytes in hexadecimal, 64 digits") // and is not shown
			continue
		}
		list = append(list, key)
	}
	if list == nil {
		v.wrong(name, "it is missing: set it by wrangler secret put %s", name)
	}
	return list
}

// ReadConfig reads the configuration. get returns a variable or secret, or the empty string. names
// are all that there are: one that begins with PDS_ and means nothing is an error, since it is
// probably misspelled. The error has all that is wrong.
func ReadConfig(get func(name string) string, names []string) (Config, error) {
	v := &values{get: get, known: make(map[string]bool)}
	c := Config{
		Hosts: v.hosts("PDS_HOSTNAMES"), RecoveryKey: v.text("PDS_RECOVERY_DID_KEY", ""),
		PLC: v.url("PDS_DID_PLC_URL", DefaultPLC), DNS: v.url("PDS_DNS_URL", identity.DefaultDNSOverHTTPS),
		BlobLimit: v.size("PDS_BLOB_UPLOAD_LIMIT", DefaultBlobLimit), BlobQuota: v.size("PDS_BLOB_ACCOUNT_QUOTA", 0),
		InviteRequired: v.flag("PDS_INVITE_REQUIRED", true), Name: v.text("PDS_SERVICE_NAME", ""), AccountObjects: v.flag("PDS_ACCOUNT_OBJECTS", false), Development: v.flag("PDS_DEV_MODE", false), LogLevel: v.level("PDS_LOG_LEVEL", "warn"),
		MailURL: v.url("PDS_EMAIL_HOOK_URL", ""), MailToken: v.text("PDS_EMAIL_HOOK_TOKEN", ""), MailFrom: v.text("PDS_EMAIL_FROM_ADDRESS", ""),
	}
	if list := v.hosts("PDS_HOSTNAME"); len(list) == 1 {
		c.Host = list[0]
	} else if len(list) > 1 {
		v.wrong("PDS_HOSTNAME", "it is one name; PDS_HOSTNAMES are those of servers with one account each")
	}
	if c.Host == "" && len(c.Hosts) == 0 {
		v.wrong("PDS_HOSTNAMES", "it is missing, and so is PDS_HOSTNAME: there is no server")
	}
	if c.AccountObjects && c.Host == "" {
		v.wrong("PDS_ACCOUNT_OBJECTS", "it is about the server of PDS_HOSTNAME, which is missing")
	}
	if slices.Contains(c.Hosts, c.Host) {
		v.wrong("PDS_HOSTNAME", "it is one of PDS_HOSTNAMES too")
	}
	c.Domains = v.list("PDS_SERVICE_HANDLE_DOMAINS", "")
	c.AppView = pds.AppView{Service: v.service("PDS_BSKY_APP_VIEW", pds.Bluesky.URL, string(pds.Bluesky.DID)), CDN: v.text("PDS_BSKY_APP_VIEW_CDN_URL_PATTERN", "")}
	if c.AppView.CDN == "" && c.AppView.Service == pds.Bluesky.Service {
		c.AppView.CDN = pds.Bluesky.CDN
	}
	c.Reports = v.service("PDS_REPORT_SERVICE", "https://mod.bsky.app", "did:plc:ar7c4by46qjdydhdevvrndac")
	if text := v.text("PDS_CRAWLERS", DefaultRelay); text != "off" {
		for _, relay := range v.list("PDS_CRAWLERS", DefaultRelay) {
			if u, err := url.Parse(relay); err != nil || u.Host == "" {
				v.wrong("PDS_CRAWLERS", "%q is no address of a relay", relay)
			}
			c.Relays = append(c.Relays, relay)
		}
	}
	c.Secrets.MasterKeys = v.keys("PDS_MASTER_KEY")
	for _, raw := range v.keys("PDS_PLC_ROTATION_KEY_K256_PRIVATE_KEY_HEX") {
		key, err := crypto.ParsePrivateKey(crypto.K256, raw)
		if err != nil {
			v.wrong("PDS_PLC_ROTATION_KEY_K256_PRIVATE_KEY_HEX", "not a private key")
			continue
		}
		c.Secrets.RotationKeys = append(c.Secrets.RotationKeys, key)
	}
	if c.Secrets.AdminPassword = v.text("PDS_ADMIN_PASSWORD", ""); c.Secrets.AdminPassword == "" {
		v.wrong("PDS_ADMIN_PASSWORD", "it is missing: set it by wrangler secret put PDS_ADMIN_PASSWORD")
	}
	for _, name := range slices.Sorted(slices.Values(names)) {
		if strings.HasPrefix(name, "PDS_") && !v.known[name] {
			v.wrong(name, "there is no such variable; there are %s", strings.Join(slices.Sorted(maps.Keys(v.known)), ", "))
		}
	}
	return c, errors.Join(v.errs...)
}

// Serves returns the host name of the server that a request for a host goes to: the host itself, or
// for a handle of a server with many accounts that server. Empty: there is none.
func (c *Config) Serves(host string) string {
	host = strings.ToLower(host)
	switch {
	case host == "":
		return ""
	case slices.Contains(c.Hosts, host), host == c.Host:
		return host
	case c.Host != "":
		for _, domain := range c.domains(c.Host) {
			if strings.HasSuffix(host, domain) {
				return c.Host
			}
		}
	}
	return ""
}

// domains are those below which a server's accounts have handles. That of a server with one account
// has its own name as handle.
func (c *Config) domains(host string) []string {
	if host != c.Host {
		_, domain, _ := strings.Cut(host, ".")
		return []string{"." + domain}
	}
	if len(c.Domains) > 0 {
		return c.Domains
	}
	return []string{"." + host}
}

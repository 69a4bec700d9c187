// Package selfcheck is the list of checks of the reference server. "pds doctor", the page
// /admin/checks and the metric pds_check share it. See package doctor.
package selfcheck

import (
	"context"
	"crypto/hmac"
	"crypto/sha256"
	"fmt"
	"iter"
	"net/http"
	"strings"

	"github.com/pdskit/pdskit/examples/pds/internal/config"
	"github.com/pdskit/pdskit/identity"
	"github.com/pdskit/pdskit/repo/account"
	"github.com/pdskit/pdskit/storage"
	"github.com/pdskit/pdskit/xrpc/doctor"
	"github.com/pdskit/pdskit/xrpc/operator"
	"github.com/pdskit/pdskit/xrpc/timecheck"
)

// Most is how many accounts are looked at, unless somebody wants more: each costs requests to
// others.
const Most = 200

// Input is what the checks look at. Config and Target are required; what else is missing is not
// checked.
type Input struct {
	Config *config.Config
	Target doctor.Target
	// PLC is the did:plc directory.
	PLC string
	// DNS and HTTP are for handles; see identity.Resolver. Nil: its defaults.
	DNS  identity.DNS
	HTTP *http.Client
	// Store and Accounts are those of the server, EchoKey is that of its Echo, and Blobs the folder
	// of its blobs, if they are in one.
	Store    storage.Store
	Accounts *account.Store
	EchoKey  []byte
	Blobs    string
	// Local checks whether the server runs, from beside it. Nil: this is the server.
	Local func(ctx context.Context) error
	// MailTo, if not empty, gets a message.
	MailTo string
	// DeadMail is how many messages were given up. Nil: it is not known.
	DeadMail func(ctx context.Context) (int, error)
	// Watch compares the clock. Nil: one of its own.
	Watch *timecheck.Watch
	// Version is that of the program.
	Version string
	// Most is how many accounts are looked at. 0: Most.
	Most int
	// Free returns the free bytes of a disk, and all. Nil: datadir.Space.
	Free func(path string) (free, total int64, ok bool)
}

// EchoKey derives the key of a server's Echo from its master keys.
func EchoKey(masterKeys [][]byte) []byte {
	if len(masterKeys) == 0 {
		return nil
	}
	h := hmac.New(sha256.New, masterKeys[len(masterKeys)-1])
	h.Write([]byte("pds doctor"))
	return h.Sum(nil)
}

// Checks returns the list. A development server has no name in the network, so that only what is
// here is checked.
func Checks(in Input) []doctor.Check {
	cfg := in.Config
	list := []doctor.Check{configuration(in)}
	if in.Local != nil {
		list = append(list, local(in))
	}
	public := cfg.Hostname != "localhost"
	if public {
		list = append(list, in.Target.Names(cfg.HandleDomains...), in.Target.Certificate(), in.Target.Stream())
		if in.EchoKey != nil {
			list = append(list, in.Target.Forwarded(in.EchoKey))
		}
	}
	if cfg.TLS.ACME {
		list = append(list, authority(in))
	}
	if in.Watch == nil {
		in.Watch = &timecheck.Watch{Servers: TimeServers(cfg.PLC, cfg.Crawlers), Now: cfg.Now}
		if in.Store.Events != nil {
			in.Watch.Log = in.Store.Events
		}
	}
	list = append(list, doctor.Clock(in.Watch), mailCheck(in))
	if in.Accounts != nil {
		accounts := in.active()
		list = append(list, in.Target.Identities(accounts, in.resolver, in.most()))
		if public {
			list = append(list, doctor.Relays(nil, cfg.Hostname, cfg.Crawlers, in.newest), doctor.AppView(nil, cfg.Proxy.AppView.URL, accounts))
		}
		list = append(list, backups(in))
	}
	if cfg.UpdateFeed != "" {
		list = append(list, newer(in))
	}
	return append(list, space(in), modes(in))
}

func (in Input) most() int {
	if in.Most > 0 {
		return in.Most
	}
	return Most
}

func (in Input) newest(ctx context.Context) (int64, error) {
	_, newest, err := in.Store.Events.Bounds(ctx)
	return newest, err
}

// resolver resolves identities as the network sees them, and remembers nothing from before.
func (in Input) resolver() *identity.Resolver {
	return &identity.Resolver{
		PLC: &identity.PLCClient{URL: in.PLC}, HTTP: in.HTTP, DNS: in.DNS, Development: in.Config.DevMode, Timeout: in.Config.IdentityTimeout, Now: in.Config.Now,
	}
}

// active yields the accounts that are active.
func (in Input) active() doctor.Accounts {
	return func(ctx context.Context) iter.Seq2[doctor.Account, error] {
		return func(yield func(doctor.Account, error) bool) {
			for a, err := range in.Accounts.All(ctx) {
				if err == nil && a.Status() != account.Active {
					continue
				}
				x := doctor.Account{DID: a.DID, Handle: a.Handle}
				if err == nil {
					if signer, keyErr := in.Accounts.Signer(ctx, a.DID); keyErr == nil {
						x.Key = signer.PublicKey()
					}
				}
				if !yield(x, err) || err != nil {
					return
				}
			}
		}
	}
}

// TimeServers are the addresses at which a directory (empty: none) and relays are asked for the
// time. A directory in this process has the same clock and proves nothing.
func TimeServers(plc string, relays []string) (list []string) {
	if plc != "" {
		list = append(list, strings.TrimSuffix(plc, "/")+"/_health")
	}
	for _, relay := range relays {
		if !strings.Contains(relay, "://") {
			relay = "https://" + relay
		}
		list = append(list, strings.TrimSuffix(relay, "/")+"/xrpc/_health")
	}
	return list
}

// configuration tells the warnings of the configuration again.
func configuration(in Input) doctor.Check {
	return doctor.Check{Name: "configuration", Run: func(context.Context) (list []doctor.Finding) {
		for _, w := range in.Config.Warnings {
			list = append(list, doctor.Warn("change it in "+orText(in.Config.EnvFile, "the environment")+", and restart the server", "%s", w))
		}
		if list == nil {
			list = []doctor.Finding{doctor.Good("nothing in the configuration is misleading")}
		}
		return list
	}}
}

// local checks whether the server runs.
func local(in Input) doctor.Check {
	return doctor.Check{Name: "server", Run: func(ctx context.Context) []doctor.Finding {
		if err := in.Local(ctx); err != nil {
			return []doctor.Finding{doctor.Bad("\"systemctl start pds\"; \"journalctl -u pds -n 50\" says why it has ended", "the server is not well: %v", err)}
		}
		return []doctor.Finding{doctor.Good("the server runs")}
	}}
}

func orText(text, other string) string {
	if text == "" {
		return other
	}
	return text
}

// Notes are the notes of backups, as the page shows them.
func Notes(store storage.Store) operator.Backups { return operator.Backups{KV: store.KV} }

func plural(n int, what string) string {
	if n == 1 {
		return "1 " + what
	}
	return fmt.Sprintf("%d %ss", n, what)
}

package main

import (
	"errors"
	"flag"
	"fmt"
	"io"
	"maps"
	"math"
	"net"
	"slices"
	"strconv"
	"strings"
	"time"
	"unicode"

	"github.com/pdskit/pdskit/xrpc/relay"
)

// passwordVariable has the administrator's password. It is no flag: others see those.
const passwordVariable = "RELAY_ADMIN_PASSWORD"

// options are the settings.
type options struct {
	listen, metrics, data, postgres, plc, url string
	hosts, relays, forward                    []string
	policy                                    relay.Policy
	limits                                    relay.Limits
	domains                                   map[string]relay.Limits
	retention, hold                           time.Duration
	newHosts                                  int
	memory, window, cache                     int
	noCollections, closed                     bool
	noJetstream                               bool
	dictionary, dictionaryV2                  string
	relaxed, development, verbose             bool
	password                                  string
}

// parse reads the settings: what is in the environment holds unless there is a flag.
func parse(args, environ []string, errs io.Writer) (o options, err error) {
	f := flag.NewFlagSet("relay", flag.ContinueOnError)
	f.SetOutput(errs)
	o.flags(f)
	f.Usage = func() {
		fmt.Fprintf(errs, "Each setting is a flag, or a variable of the environment: -new-hosts is RELAY_NEW_HOSTS.\n"+
			"%s has the administrator's password; without it, the file admin-password in the\n"+
			"data folder has one.\n\n", passwordVariable)
		f.PrintDefaults()
	}
	if err := fromEnvironment(f, &o, environ, errs); err != nil {
		return o, err
	}
	if err := f.Parse(args); err != nil {
		return o, err
	}
	return o, o.check(f.NArg())
}

func (o *options) flags(f *flag.FlagSet) {
	f.StringVar(&o.listen, "listen", "localhost:2470", "the `address` to serve on")
	f.StringVar(&o.url, "url", "", "the public `URL`, as https://relay.example.com, for what is printed and shown")
	f.StringVar(&o.metrics, "metrics", "", "an `address` for metrics without a password; with it, they are at /metrics always")
	f.StringVar(&o.data, "data", "relay-data", "the `folder` for the database and the password")
	f.StringVar(&o.postgres, "postgres", "", "keep everything in PostgreSQL at this `URL`, instead of SQLite")
	f.StringVar(&o.plc, "plc", "", "the `URL` of another did:plc directory than the public one")
	f.Func("hosts", "PDSes to follow: `names`, separated by commas", func(s string) error { o.hosts = words(s); return nil })
	f.Func("relays", "relays to follow: `names`, separated by commas", func(s string) error { o.relays = words(s); return nil })
	f.Func("forward", "relays to which requests for crawls are passed on: `names`, separated by commas", func(s string) error { o.forward = words(s); return nil })
	f.Func("policy", "what becomes of messages that break a rule: `strict`, lenient or observe (default strict)", func(s string) (err error) {
		o.policy, err = readPolicy(s)
		return err
	})
	d := relay.DefaultLimits
	f.Int64Var(&o.limits.Accounts, "accounts", d.Accounts, "how many accounts a host may have; -1: any number")
	f.Float64Var(&o.limits.Rate, "rate", d.Rate, "how many messages a second a host may send, on average; -1: any number")
	f.Int64Var(&o.limits.Burst, "burst", d.Burst, "how many messages a host may send at once; -1: any number")
	f.Func("domains", "limits of hosts below domains, as `host.example.net=1000000/5000`: accounts/rate, separated by commas", func(s string) (err error) {
		o.domains, err = readDomains(s)
		return err
	})
	f.DurationVar(&o.retention, "retention", 72*time.Hour, "how long events are kept; -1s: for good")
	f.DurationVar(&o.hold, "hold", time.Hour, "how long messages wait for an identity that cannot be had")
	f.IntVar(&o.newHosts, "new-hosts", 50, "how many new hosts strangers may add in a day; -1: none")
	f.BoolVar(&o.closed, "closed", false, "refuse requestCrawl: hosts are the operator's to add")
	f.IntVar(&o.memory, "memory", 256, "how many `MiB` of messages may wait for all hosts together")
	f.IntVar(&o.window, "window", 32, "how many `MiB` of the newest messages are kept in memory for consumers, once for each form")
	f.IntVar(&o.cache, "cache", 100_000, "how many accounts are kept in memory")
	f.BoolVar(&o.noCollections, "no-collections", false, "leave out listReposByCollection and its index")
	f.BoolVar(&o.noJetstream, "no-jetstream", false, "leave out the streams in JSON")
	f.StringVar(&o.dictionary, "jetstream-dictionary", "", "a zstd dictionary for Jetstream v1: the `file` that its clients have built in")
	f.StringVar(&o.dictionaryV2, "jetstream-v2-dictionary", "", "a zstd dictionary for Jetstream v2: any `file`")
	f.BoolVar(&o.relaxed, "relaxed", false, "do not wait for the disk: a power failure may cost the last moments, and consumers then miss them")
	f.BoolVar(&o.development, "development", false, "follow hosts on this machine and in private networks, too, and without TLS on localhost")
	f.BoolVar(&o.verbose, "verbose", false, "also log what any host can cause")
}

// fromEnvironment sets the flags of which the environment has a variable.
func fromEnvironment(f *flag.FlagSet, o *options, environ []string, errs io.Writer) error {
	known := map[string]string{}
	f.VisitAll(func(fl *flag.Flag) { known["RELAY_"+strings.ToUpper(strings.ReplaceAll(fl.Name, "-", "_"))] = fl.Name })
	for _, pair := range environ {
		name, value, _ := strings.Cut(pair, "=")
		switch fl, ok := known[name]; {
		case !strings.HasPrefix(name, "RELAY_") || value == "":
		case name == passwordVariable:
			o.password = value
		case !ok:
			fmt.Fprintf(errs, "relay: %s is not known\n", name)
		default:
			if err := f.Set(fl, value); err != nil {
				return fmt.Errorf("%s: %w", name, err)
			}
		}
	}
	return nil
}

// check returns what does not fit together.
func (o *options) check(rest int) error {
	if rest > 0 {
		return errors.New("there are only flags; see -help")
	}
	for name, address := range map[string]string{"-listen": o.listen, "-metrics": o.metrics} {
		if _, _, err := net.SplitHostPort(address); err != nil && (address != "" || name == "-listen") {
			return fmt.Errorf("%s: %w", name, err)
		}
	}
	if o.password != "" && len(o.password) < 12 {
		return fmt.Errorf("%s: a password has at least 12 characters", passwordVariable)
	}
	for name, n := range map[string]int{"-memory": o.memory, "-window": o.window, "-cache": o.cache} {
		if n < 1 || n > 1<<30 {
			return fmt.Errorf("%s must be at least 1", name)
		}
	}
	if math.IsNaN(o.limits.Rate) {
		return errors.New("-rate must be a number")
	}
	// A zero has no meaning of its own below: it would be the default.
	for name, zero := range map[string]bool{
		"-accounts": o.limits.Accounts == 0, "-rate": o.limits.Rate == 0, "-burst": o.limits.Burst == 0,
		"-retention": o.retention == 0, "-new-hosts": o.newHosts == 0, "-hold": o.hold == 0,
	} {
		if zero {
			return fmt.Errorf("%s must not be 0; see -help", name)
		}
	}
	return nil
}

func words(s string) []string {
	return strings.FieldsFunc(s, func(r rune) bool { return r == ',' || unicode.IsSpace(r) })
}

func readPolicy(s string) (relay.Policy, error) {
	switch s {
	case "strict":
		return relay.Strict, nil
	case string(relay.Lenient), string(relay.Observe):
		return relay.Policy(s), nil
	}
	return "", errors.New("there are strict, lenient and observe")
}

// readDomains reads limits by domain.
func readDomains(s string) (map[string]relay.Limits, error) {
	out := map[string]relay.Limits{}
	for _, word := range words(s) {
		name, rest, ok := strings.Cut(word, "=")
		first, second, _ := strings.Cut(rest, "/")
		accounts, err := strconv.ParseInt(first, 10, 64)
		if !ok || name == "" || err != nil || accounts == 0 {
			return nil, fmt.Errorf("%q is not as host.example.net=1000000/5000", word)
		}
		l := relay.Limits{Accounts: accounts}
		if second != "" {
			if l.Rate, err = strconv.ParseFloat(second, 64); err != nil || l.Rate == 0 || math.IsNaN(l.Rate) {
				return nil, fmt.Errorf("%q is not as host.example.net=1000000/5000", word)
			}
			l.Burst = int64(max(l.Rate*60, float64(relay.DefaultLimits.Burst)))
		}
		out[strings.ToLower(name)] = l
	}
	return out, nil
}

// settings describes in a line what is not as it is without settings.
func (o *options) settings() string {
	var list []string
	if o.policy != relay.Strict {
		list = append(list, "policy "+string(o.policy))
	}
	if o.closed {
		list = append(list, "closed to requestCrawl")
	}
	if o.relaxed {
		list = append(list, "relaxed")
	}
	if o.development {
		list = append(list, "development")
	}
	for _, name := range slices.Sorted(maps.Keys(o.domains)) {
		list = append(list, "limits of "+name)
	}
	return strings.Join(list, ", ")
}

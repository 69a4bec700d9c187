package command

import (
	"context"
	"crypto/rand"
	_ "embed"
	"encoding/hex"
	"encoding/json"
	"errors"
	"flag"
	"fmt"
	"io/fs"
	"os"
	"path/filepath"
	"strings"

	"github.com/pdskit/pdskit/crypto"
	"github.com/pdskit/pdskit/examples/worker/edge"
	"github.com/pdskit/pdskit/internal/durablefile"
)

const initHelp = `The folder gets the configuration of wrangler (Cloudflare's command line), a build script, and the
file secrets.json with new secrets. Whoever has that file controls all accounts, and without it none
of them can be used: keep a copy in a safe place.

Give -host for a server with one account, whose handle is the host name; it may be repeated. Give
-many for a server with many accounts, whose handles are names below the host name. Each account has
an object of its own; with -one-object, all share one, which costs less and carries less.`

// Init writes a Worker into a folder.
type Init struct {
	// Hosts are the names of servers with one account each, and Many that of one with many.
	Hosts []string
	Many  string
	// OneObject: all accounts of Many are in one object.
	OneObject bool
	// Name is the Worker's name, and Bucket that of its R2 bucket.
	Name, Bucket string
}

// Register implements Command.
func (c *Init) Register(flags *flag.FlagSet) {
	flags.Func("host", "host `name` of a server with one account, such as alice.example.com (may be repeated)", func(s string) error {
		c.Hosts = append(c.Hosts, s)
		return nil
	})
	flags.StringVar(&c.Many, "many", "", "host `name` of a server with many accounts, such as pds.example.com")
	flags.BoolVar(&c.OneObject, "one-object", false, "with -many: all accounts are in one object")
	flags.StringVar(&c.Name, "name", "pds", "`name` of the Worker")
	flags.StringVar(&c.Bucket, "bucket", "pds-blobs", "`name` of the R2 bucket")
}

//go:embed files/build
var buildScript []byte

//go:embed files/gitignore
var gitignore []byte

// Run implements Command.
func (c *Init) Run(_ context.Context, io IO, args []string) error {
	dir := args[0]
	secrets, err := newSecrets()
	if err != nil {
		return err
	}
	vars := map[string]string{}
	if len(c.Hosts) > 0 {
		vars["PDS_HOSTNAMES"] = strings.Join(c.Hosts, " ")
	}
	if c.Many != "" {
		vars["PDS_HOSTNAME"] = c.Many
		if !c.OneObject {
			vars["PDS_ACCOUNT_OBJECTS"] = "true"
		}
	}
	cfg, err := edge.ReadConfig(func(name string) string { return vars[name] + secrets[name] }, nil)
	if err != nil {
		return fmt.Errorf("give -host or -many: %w", err)
	}
	wrangler, err := c.wrangler(&cfg, vars)
	if err != nil {
		return err
	}
	text, err := json.MarshalIndent(secrets, "", "\t")
	if err != nil {
		return err
	}
	if err := os.MkdirAll(dir, 0o755); err != nil {
		return err
	}
	// The secrets come first: a second call finds them, and changes nothing.
	files := []struct {
		name string
		text []byte
		mode fs.FileMode
	}{
		{"secrets.json", append(text, '\n'), 0o600}, {".gitignore", gitignore, 0o644}, {"wrangler.jsonc", wrangler, 0o644},
		{"build", buildScript, 0o755},
	}
	for _, f := range files {
		if _, err := os.Lstat(filepath.Join(dir, f.name)); !errors.Is(err, fs.ErrNotExist) {
			return fmt.Errorf("%s is there already, and nothing was changed: give another folder, or move that away", filepath.Join(dir, f.name))
		}
	}
	for _, f := range files {
		if err := durablefile.Write(filepath.Join(dir, f.name), f.text); err != nil {
			return err
		}
		if err := os.Chmod(filepath.Join(dir, f.name), f.mode); err != nil {
			return err
		}
	}
	next := []string{
		"cd " + dir, "./build", "npx wrangler login", "npx wrangler r2 bucket create " + c.Bucket, "npx wrangler deploy",
		"npx wrangler secret bulk secrets.json",
	}
	for _, host := range append(c.Hosts, c.Many) {
		if host != "" {
			next = append(next, "pds worker deploy-check https://"+host)
		}
	}
	if io.JSON {
		return json.NewEncoder(io.Stdout).Encode(map[string]any{"directory": dir, "next": next})
	}
	fmt.Fprintf(io.Stdout, "Wrote a Worker to %s. Keep a copy of secrets.json in a safe place. Next:\n\n", dir)
	for _, line := range next {
		fmt.Fprintln(io.Stdout, "    "+line)
	}
	return nil
}

// newSecrets makes secrets.
func newSecrets() (map[string]string, error) {
	rotation, err := crypto.GenerateKey(crypto.K256)
	if err != nil {
		return nil, err
	}
	master := make([]byte, 32)
	rand.Read(master)
	return map[string]string{
		"PDS_MASTER_KEY": hex.EncodeToString(master), "PDS_PLC_ROTATION_KEY_K256_PRIVATE_KEY_HEX": hex.EncodeToString(rotation.Bytes()),
		"PDS_ADMIN_PASSWORD": rand.Text(),
	}, nil
}

// Route is a name that the Worker has on the Internet.
type route struct {
	Pattern  string `json:"pattern"`
	Custom   bool   `json:"custom_domain,omitempty"`
	ZoneName string `json:"zone_name,omitempty"`
}

// wrangler is the configuration of Cloudflare's command line.
func (c *Init) wrangler(cfg *edge.Config, vars map[string]string) ([]byte, error) {
	var routes []route
	for _, host := range cfg.Hosts {
		routes = append(routes, route{Pattern: host, Custom: true})
	}
	if cfg.Host != "" {
		_, zone, _ := strings.Cut(cfg.Host, ".")
		routes = append(routes, route{Pattern: cfg.Host, Custom: true}, route{Pattern: "*." + cfg.Host + "/*", ZoneName: zone})
	}
	type object = map[string]any
	text, err := json.MarshalIndent(object{
		"$schema": "node_modules/wrangler/config-schema.json", "name": c.Name, "main": "dist/worker.mjs",
		"compatibility_date": "2026-04-01", "compatibility_flags": []string{"nodejs_compat", "enable_request_signal", "global_fetch_strictly_public"},
		"workers_dev": false, "routes": routes, "vars": vars,
		"durable_objects": object{"bindings": []object{{"name": "SERVER", "class_name": "Server"}}},
		"migrations":      []object{{"tag": "v1", "new_sqlite_classes": []string{"Server"}}},
		"r2_buckets":      []object{{"binding": "BLOBS", "bucket_name": c.Bucket}},
		"limits":          object{"cpu_ms": 300_000}, // for imports
		"observability":   object{"enabled": true},
	}, "", "\t")
	return append(text, '\n'), err
}

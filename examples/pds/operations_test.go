package main_test

import (
	"bytes"
	"compress/gzip"
	"io"
	"io/fs"
	"net/http"
	"net/url"
	"os"
	"path/filepath"
	"regexp"
	"slices"
	"strings"
	"testing"

	"github.com/google/go-cmp/cmp"
	"github.com/pdskit/pdskit/commit"
	"github.com/pdskit/pdskit/examples/pds/internal/cli"
	"github.com/pdskit/pdskit/examples/pds/internal/config"
	"github.com/pdskit/pdskit/xrpc/stream"
)

func readFile(t *testing.T, name string) string {
	t.Helper()
	text, err := os.ReadFile(name)
	if err != nil {
		t.Fatal(err)
	}
	return string(text)
}

var (
	variable = regexp.MustCompile(`\b(PDS|LOG)_[A-Z0-9_]*[A-Z0-9]`)
	group    = regexp.MustCompile(`PDS_[A-Z0-9_]+_\*`) // of names, with a star at the end
)

// guidePages are the pages for operators: the guide, and the reference.
func guidePages(t *testing.T) []string {
	t.Helper()
	pages, err := filepath.Glob("guide/*.md")
	if err != nil || len(pages) < 13 {
		t.Fatal(pages, err)
	}
	return append(pages, "operations.md", "nodes.md")
}

// The guide and the files beside it speak only of variables that there are, and the guide of all of
// them.
func TestGuideVariables(t *testing.T) {
	used, others := config.Names()
	told := map[string]bool{}
	var files []string
	err := filepath.WalkDir("deploy", func(path string, d fs.DirEntry, err error) error {
		if err == nil && d.IsDir() && path == filepath.Join("deploy", "test") {
			return filepath.SkipDir // a program
		}
		if err == nil && !d.IsDir() {
			files = append(files, path)
		}
		return err
	})
	if err != nil || len(files) < 10 {
		t.Fatal(files, err)
	}
	for _, file := range append(files, guidePages(t)...) {
		text := group.ReplaceAllString(readFile(t, file), "")
		for _, name := range variable.FindAllString(text, -1) {
			if !slices.Contains(used, name) && !slices.Contains(others, name) {
				t.Errorf("%s: there is no variable %s", file, name)
			}
			told[name] = told[name] || file == "operations.md" // where all are
		}
	}
	for _, name := range used {
		if !told[name] {
			t.Errorf("the guide says nothing of %s", name)
		}
	}
}

// The environment that the guide starts from is right, and so is each command in it and in other
// documents, with its flags.
func TestGuideCommands(t *testing.T) {
	env, _, err := config.Environment(nil, "deploy/pds.env.example")
	if err != nil {
		t.Fatal(err)
	}
	cfg, err := config.Load(env)
	if err != nil {
		t.Fatalf("pds.env.example: %v", err)
	}
	for _, w := range cfg.Warnings {
		if !strings.Contains(w, "still has the name of the example") {
			t.Errorf("pds.env.example: %s", w)
		}
	}
	if len(cfg.Warnings) < 4 {
		t.Errorf("who leaves the example as it is hears only %q", cfg.Warnings)
	}
	for name, value := range env {
		env[name] = strings.ReplaceAll(value, "example.com", "site.test")
	}
	if cfg, err = config.Load(env); err != nil || cfg.Warnings != nil {
		t.Errorf("pds.env.example, with another name: %v, %q", err, cfg.Warnings)
	}
	run := func(args ...string) (string, int) {
		var out bytes.Buffer
		code := cli.Run(t.Context(), args, cli.IO{Stdout: &out, Stderr: &out, In: strings.NewReader("")})
		return out.String(), code
	}
	list, _ := run("help")
	command := regexp.MustCompile("(?m)(?:^ {4,}|`|/pds |&& |\\| )(?:/?pds|/usr/local/bin/pds) ([^`|>#\n]*)")
	named := map[string]bool{}
	var guide string
	for _, file := range guidePages(t) {
		guide += readFile(t, file) + "\n"
	}
	lines := command.FindAllStringSubmatch(guide+readFile(t, "deploy/pds.service")+readFile(t, "deploy/pds-backup.service"), -1)
	lines = append(lines, regexp.MustCompile(`(?m)^ExecStart=\S*/pds (.*)`).FindAllStringSubmatch(readFile(t, "deploy/pds-backup.service"), -1)...)
	ofGuide := len(lines)
	for _, file := range []string{"README.md", "deploy/monitoring/README.md", "../../README.md", "../../docs/scaling.md", "../../storage/transfer/README.md", "../worker/README.md"} {
		lines = append(lines, command.FindAllStringSubmatch(readFile(t, file), -1)...)
	}
	for i, m := range lines {
		words := strings.Fields(m[1])
		if len(words) == 0 || words[0] == "help" {
			continue
		}
		name := words[:1]
		for n := min(3, len(words)); n > 1; n-- { // the longest name that there is
			if strings.Contains(list, "    "+strings.Join(words[:n], " ")+" ") {
				name = words[:n]
				break
			}
		}
		about, code := run(append([]string{"help"}, name...)...)
		if code != 0 || !strings.HasPrefix(about, "Usage: pds "+strings.Join(name, " ")+" ") {
			t.Errorf("there is no command %q", m[1])
			continue
		}
		if i < ofGuide {
			named[strings.Join(name, " ")] = true
		}
		for _, w := range words[len(name):] {
			if len(w) > 1 && w[0] == '-' && w != "-json" && w != "-quiet" && !strings.Contains(about, "    "+w+" ") {
				t.Errorf("%q: there is no flag %s", m[1], w)
			}
		}
	}
	for _, m := range regexp.MustCompile(`(?m)^    ([a-z-]+(?: [a-z-]+)?)  +[A-Z]`).FindAllStringSubmatch(list, -1) {
		if !named[m[1]] && m[1] != "serve" {
			t.Errorf("the guide says nothing of pds %s", m[1])
		}
	}
	if len(named) < 15 {
		t.Errorf("only %v", named)
	}
}

// The table of metrics has all metrics, and none that does not exist; nor has any other page.
func TestGuideMetrics(t *testing.T) {
	name := regexp.MustCompile(`\bpds_[a-z_]*[a-z]\b`)
	_, table, ok := strings.Cut(readFile(t, "operations.md"), "\n## Metrics\n")
	if table, _, _ = strings.Cut(table, "\n## "); !ok {
		t.Fatal("operations.md has no metrics")
	}
	guide := name.FindAllString(table+readFile(t, "deploy/monitoring/README.md"), -1)
	files, err := filepath.Glob("internal/server/*.go")
	if err != nil {
		t.Fatal(err)
	}
	var source []string
	for _, file := range files {
		if !strings.HasSuffix(file, "_test.go") {
			for _, m := range regexp.MustCompile(`(?:Counter|Histogram|Level|Gauges?|Total)\("(pds_[a-z_]+)"`).FindAllStringSubmatch(readFile(t, file), -1) {
				source = append(source, m[1])
			}
		}
	}
	sorted := func(list []string) []string {
		slices.Sort(list)
		return slices.Compact(list)
	}
	if diff := cmp.Diff(sorted(source), sorted(guide)); diff != "" || len(source) < 10 {
		t.Errorf("metrics (-in the program +in the guide):\n%s", diff)
	}
	for _, page := range guidePages(t) {
		for _, m := range name.FindAllString(readFile(t, page), -1) {
			if !slices.Contains(source, m) && !slices.ContainsFunc(source, func(s string) bool { return strings.HasPrefix(m, s+"_") }) {
				t.Errorf("%s: there is no metric %s", page, m)
			}
		}
	}
}

// Links of the guide lead somewhere.
func TestGuideLinks(t *testing.T) {
	anchors := func(file string) map[string]bool {
		all := map[string]bool{}
		for _, m := range regexp.MustCompile(`(?m)^#+ (.*)$`).FindAllStringSubmatch(readFile(t, file), -1) {
			words := regexp.MustCompile(`[^a-z0-9 _-]`).ReplaceAllString(strings.ToLower(m[1]), "")
			all[strings.ReplaceAll(words, " ", "-")] = true
		}
		return all
	}
	for _, guide := range append(guidePages(t), "README.md") {
		for _, m := range regexp.MustCompile(`\]\(([^)]+)\)`).FindAllStringSubmatch(readFile(t, guide), -1) {
			file, anchor, within := strings.Cut(m[1], "#")
			if strings.Contains(file, "://") {
				continue
			}
			if file = filepath.Join(filepath.Dir(guide), file); strings.HasPrefix(m[1], "#") {
				file = guide
			}
			if _, err := os.Stat(file); err != nil {
				t.Errorf("%s: %v", guide, err)
			} else if within && !anchors(file)[anchor] {
				t.Errorf("%s: no heading for %s", guide, m[1])
			}
		}
	}
}

// A relay has seen more than what a backup has. After the restore it is told where the repository
// stands, under a later revision and number than any that it knows, and can follow from there; so
// it can after a resync.
func TestRestoreTellsTheNetwork(t *testing.T) {
	root := t.TempDir()
	dir, backup, restored := filepath.Join(root, "data"), filepath.Join(root, "backup"), filepath.Join(root, "restored")
	p := start(t, dir)
	alice, bob := p.register("alice"), p.register("bob")
	if err := alice.note("in the backup"); err != nil {
		t.Fatal(err)
	}
	bob.call(t, "com.atproto.server.deactivateAccount", map[string]any{}, nil)
	newOperator(t, dir).ok(nil, "backup", backup)
	if err := alice.note("not in the backup"); err != nil {
		t.Fatal(err)
	}
	key := newFollower(t, p).key(alice.DID)
	lost, cursor := latest(t, alice), int64(0)
	for frame, err := range (&stream.Consumer{URL: p.url + subscribeRepos, Cursor: &cursor}).Frames(t.Context()) {
		if err != nil {
			t.Fatal(err)
		}
		cursor = frame.Seq
		if frame.Kind == commit.KindCommit {
			if e, err := commit.DecodeEvent(frame.Payload); err != nil || e.Rev == lost {
				break
			}
		}
	}
	p.kill()

	o := newOperator(t, restored)
	var out struct{ Resynced int }
	if o.ok(&out, "restore", backup); out.Resynced != 1 {
		t.Errorf("%d accounts signed anew, want that of alice", out.Resynced)
	}
	after := func(want ...string) {
		t.Helper()
		p = start(t, restored, p.port())
		if err := alice.note("afterwards"); err != nil {
			t.Fatal(err)
		}
		rev := latest(t, alice)
		kinds := p.verifyStream(t, alice.DID, key, rev)
		if diff := cmp.Diff(want, kinds[len(kinds)-len(want):]); diff != "" {
			t.Errorf("%v: %s", kinds, diff)
		}
		// The relay's view: nothing that it misses, nothing of before.
		var seen []string
		c := &stream.Consumer{URL: p.url + subscribeRepos, Cursor: &cursor}
		for frame, err := range c.Frames(t.Context()) {
			if err != nil {
				t.Fatal(err)
			}
			seen = append(seen, frame.Kind)
			if frame.Kind == commit.KindSync {
				s, err := commit.DecodeSync(frame.Payload)
				if err != nil || s.DID != alice.DID || s.Rev <= lost {
					t.Errorf("#sync of %s at %s, the relay knows %s (%v)", s.DID, s.Rev, lost, err)
				}
			}
			if frame.Kind == commit.KindCommit {
				cursor = frame.Seq
				break
			}
		}
		if diff := cmp.Diff([]string{"#sync", "#commit"}, seen); diff != "" {
			t.Error(diff)
		}
		lost = rev
		var r checkReport
		if o.ok(&r, "check"); r.Found != 0 {
			t.Errorf("%+v", r)
		}
		o.fails(1, "in use", "resync")
		p.interrupt()
	}
	after("#sync", "#commit")
	o.fails(1, "not active", "resync", "bob.test")
	o.ok(nil, "resync", "alice.test")
	after("#sync", "#commit")
}

// Nothing that opens an account is in the log, at whatever level.
func TestNoSecretsInTheLog(t *testing.T) {
	log, err := os.Create(filepath.Join(t.TempDir(), "log"))
	if err != nil {
		t.Fatal(err)
	}
	defer log.Close()
	mail := filepath.Join(t.TempDir(), "mail.jsonl")
	dir := t.TempDir()
	p := startWith(t, dir, log, "PDS_LOG_LEVEL=trace", "PDS_EMAIL_SINK_FILE="+mail, "PDS_INVITE_REQUIRED=true", "PDS_MASTER_KEY="+strings.Repeat("5e", 32))
	o := newOperator(t, dir, p.port())
	o.in = "the first password\n"
	o.ok(nil, "account", "create", "-password-stdin", "alice@example.com", "alice.test")
	secrets := []string{"the first password", "the second password", "a wrong password", "Bearer", "Basic", strings.Repeat("5e", 32)}
	secret := func(list ...string) {
		for _, s := range list {
			if s == "" {
				t.Error("no secret")
			}
			secrets = append(secrets, s)
		}
	}
	var codes []string
	o.ok(&codes, "invite", "create")
	secret(codes...)
	alice, err := p.login(t, "alice.test", "the first password")
	if err != nil {
		t.Fatal(err)
	}
	next, err := alice.refresh(p.url)
	if err != nil {
		t.Fatal(err)
	}
	secret(alice.AccessJWT, alice.RefreshJWT, next.AccessJWT, next.RefreshJWT)
	var app struct{ Password string }
	alice.call(t, "com.atproto.server.createAppPassword", map[string]any{"name": "phone"}, &app)
	phone, err := p.login(t, "alice.test", app.Password)
	if err != nil {
		t.Fatal(err)
	}
	secret(app.Password, phone.AccessJWT)
	var service struct{ Token string }
	if err := alice.Query(t.Context(), "com.atproto.server.getServiceAuth", url.Values{"aud": {"did:web:example.com"}, "lxm": {"com.example.method"}}, &service); err != nil {
		t.Fatal(err)
	}
	secret(service.Token)
	p.login(t, "alice.test", "a wrong password")
	(&user{RefreshJWT: alice.RefreshJWT + "x"}).refresh(p.url)
	alice.call(t, "com.atproto.server.requestPasswordReset", map[string]any{"email": "alice@example.com"}, nil)
	token := (&sandbox{p, mail}).token(t, "alice@example.com")
	secret(token)
	alice.call(t, "com.atproto.server.resetPassword", map[string]any{"token": token, "password": "the second password"}, nil)
	file := readFile(t, filepath.Join(dir, "secrets.json"))
	for _, m := range regexp.MustCompile(`": "([^"]+)"`).FindAllStringSubmatch(file, -1) {
		secret(m[1])
	}
	p.interrupt()

	text := readFile(t, log.Name())
	if !strings.Contains(text, "com.atproto.server.resetPassword") || !strings.Contains(text, "com.atproto.server.refreshSession") {
		t.Fatalf("the log does not have what was done:\n%s", text)
	}
	for _, s := range secrets {
		if strings.Contains(text, s) {
			t.Errorf("%.40q is in the log", s)
		}
	}
}

// TestCompression: long answers are compressed for clients that say they accept it.
func TestCompression(t *testing.T) {
	n := newNetwork(t)
	b := n.start(nil)
	alice := b.register("alice")
	for i := range 20 {
		alice.call(t, "com.atproto.repo.createRecord", map[string]any{"repo": alice.DID, "collection": "com.example.note",
			"record": map[string]any{"text": strings.Repeat("again and again ", 10), "n": i}}, nil)
	}
	transport := &http.Transport{} // not the default one, which looks at the schemas of answers
	defer transport.CloseIdleConnections()
	get := func(path, encoding string) (header http.Header, body []byte) {
		req, err := http.NewRequestWithContext(t.Context(), "GET", b.url+path, nil)
		if err != nil {
			t.Fatal(err)
		}
		req.Header.Set("Accept-Encoding", encoding)
		resp, err := transport.RoundTrip(req)
		if err != nil {
			t.Fatal(err)
		}
		defer resp.Body.Close()
		if body, err = io.ReadAll(resp.Body); err != nil || resp.StatusCode != 200 {
			t.Fatal(resp.StatusCode, err)
		}
		return resp.Header, body
	}
	for _, path := range []string{"/xrpc/com.atproto.repo.listRecords?collection=com.example.note&repo=" + string(alice.DID), "/xrpc/com.atproto.sync.getRepo?did=" + string(alice.DID)} {
		_, plain := get(path, "identity")
		h, short := get(path, "gzip")
		if h.Get("Content-Encoding") != "gzip" || len(short) > len(plain)*2/3 {
			t.Errorf("%s: encoding %q, %d of %d bytes", path, h.Get("Content-Encoding"), len(short), len(plain))
		}
		z, err := gzip.NewReader(bytes.NewReader(short))
		if err != nil {
			t.Fatal(err)
		}
		if got, err := io.ReadAll(z); err != nil || !bytes.Equal(got, plain) {
			t.Errorf("%s: another answer; %v", path, err)
		}
	}
	if h, _ := get("/xrpc/com.atproto.server.describeServer", "gzip"); h.Get("Content-Encoding") != "" {
		t.Error("a short answer is compressed")
	}
}

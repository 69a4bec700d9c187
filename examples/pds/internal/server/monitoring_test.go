package server

import (
	"bytes"
	"context"
	"encoding/json"
	"io"
	"log/slog"
	"net/http"
	"os"
	"os/exec"
	"path/filepath"
	"regexp"
	"slices"
	"strings"
	"testing"
	"time"

	"github.com/pdskit/pdskit/lexicon/syntax"
	"github.com/pdskit/pdskit/xrpc"
	"github.com/pdskit/pdskit/xrpc/crawl"
	"github.com/pdskit/pdskit/xrpc/doctor"
	adminpages "github.com/pdskit/pdskit/xrpc/operator"
	"github.com/pdskit/pdskit/xrpc/pds"
	"github.com/pdskit/pdskit/xrpc/timecheck"
)

// monitoring is the folder of what Prometheus and Grafana read.
const monitoring = "../../deploy/monitoring"

// scraped starts a server with all that can be measured, and returns what Prometheus gets from it.
func scraped(t *testing.T, before func(s *Server)) string {
	t.Helper()
	var log buffer
	s, err := Start(t.Context(), testConfig(t, map[string]string{"PDS_METRICS_ADDRESS": "localhost:0", "PDS_CRAWLERS": "http://localhost:1"}), slog.New(slog.NewTextHandler(&log, nil)))
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { s.Shutdown(context.Background()) })
	// What takes hours to be known.
	hooks := &s.meters
	hooks.authority()
	hooks.relayAsked(crawl.Request{Relay: "http://localhost:1"})
	hooks.relayChecked(crawl.Check{Relay: "http://localhost:1"})
	hooks.checkedClock(timecheck.Result{})
	hooks.mu.Lock()
	hooks.found = &pds.Maintenance{}
	hooks.mu.Unlock()
	hooks.checked("pds.example.com", doctor.Report{Findings: []doctor.Finding{{Check: "certificate", Level: doctor.OK, Until: time.Unix(2e9, 0)}}})
	before(s)
	found := regexp.MustCompile(`msg=metrics address=(\S+)`).FindStringSubmatch(log.String())
	if found == nil {
		t.Fatal(log.String())
	}
	resp, err := http.Get("http://" + found[1] + "/metrics")
	if err != nil {
		t.Fatal(err)
	}
	defer resp.Body.Close()
	text, err := io.ReadAll(resp.Body)
	if err != nil {
		t.Fatal(err)
	}
	return string(text)
}

// What an operator looks after is measured: disks, backups, mail, versions.
func TestOperatorsMetrics(t *testing.T) {
	made := time.Date(2026, 3, 1, 4, 0, 0, 0, time.UTC)
	var notes adminpages.Backups
	text := scraped(t, func(s *Server) {
		notes = adminpages.Backups{KV: s.data.Store.KV}
		for _, b := range []adminpages.Backup{{At: made, Good: true, Path: "/b"}, {At: made.Add(time.Hour), Path: "/b", Problem: "disk full"}} {
			if err := notes.Note(t.Context(), b); err != nil {
				t.Fatal(err)
			}
		}
	})
	for _, line := range []string{
		`pds_build_info\{version="[^"]+",goversion="go[^"]+",revision="[0-9a-f]*"\} 1`,
		`process_start_time_seconds 1\.[0-9]+e\+09`,
		`pds_disk_free_bytes\{disk="data"\} [1-9]\S*`, `pds_disk_free_bytes\{disk="blobs"\} [1-9]\S*`, `pds_disk_size_bytes\{disk="data"\} [1-9]\S*`,
		`pds_backup_last_success_timestamp_seconds 1\.7723376e\+09`, `pds_backup_last_attempt_timestamp_seconds 1\.7723412e\+09`, `pds_backup_last_attempt_failed 1`,
		`pds_mail_total\{event="dead"\} 0`, `pds_mail_waiting 0`, `pds_subscriber_max_lag_seconds 0`,
		`pds_certificate_expiry_timestamp_seconds\{name="pds.example.com"\} 2e\+09`,
	} {
		if !regexp.MustCompile(`(?m)^` + line + `$`).MatchString(text) {
			t.Errorf("no %s in\n%s", line, text)
		}
	}
}

// A stranger chooses names of methods, and servers that answer with any status: what is counted of
// them stays a few series.
func TestStrangersMakeNoSeries(t *testing.T) {
	var m meters
	hooks := m.hooks()
	m.methods = map[string]bool{"com.atproto.repo.getRecord": true}
	count := func() int {
		var b bytes.Buffer
		m.registry.Write(&b)
		return strings.Count(b.String(), "\n")
	}
	for i := range 1000 {
		for _, name := range []string{"com.atproto.repo.getRecord", "com.example.n" + string(rune('a'+i%26)), strings.Repeat("x", i), "\"\n{}"} {
			hooks.Request(&xrpc.Request{NSID: syntax.NSID(name)}, i, time.Millisecond)
		}
	}
	if n := count(); n > 250 {
		t.Errorf("%d lines", n)
	}
}

// promtool runs Prometheus' checker, or skips the test.
func promtool(t *testing.T, stdin string, args ...string) {
	t.Helper()
	path, err := exec.LookPath("promtool")
	if err != nil {
		t.Skip("there is no promtool: it is in Debian's package prometheus")
	}
	cmd := exec.CommandContext(t.Context(), path, args...)
	cmd.Dir, cmd.Stdin = monitoring, strings.NewReader(stdin)
	if out, err := cmd.CombinedOutput(); err != nil {
		t.Errorf("promtool %s: %v\n%s", strings.Join(args, " "), err, out)
	}
}

// Names, units and help of metrics are as Prometheus recommends.
func TestPromtoolMetrics(t *testing.T) {
	promtool(t, scraped(t, func(*Server) {}), "check", "metrics")
}

// Alerts are valid, fire when they should, and not when they should not.
func TestPromtoolRules(t *testing.T) {
	promtool(t, "", "check", "rules", "alerts.yaml")
	promtool(t, "", "test", "rules", "alerts_test.yaml")
	promtool(t, "", "check", "rules", "relay-alerts.yaml")
	promtool(t, "", "test", "rules", "relay-alerts_test.yaml")
	promtool(t, "", "check", "config", "prometheus.yaml")
}

// ofFile reads a file of the folder.
func ofFile(t *testing.T, name string) string {
	t.Helper()
	text, err := os.ReadFile(filepath.Join(monitoring, name))
	if err != nil {
		t.Fatal(err)
	}
	return string(text)
}

var metricName = regexp.MustCompile(`\b(?:pds|process|go)_[a-z_]+[a-z]\b`)

// given are the names that a server gives.
func given(t *testing.T) map[string]bool {
	names := make(map[string]bool)
	for _, m := range regexp.MustCompile(`(?m)^# TYPE (\S+) (\S+)$`).FindAllStringSubmatch(scraped(t, func(*Server) {}), -1) {
		names[m[1]] = true
		if m[2] == "histogram" {
			names[m[1]+"_bucket"], names[m[1]+"_sum"], names[m[1]+"_count"] = true, true, true
		}
	}
	return names
}

// Alerts and dashboard ask for metrics that a server really gives; each alert has a runbook and a test
// of both outcomes, and stands in the README.
func TestAlertsAndDashboardUseWhatThereIs(t *testing.T) {
	names := given(t)
	alerts, tests, readme := ofFile(t, "alerts.yaml"), ofFile(t, "alerts_test.yaml"), ofFile(t, "README.md")
	for _, block := range strings.Split(alerts, "- alert: ")[1:] {
		name, rest, _ := strings.Cut(block, "\n")
		expr, notes, _ := strings.Cut(rest, "labels: {severity")
		for _, m := range metricName.FindAllString(expr, -1) {
			if !names[m] {
				t.Errorf("%s: the server has no %s", name, m)
			}
		}
		if !strings.Contains(notes, `runbook: "`) || !strings.Contains(notes, `summary: "`) {
			t.Errorf("%s has no summary or no runbook", name)
		}
		for _, want := range []string{`name: "` + name + `"`, `name: "` + name + `, not"`} {
			if !strings.Contains(tests, want) {
				t.Errorf("no test %s", want)
			}
		}
		if !strings.Contains(readme, "`"+name+"`") {
			t.Errorf("the README says nothing of %s", name)
		}
	}
	for _, e := range dashboard(t).expressions() {
		for _, m := range metricName.FindAllString(e, -1) {
			if !names[m] {
				t.Errorf("dashboard: the server has no %s", m)
			}
		}
	}
}

// Alerts of the relay ask for what its program gives, and have a test of both outcomes too.
func TestRelayAlerts(t *testing.T) {
	source, err := os.ReadFile("../../../relay/meters.go")
	if err != nil {
		t.Fatal(err)
	}
	alerts, tests := ofFile(t, "relay-alerts.yaml"), ofFile(t, "relay-alerts_test.yaml")
	for _, m := range regexp.MustCompile(`\brelay_[a-z_]+[a-z]\b`).FindAllString(alerts, -1) {
		if !strings.Contains(string(source), `"`+strings.TrimSuffix(m, "_bucket")+`"`) {
			t.Errorf("the relay has no %s", m)
		}
	}
	for _, block := range strings.Split(alerts, "- alert: ")[1:] {
		name, rest, _ := strings.Cut(block, "\n")
		if !strings.Contains(rest, `runbook: "`) || !strings.Contains(tests, `name: "`+name+`"`) || !strings.Contains(tests, `name: "`+name+`, not"`) {
			t.Errorf("%s has no runbook, or no tests", name)
		}
	}
}

// board is what is looked at of a dashboard of Grafana.
type board struct {
	Title         string
	UID           string
	SchemaVersion int
	Refresh       string
	Time          struct{ From, To string }
	Templating    struct {
		List []struct {
			Name, Type string
			Query      any
		}
	}
	Annotations struct{ List []struct{ Expr string } }
	Panels      []struct {
		ID          int
		Type, Title string
		Datasource  struct{ Type, UID string }
		GridPos     struct{ X, Y, W, H int }
		FieldConfig struct{ Defaults struct{ Unit string } }
		Targets     []struct{ RefID, Expr string }
	}
}

func dashboard(t *testing.T) (b board) {
	t.Helper()
	if err := json.Unmarshal([]byte(ofFile(t, "dashboard.json")), &b); err != nil {
		t.Fatal(err)
	}
	return b
}

// expressions are those of panels and annotations, with what Grafana puts in for its variables.
func (b board) expressions() (list []string) {
	fill := strings.NewReplacer("$__rate_interval", "2m", "$instance", ".*")
	for _, a := range b.Annotations.List {
		list = append(list, fill.Replace(a.Expr))
	}
	for _, p := range b.Panels {
		for _, x := range p.Targets {
			list = append(list, fill.Replace(x.Expr))
		}
	}
	return list
}

// The dashboard is as Grafana reads it: panels of known types with numbers of their own that do not
// overlap, of a data source that is chosen, and expressions that Prometheus parses.
func TestDashboard(t *testing.T) {
	b := dashboard(t)
	if b.Title == "" || len(b.UID) < 1 || len(b.UID) > 40 || b.SchemaVersion < 36 || b.Time.From == "" || b.Time.To == "" || len(b.Panels) < 20 {
		t.Errorf("%+v", b)
	}
	var vars []string
	for _, v := range b.Templating.List {
		vars = append(vars, v.Name+" "+v.Type)
	}
	if !slices.Equal(vars, []string{"datasource datasource", "instance query"}) {
		t.Errorf("variables: %v", vars)
	}
	ids, places := map[int]bool{}, map[[2]int]string{}
	for _, p := range b.Panels {
		if ids[p.ID] || p.ID < 1 || p.Title == "" || !slices.Contains([]string{"row", "stat", "timeseries"}, p.Type) {
			t.Errorf("panel %+v", p)
		}
		ids[p.ID] = true
		g := p.GridPos
		if g.W < 1 || g.H < 1 || g.X < 0 || g.X+g.W > 24 {
			t.Errorf("%s: %+v", p.Title, g)
		}
		for x := g.X; x < g.X+g.W; x++ {
			for y := g.Y; y < g.Y+g.H; y++ {
				if other := places[[2]int{x, y}]; other != "" {
					t.Fatalf("%s lies on %s", p.Title, other)
				}
				places[[2]int{x, y}] = p.Title
			}
		}
		if p.Type == "row" {
			continue
		}
		refs := map[string]bool{}
		for _, x := range p.Targets {
			if refs[x.RefID] || x.RefID == "" || x.Expr == "" {
				t.Errorf("%s: %+v", p.Title, x)
			}
			refs[x.RefID] = true
		}
		if len(refs) == 0 || p.Datasource.Type != "prometheus" || p.Datasource.UID != "${datasource}" || p.FieldConfig.Defaults.Unit == "" {
			t.Errorf("%s: %+v", p.Title, p)
		}
	}
	var rules strings.Builder
	rules.WriteString("groups:\n- name: dashboard\n  rules:\n")
	for _, e := range b.expressions() {
		quoted, _ := json.Marshal(e)
		rules.WriteString("  - record: x\n    expr: " + string(quoted) + "\n    labels: {n: \"" + strings.Repeat("i", len(rules.String())%97) + "\"}\n")
	}
	file := filepath.Join(t.TempDir(), "dashboard.yaml")
	if err := os.WriteFile(file, []byte(rules.String()), 0o600); err != nil {
		t.Fatal(err)
	}
	promtool(t, "", "check", "rules", "--lint=none", file)
}

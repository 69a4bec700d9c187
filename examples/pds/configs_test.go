package main_test

import (
	"os"
	"os/exec"
	"path/filepath"
	"regexp"
	"strings"
	"testing"
)

// Caddy takes the files in deploy.
func TestCaddyfiles(t *testing.T) {
	caddy, err := exec.LookPath("caddy")
	if err != nil {
		t.Skip("caddy is not installed")
	}
	for _, file := range []string{"deploy/Caddyfile", nodesDir + "Caddyfile"} {
		check := exec.Command(caddy, "validate", "--config", file, "--adapter", "caddyfile")
		check.Env = []string{
			"PATH=" + os.Getenv("PATH"), "HOME=" + t.TempDir(),
			"BALANCER_SITES=pds.example.com, *.pds.example.com", "BALANCER_NODES=pds1:2583 pds2:2583", "BALANCER_ASK=http://pds1:2583/tls-check",
		}
		if out, err := check.CombinedOutput(); err != nil {
			t.Errorf("%s: %v\n%s", file, err, out)
		}
	}
}

// nginx takes the file in deploy, but for its certificate and ports, which are not here.
func TestNginxConfiguration(t *testing.T) {
	nginx, err := exec.LookPath("nginx")
	if err != nil {
		if nginx, err = exec.LookPath("/usr/sbin/nginx"); err != nil {
			t.Skip("nginx is not installed")
		}
	}
	dir := t.TempDir()
	site := readFile(t, "deploy/nginx.conf")
	site = regexp.MustCompile(`(?m)^\s*ssl_certificate(_key)? .*\n`).ReplaceAllString(site, "")
	site = regexp.MustCompile(`(?m)^(\s*listen) .*?(443|80)( ssl http2)?;`).ReplaceAllStringFunc(site, func(line string) string {
		if strings.Contains(line, "[::]") {
			return ""
		}
		return "\tlisten unix:" + filepath.Join(dir, regexp.MustCompile(`\d+`).FindString(line)) + ";"
	})
	top := "pid " + dir + "/pid; error_log stderr; events {}\nhttp {\naccess_log off;\n"
	for _, kind := range []string{"client_body", "proxy", "fastcgi", "uwsgi", "scgi"} {
		top += kind + "_temp_path " + filepath.Join(dir, kind) + ";\n"
	}
	file := filepath.Join(dir, "nginx.conf")
	if err := os.WriteFile(file, []byte(top+site+"}\n"), 0o600); err != nil {
		t.Fatal(err)
	}
	if out, err := exec.Command(nginx, "-t", "-q", "-p", dir, "-c", file).CombinedOutput(); err != nil {
		t.Errorf("%v\n%s\n%s", err, out, site)
	}
}

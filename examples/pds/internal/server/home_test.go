package server

import (
	"context"
	"io"
	"log/slog"
	"net/http"
	"os"
	"os/exec"
	"strings"
	"testing"
)

// The first page of a development server says how to post, with commands that work, and shows what was
// posted as text.
func TestHome(t *testing.T) {
	s, err := Start(t.Context(), loaded(t, map[string]string{"PDS_DATA_DIRECTORY": t.TempDir(), "PDS_PORT": "0"}), slog.New(slog.DiscardHandler))
	if err != nil {
		t.Fatal(err)
	}
	defer s.Shutdown(context.Background())
	page := func() string {
		resp, err := http.Get(s.URL() + "/")
		if err != nil {
			t.Fatal(err)
		}
		defer resp.Body.Close()
		text, err := io.ReadAll(resp.Body)
		if err != nil || resp.StatusCode != http.StatusOK || !strings.Contains(resp.Header.Get("Content-Security-Policy"), "default-src 'none'") {
			t.Fatal(resp.Status, resp.Header, err)
		}
		return string(text)
	}
	if text := page(); !strings.Contains(text, "Nobody yet") || !strings.Contains(text, "createRecord") || !strings.Contains(text, "/account") {
		t.Error(text)
	}
	if _, err := exec.LookPath("curl"); err != nil {
		t.Skip("no curl")
	}
	script := "set -e\n"
	for _, c := range s.FirstCommands() {
		script += strings.ReplaceAll(c.Line, "Hello!", "Hello <b>world</b>") + "\n"
	}
	cmd := exec.Command("sh", "-c", script)
	cmd.Env = []string{"PATH=" + os.Getenv("PATH")}
	out, err := cmd.CombinedOutput()
	if err != nil || !strings.Contains(string(out), `"text":"Hello <b>world</b>"`) {
		t.Fatalf("%v\n%s", err, out)
	}
	if text := page(); !strings.Contains(text, "alice.test") || !strings.Contains(text, "Hello &lt;b&gt;world&lt;/b&gt;") || strings.Contains(text, "<b>world") {
		t.Error(text)
	}
}

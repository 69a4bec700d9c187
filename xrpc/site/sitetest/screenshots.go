package sitetest

import (
	"context"
	"io"
	"net/http"
	"net/http/httptest"
	"os"
	"os/exec"
	"path/filepath"
	"strings"
	"testing"
	"time"
)

// Shots says of what to make pictures.
type Shots struct {
	// Pages are the texts of pages by name. Each links to the style sheet, whose text is Style.
	Pages map[string]string
	Style string
	// Language is that of the pages; it is a part of the names of the files.
	Language string
}

// Wanted reports whether pictures of pages are wanted, and skips the test if not: the environment
// variable PDSKIT_SCREENSHOTS names the folder for them, PDSKIT_SCREENSHOTS_LANGUAGE the language
// that is returned. It needs a Chromium.
func Wanted(t *testing.T) (language string) {
	t.Helper()
	if _, err := exec.LookPath("chromium"); err != nil || os.Getenv("PDSKIT_SCREENSHOTS") == "" {
		t.Skip("PDSKIT_SCREENSHOTS names no folder, or there is no Chromium")
	}
	return os.Getenv("PDSKIT_SCREENSHOTS_LANGUAGE")
}

// Take writes pictures of all pages, in both schemes, for a small phone, a phone and a desk.
func (s Shots) Take(t *testing.T) {
	t.Helper()
	srv := httptest.NewServer(http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
		text, kind := s.Style, "text/css"
		if page, ok := s.Pages[strings.TrimPrefix(r.URL.Path, "/")]; ok {
			text, kind = page, "text/html"
		}
		w.Header().Set("Content-Type", kind+"; charset=utf-8")
		io.WriteString(w, text)
	}))
	defer srv.Close()
	for name := range s.Pages {
		for _, scheme := range []string{"light", "dark"} {
			for _, size := range []string{"320,1400", "360,1400", "1000,1200"} {
				s.one(t, srv.URL+"/"+name, name, scheme, size)
			}
		}
	}
}

func (s Shots) one(t *testing.T, url, name, scheme, size string) {
	t.Helper()
	ctx, cancel := context.WithTimeout(t.Context(), time.Minute)
	defer cancel()
	width, _, _ := strings.Cut(size, ",")
	file := filepath.Join(os.Getenv("PDSKIT_SCREENSHOTS"), strings.Join([]string{name, s.Language, scheme, width}, "-")+".png")
	args := []string{"--headless", "--no-sandbox", "--disable-gpu", "--hide-scrollbars", "--force-device-scale-factor=1", "--window-size=" + size, "--screenshot=" + file}
	if scheme == "dark" {
		args = append(args, "--blink-settings=preferredColorScheme=0")
	}
	if out, err := exec.CommandContext(ctx, "chromium", append(args, url)...).CombinedOutput(); err != nil {
		t.Fatalf("%v: %s", err, out)
	}
}

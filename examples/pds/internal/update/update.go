// Package update checks, at most once a day, whether there is a newer version of the program.
//
// It is off unless an operator turns it on. It sends only a request for a document that is the same
// for everybody: no version, no name, no cookie. The document is bounded, and is only shown.
package update

import (
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"io/fs"
	"log/slog"
	"net/http"
	"net/url"
	"os"
	"path/filepath"
	"regexp"
	"strconv"
	"strings"
	"time"

	"github.com/pdskit/pdskit/identity/safehttp"
	"github.com/pdskit/pdskit/internal/durablefile"
	"github.com/pdskit/pdskit/internal/exactjson"
	"github.com/pdskit/pdskit/internal/sleep"
)

// Feed is the project's own list of releases.
const Feed = "https://api.github.com/repos/pdskit/pdskit/releases/latest"

// File is the name of the file that notes what was found.
const File = "update.json"

// Bounds of what a feed may send.
const (
	maxFeed    = 256 << 10
	maxVersion = 64
	maxURL     = 300
	maxNote    = 8 << 10
	patience   = 10 * time.Second
	// Interval is the least time between two questions, whatever comes of them.
	Interval = 24 * time.Hour
)

// Note is what was found.
type Note struct {
	// Asked is when the feed was asked; zero: never.
	Asked time.Time `json:"asked,omitzero"`
	// Latest is the version that it named, and URL where it is to be had; empty: nothing yet.
	Latest string `json:"latest,omitempty"`
	URL    string `json:"url,omitempty"`
	// Problem is why there was no answer; empty: there was.
	Problem string `json:"problem,omitempty"`
}

// Checker asks. Feed, Dir and Version are required. Use it from one goroutine.
type Checker struct {
	// Feed is the address of a JSON document with the members "tag_name" and, if wanted,
	// "html_url".
	Feed string
	// Dir is the folder for the note.
	Dir string
	// Version is that of this program.
	Version string
	// HTTP makes the requests. Nil: a client that reads little and waits not long.
	HTTP *http.Client
	// Logger is told of a newer version. Nil: nobody is.
	Logger *slog.Logger
	// Now is the clock. Nil: time.Now.
	Now func() time.Time
}

// Read returns the note in a folder. The zero Note: there is none.
func Read(dir string) (n Note, err error) {
	f, err := os.Open(filepath.Join(dir, File))
	if errors.Is(err, fs.ErrNotExist) {
		return n, nil
	} else if err != nil {
		return n, err
	}
	defer f.Close()
	doc, err := io.ReadAll(io.LimitReader(f, maxNote))
	if err == nil {
		err = exactjson.UnmarshalPlain(doc, &n)
	}
	if err != nil {
		return Note{}, fmt.Errorf("%s: %w", f.Name(), err)
	}
	return n, nil
}

func (c *Checker) now() time.Time {
	if c.Now != nil {
		return c.Now()
	}
	return time.Now()
}

// Run asks when it is due, until the context ends. A restart does not ask again.
func (c *Checker) Run(ctx context.Context) {
	for sleep.For(ctx, c.Due()) == nil {
		c.Ask(ctx)
	}
}

// Due is the time until the next question. A note from the future, or one that cannot be read, is
// as one of now.
func (c *Checker) Due() time.Duration {
	n, err := Read(c.Dir)
	if err != nil {
		return Interval
	}
	return min(max(n.Asked.Add(Interval).Sub(c.now()), 0), Interval)
}

// Ask asks the feed and notes what it says.
func (c *Checker) Ask(ctx context.Context) Note {
	before, _ := Read(c.Dir)
	n := Note{Asked: c.now().UTC(), Latest: before.Latest, URL: before.URL}
	// Noted first: a program that ends here does not ask again at once.
	if err := c.write(n); err != nil {
		c.log().Warn("update: the note cannot be written, so the feed is not asked", "err", err)
		return n
	}
	latest, link, err := c.fetch(ctx)
	switch {
	case err != nil:
		n.Problem = line(err.Error())
	default:
		n.Latest, n.URL = latest, link
	}
	if err := c.write(n); err != nil {
		c.log().Warn("update: the note cannot be written", "err", err)
	}
	switch {
	case n.Problem != "":
		c.log().Info("update: the list of releases cannot be read", "feed", c.Feed, "problem", n.Problem)
	case n.Newer(c.Version):
		c.log().Info("update: there is a newer version", "latest", n.Latest, "this is", c.Version, "see", n.URL)
	}
	return n
}

func (c *Checker) log() *slog.Logger {
	if c.Logger == nil {
		return slog.New(slog.DiscardHandler)
	}
	return c.Logger
}

func (c *Checker) write(n Note) error {
	doc, err := json.Marshal(n)
	if err != nil {
		return err
	}
	return durablefile.Write(filepath.Join(c.Dir, File), append(doc, '\n'))
}

// fetch reads the feed.
func (c *Checker) fetch(ctx context.Context) (version, link string, err error) {
	ctx, cancel := context.WithTimeout(ctx, patience)
	defer cancel()
	req, err := http.NewRequestWithContext(ctx, http.MethodGet, c.Feed, nil)
	if err != nil {
		return "", "", err
	}
	req.Header.Set("User-Agent", "pdskit") // the same for all
	req.Header.Set("Accept", "application/json")
	client := c.HTTP
	if client == nil { // the operator has named the address, which may be a private one
		client = safehttp.NewClient(safehttp.Config{AllowPrivate: true, AllowHTTP: strings.HasPrefix(c.Feed, "http:"), MaxBody: maxFeed, MaxRedirects: 2, Timeout: patience})
	}
	resp, err := client.Do(req)
	var u *url.Error
	if errors.As(err, &u) {
		err = u.Err
	}
	if err != nil {
		return "", "", err
	}
	defer resp.Body.Close()
	if resp.StatusCode != http.StatusOK {
		return "", "", fmt.Errorf("status %d", resp.StatusCode)
	}
	doc, err := io.ReadAll(io.LimitReader(resp.Body, maxFeed+1))
	if err != nil {
		return "", "", err
	}
	if len(doc) > maxFeed {
		return "", "", errors.New("the document is too long")
	}
	return parse(doc)
}

var errNoVersion = errors.New("the document has no tag_name like v1.2.3")

// parse finds version and address in a document.
func parse(doc []byte) (version, link string, err error) {
	var x struct {
		Tag string `json:"tag_name"`
		URL string `json:"html_url"`
	}
	if err := exactjson.UnmarshalAnswer(doc, &x); err != nil {
		return "", "", errNoVersion
	}
	version = strings.TrimPrefix(x.Tag, "v")
	if _, ok := numbers(version); !ok {
		return "", "", errNoVersion
	}
	if u, err := url.Parse(x.URL); err == nil && u.Scheme == "https" && u.Host != "" && u.User == nil && len(x.URL) <= maxURL && line(x.URL) == x.URL && !strings.Contains(x.URL, " ") {
		link = x.URL
	}
	return version, link, nil
}

var semver = regexp.MustCompile(`^(\d{1,6})\.(\d{1,6})\.(\d{1,6})(-[0-9A-Za-z.-]+)?(\+[0-9A-Za-z.-]+)?$`)

// order is a version that can be compared. An earlier one has a name that stands before.
type order struct {
	n   [3]int
	pre string // empty: a release
}

func numbers(version string) (o order, ok bool) {
	m := semver.FindStringSubmatch(version)
	if m == nil || len(version) > maxVersion {
		return o, false
	}
	for i := range o.n {
		o.n[i], _ = strconv.Atoi(m[i+1])
	}
	o.pre = m[4]
	return o, true
}

// Newer reports whether the latest version is newer than another one. What is not a version is not
// newer, and not older either.
func (n Note) Newer(than string) bool {
	a, ok1 := numbers(n.Latest)
	b, ok2 := numbers(than)
	if !ok1 || !ok2 {
		return false
	}
	for i := range a.n {
		if a.n[i] != b.n[i] {
			return a.n[i] > b.n[i]
		}
	}
	return a.pre == "" && b.pre != "" // what comes before a release is not compared with its like
}

// line is a text on one line, of bounded length.
func line(s string) string {
	if len(s) > maxURL {
		s = s[:maxURL]
	}
	return strings.Map(func(r rune) rune {
		if r < ' ' || r == 0x7f || r >= '\u2028' && r <= '\u202e' || r >= '\u2066' && r <= '\u2069' {
			return ' '
		}
		return r
	}, strings.ToValidUTF8(s, ""))
}

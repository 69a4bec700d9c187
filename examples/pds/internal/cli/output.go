package cli

import (
	"encoding/json"
	"fmt"
	"io"
	"os"
	"strings"
	"text/tabwriter"
	"time"
)

// result writes the result of a command: v as JSON, or text.
func (c *call) result(v any, text string, args ...any) error {
	if c.json {
		return c.writeJSON(v)
	}
	_, err := fmt.Fprintf(c.Stdout, text+"\n", args...)
	return err
}

func (c *call) writeJSON(v any) error {
	e := json.NewEncoder(c.Stdout)
	e.SetEscapeHTML(false)
	e.SetIndent("", "  ")
	return e.Encode(v)
}

// table writes rows under headings.
func (c *call) table(headings string, rows [][]string) error {
	w := tabwriter.NewWriter(c.Stdout, 0, 0, 2, ' ', 0)
	fmt.Fprintln(w, strings.ReplaceAll(headings, " ", "\t"))
	for _, row := range rows {
		fmt.Fprintln(w, strings.Join(row, "\t"))
	}
	return w.Flush()
}

// progress shows how far a long command is: in place on a terminal, and as a line
// from time to time elsewhere.
type progress struct {
	w        io.Writer // nil: silent
	terminal bool
	what     string
	next     time.Time
	shown    bool
}

func (c *call) progress(what string) *progress {
	p := &progress{what: what, next: time.Now().Add(time.Second)}
	if !c.quiet {
		p.w = c.Stderr
		f, ok := c.Stderr.(*os.File)
		if ok {
			info, err := f.Stat()
			p.terminal = err == nil && info.Mode()&os.ModeCharDevice != 0
		}
	}
	return p
}

// at is called with how many things are done, as often as one likes.
func (p *progress) at(n int) {
	now := time.Now()
	if p.w == nil || now.Before(p.next) {
		return
	}
	p.shown = true
	if p.terminal {
		p.next = now.Add(time.Second / 5)
		fmt.Fprintf(p.w, "\r%s: %d ", p.what, n)
	} else {
		p.next = now.Add(10 * time.Second)
		fmt.Fprintf(p.w, "%s: %d\n", p.what, n)
	}
}

// done ends the line.
func (p *progress) done() {
	if p.shown && p.terminal {
		fmt.Fprintln(p.w)
	}
}

// bytes writes a size for people.
func bytes64(n int64) string {
	switch {
	case n >= 10<<30:
		return fmt.Sprintf("%d GiB", n>>30)
	case n >= 10<<20:
		return fmt.Sprintf("%d MiB", n>>20)
	case n >= 10<<10:
		return fmt.Sprintf("%d KiB", n>>10)
	}
	return fmt.Sprintf("%d bytes", n)
}

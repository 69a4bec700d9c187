package site

import (
	"cmp"
	_ "embed"
	"fmt"
	"math"
	"net/url"
	"strconv"
	"strings"
)

// Brand is the look of the pages, and the name of their operator. The zero value works.
type Brand struct {
	// Name is the name of the service. Empty: the host of the site.
	Name string
	// Logo is the URL of a picture, or a path on this server.
	Logo string
	// Accent is the colour of buttons, "#1d4ed8". The colour of their text follows from it.
	Accent string
	// Home, Terms, Privacy and Support are URLs of pages; Support may be a mailto: URL. Empty ones
	// are omitted.
	Home, Terms, Privacy, Support string
}

//go:embed style.css
var styleSheet string

// look is what follows of a brand.
type look struct {
	style, stylePath string
	logoOrigin       string // empty: our own
}

const defaultAccent = "#1d4ed8"

// Validate returns an error that names what is wrong.
func (b Brand) Validate() error {
	for name, s := range map[string]string{"Home": b.Home, "Terms": b.Terms, "Privacy": b.Privacy, "Support": b.Support, "Logo": b.Logo} {
		if s == "" {
			continue
		}
		u, err := url.Parse(s)
		web := err == nil && (u.Scheme == "https" || u.Scheme == "http") && u.Host != ""
		own := err == nil && u.Scheme == "" && u.Host == "" && strings.HasPrefix(u.Path, "/")
		if !web && !own && !(name == "Support" && err == nil && u.Scheme == "mailto") {
			return fmt.Errorf("site: Brand.%s must be an address that begins with https://, or a path: %q", name, s)
		}
	}
	if _, ok := parseColour(b.Accent); !ok && b.Accent != "" {
		return fmt.Errorf("site: Brand.Accent must be a colour as #1d4ed8: %q", b.Accent)
	}
	return nil
}

// newLook returns the look of a brand that was validated.
func newLook(b Brand) look {
	accent := cmp.Or(b.Accent, defaultAccent)
	rgb, _ := parseColour(accent)
	text := "#ffffff"
	if contrast(rgb, [3]float64{1, 1, 1}) < contrast(rgb, [3]float64{}) {
		text = "#000000"
	}
	l := look{style: styleSheet + fmt.Sprintf("\n:root{--accent:%s;--on-accent:%s}\n", accent, text), logoOrigin: OriginOf(b.Logo)}
	l.stylePath = "/site/" + Hash(l.style)[:16] + ".css"
	return l
}

// StyleSheet returns the style sheet of a brand, for pages with the same look that do not use this
// package. The brand must be valid.
func StyleSheet(b Brand) string { return newLook(b).style }

// parseColour reads a colour. Its parts are between 0 and 1.
func parseColour(s string) (rgb [3]float64, ok bool) {
	if len(s) != 7 || s[0] != '#' {
		return rgb, false
	}
	for i := range rgb {
		n, err := strconv.ParseUint(s[1+2*i:3+2*i], 16, 8)
		if err != nil {
			return rgb, false
		}
		rgb[i] = float64(n) / 255
	}
	return rgb, true
}

// contrast is the contrast ratio of two colours (WCAG 2, 1.4.3).
func contrast(a, b [3]float64) float64 {
	light := func(c [3]float64) float64 {
		for i, x := range c {
			if x <= 0.04045 {
				c[i] = x / 12.92
			} else {
				c[i] = math.Pow((x+0.055)/1.055, 2.4)
			}
		}
		return 0.2126*c[0] + 0.7152*c[1] + 0.0722*c[2]
	}
	x, y := light(a), light(b)
	return (max(x, y) + 0.05) / (min(x, y) + 0.05)
}

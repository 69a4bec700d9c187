package site

import (
	"regexp"
	"testing"
)

// The colours of the style sheet have the contrast that WCAG 2 AA asks for, in both schemes.
func TestContrast(t *testing.T) {
	for i, block := range regexp.MustCompile(`:root\{[^}]*\}`).FindAllString(styleSheet, -1) {
		c := make(map[string][3]float64)
		for _, m := range regexp.MustCompile(`--([a-z-]+):(#[0-9a-f]{6})`).FindAllStringSubmatch(block, -1) {
			c[m[1]], _ = parseColour(m[2])
		}
		for _, x := range []struct {
			text, on string
			least    float64
		}{
			{"text", "bg", 4.5}, {"text", "card", 4.5}, {"soft", "card", 4.5}, {"soft", "bg", 4.5}, {"link", "card", 4.5}, {"link", "bg", 4.5}, {"bad", "card", 4.5},
			{"bad", "bad-bg", 4.5}, {"warn", "warn-bg", 4.5}, {"good", "card", 4.5}, {"line", "card", 3}, {"line", "bg", 3},
		} {
			if got := contrast(c[x.text], c[x.on]); got < x.least {
				t.Errorf("scheme %d: %s on %s has %.2f, less than %.1f", i, x.text, x.on, got, x.least)
			}
		}
	}
	for _, accent := range []string{"#000000", "#ffffff", "#1d4ed8", "#ffcc00", "#808080", "#ff0000"} {
		l := newLook(Brand{Accent: accent})
		on := regexp.MustCompile(`--on-accent:(#[0-9a-f]{6})`).FindStringSubmatch(l.style)
		a, _ := parseColour(accent)
		b, _ := parseColour(on[1])
		if got := contrast(a, b); got < 4.5 {
			t.Errorf("%s: %.2f", accent, got)
		}
	}
}

func TestBrandMisuse(t *testing.T) {
	for _, b := range []Brand{
		{Accent: "red"}, {Accent: "#12345"}, {Accent: "#12345g"}, {Accent: "#+12345"}, {Accent: "#fff}a{b"}, {Logo: "javascript:x"}, {Terms: "example.com"},
		{Home: "mailto:x@example.com"}, {Privacy: "//example.com/x"}, {Support: "data:text/html,x"},
	} {
		if err := b.Validate(); err == nil {
			t.Errorf("%+v is taken", b)
		}
	}
	for _, b := range []Brand{{}, {Accent: "#1D4ed8"}, {Logo: "/logo.svg", Support: "mailto:help@example.com", Terms: "https://example.com/terms"}} {
		if err := b.Validate(); err != nil {
			t.Error(err)
		}
	}
}

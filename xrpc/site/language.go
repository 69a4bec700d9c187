package site

import (
	"cmp"
	"fmt"
	"maps"
	"slices"
	"strconv"
	"strings"
)

// Language is a language of a set.
type Language struct {
	// Tag is the language as HTML names it. Name is its name in the language itself.
	Tag, Name string
	messages  map[string]string
}

// parseMessages reads a file of messages: lines "key = text". Lines that begin with # are comments.
func parseMessages(text string) (map[string]string, error) {
	out := make(map[string]string)
	for i, line := range strings.Split(text, "\n") {
		if line = strings.TrimSpace(line); line == "" || line[0] == '#' {
			continue
		}
		key, message, ok := strings.Cut(line, " = ")
		if !ok {
			return nil, fmt.Errorf("line %d has no \" = \"", i+1)
		}
		if _, twice := out[key]; twice {
			return nil, fmt.Errorf("line %d: %s is there twice", i+1, key)
		}
		out[key] = message
	}
	return out, nil
}

// Message returns the message of a key, or the key if there is none. args are the names and values
// of its placeholders: "{name}".
func (l Language) Message(key string, args ...any) string {
	text, ok := l.messages[key]
	if !ok {
		return key
	}
	pairs := make([]string, 0, len(args))
	for i := 0; i+1 < len(args); i += 2 {
		pairs = append(pairs, "{"+fmt.Sprint(args[i])+"}", fmt.Sprint(args[i+1]))
	}
	return strings.NewReplacer(pairs...).Replace(text)
}

// Has reports whether there is a message for a key.
func (l Language) Has(key string) bool { _, ok := l.messages[key]; return ok }

// Keys returns the keys of all messages, sorted.
func (l Language) Keys() []string { return slices.Sorted(maps.Keys(l.messages)) }

// Language returns the first preferred language (see [Wishes]) that the set has, or English.
func (s *Set) Language(locales, accept string) Language {
	for _, tag := range Wishes(locales, accept) {
		primary, _, _ := strings.Cut(strings.ToLower(tag), "-")
		if i := slices.IndexFunc(s.languages(), func(l Language) bool { return l.Tag == primary }); i >= 0 {
			return s.languages()[i]
		}
	}
	return s.languages()[0]
}

// Wishes returns the user's preferred languages in descending order: locales, which are language
// tags (BCP 47) separated by spaces, and then those of the browser (Accept-Language).
func Wishes(locales, accept string) (tags []string) {
	tags = strings.Fields(Short(locales, 400))
	type wish struct {
		tag string
		q   float64
	}
	var wishes []wish
	for part := range strings.SplitSeq(Short(accept, 400), ",") {
		tag, params, _ := strings.Cut(strings.TrimSpace(part), ";")
		q := 1.0
		if v, ok := strings.CutPrefix(strings.TrimSpace(params), "q="); ok {
			q, _ = strconv.ParseFloat(v, 64)
		}
		if tag = strings.TrimSpace(tag); q > 0 && tag != "" && tag != "*" {
			wishes = append(wishes, wish{tag, q})
		}
	}
	slices.SortStableFunc(wishes, func(a, b wish) int { return cmp.Compare(b.q, a.q) })
	for _, x := range wishes {
		tags = append(tags, x.tag)
	}
	return tags
}

package pages

import (
	"embed"
	"fmt"
	"slices"
	"strconv"
	"strings"
)

//go:embed messages/*.txt
var messageFiles embed.FS

// language is a language of the pages.
type language struct {
	// Tag is the language as HTML names it, Name as its speakers do.
	Tag, Name string
	messages  map[string]string
}

// languages are those that there are; the first one is that of browsers that want none of them.
var languages = readLanguages("en", "de", "fr", "es", "ja", "pt")

func readLanguages(tags ...string) (list []language) {
	for _, tag := range tags {
		text, err := messageFiles.ReadFile("messages/" + tag + ".txt")
		if err != nil {
			panic(err) // cannot be: it is embedded
		}
		messages, err := parseMessages(string(text))
		if err != nil {
			panic("pages: messages/" + tag + ".txt: " + err.Error())
		}
		list = append(list, language{Tag: tag, Name: messages["language"], messages: messages})
	}
	return list
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

// message returns a message. The arguments are the names and values of its placeholders: "{name}".
func (l language) message(key string, args ...any) string {
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

// chooseLanguage chooses by what an app has asked for (ui_locales), and then by what the browser
// accepts.
func chooseLanguage(locales, accept string) language {
	for tag := range strings.FieldsSeq(short(locales, 400)) {
		if l, ok := findLanguage(tag); ok {
			return l
		}
	}
	type wish struct {
		tag string
		q   float64
	}
	var wishes []wish
	for part := range strings.SplitSeq(short(accept, 400), ",") {
		tag, params, _ := strings.Cut(strings.TrimSpace(part), ";")
		q := 1.0
		if v, ok := strings.CutPrefix(strings.TrimSpace(params), "q="); ok {
			q, _ = strconv.ParseFloat(v, 64)
		}
		if q > 0 {
			wishes = append(wishes, wish{strings.TrimSpace(tag), q})
		}
	}
	slices.SortStableFunc(wishes, func(a, b wish) int {
		switch {
		case a.q > b.q:
			return -1
		case a.q < b.q:
			return 1
		}
		return 0
	})
	for _, x := range wishes {
		if l, ok := findLanguage(x.tag); ok {
			return l
		}
	}
	return languages[0]
}

func findLanguage(tag string) (language, bool) {
	primary, _, _ := strings.Cut(strings.ToLower(tag), "-")
	i := slices.IndexFunc(languages, func(l language) bool { return l.Tag == primary })
	if i < 0 {
		return language{}, false
	}
	return languages[i], true
}

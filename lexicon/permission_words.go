package lexicon

import (
	"maps"
	"slices"
	"strings"
)

// Words is a text with its language (BCP 47), if known.
type Words struct{ Text, Lang string }

// Words returns the title and the description of a set, each in the first of the languages (BCP 47,
// in descending order of preference) that it has. A text without a language counts as English, and
// is the fallback. Both may be empty. They are the words of the set's publisher: Grants says what
// the set really grants.
func (s *PermissionSet) Words(languages []string) (title, detail Words) {
	return words(s.Title, s.TitleLang, languages), words(s.Detail, s.DetailLang, languages)
}

func words(usual string, by map[string]string, languages []string) Words {
	tags := slices.Sorted(maps.Keys(by))
	for _, wish := range languages {
		if tag, ok := lookUp(wish, tags); ok {
			return Words{by[tag], tag}
		}
		if primary(wish) == "en" && usual != "" {
			return Words{Text: usual}
		}
	}
	if usual == "" && len(tags) > 0 {
		return Words{by[tags[0]], tags[0]}
	}
	return Words{Text: usual}
}

// lookUp finds a language (RFC 4647, 3.4): as it is wished, or with fewer and fewer subtags, or one
// with other subtags.
func lookUp(wish string, tags []string) (string, bool) {
	for rest := wish; rest != ""; {
		if i := slices.IndexFunc(tags, func(tag string) bool { return strings.EqualFold(tag, rest) }); i >= 0 {
			return tags[i], true
		}
		rest = rest[:max(strings.LastIndexByte(rest, '-'), 0)]
	}
	i := slices.IndexFunc(tags, func(tag string) bool { return primary(tag) == primary(wish) })
	if i < 0 {
		return "", false
	}
	return tags[i], true
}

func primary(tag string) string {
	p, _, _ := strings.Cut(strings.ToLower(tag), "-")
	return p
}
